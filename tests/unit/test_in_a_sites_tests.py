"""The app in the tests of a site, where ``TestCase`` never commits and runs callbacks itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import TestCase as PlainTestCase
from unittest import mock

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.test import TestCase, TransactionTestCase, override_settings
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.models import Segment
from bunce_sync.publisher import BURST, publisher
from bunce_sync.testing import running_bunce
from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.local_bunce import LocalBunce
from tests.neighbours.models import Tracked, Vip

from .core import Status, configure


@pytest.fixture
def eager(bunce: Emulator, settings: Settings, request: pytest.FixtureRequest) -> Iterator[None]:
    """Run tasks eagerly, as sites do in tests."""
    configure(settings, RATE_LIMIT=None)
    publisher.reset()
    request.instance.bunce = bunce
    current_app.conf.task_always_eager = True
    yield
    current_app.conf.task_always_eager = False
    publisher.reset()


@pytest.mark.usefixtures("eager")
class CapturedCommits(TestCase):
    """Each commit is captured separately; earlier callbacks stay registered and never run."""

    bunce: Emulator

    def test_an_edit_in_a_second_capture_is_pushed(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            row = Segment.objects.create(name="VIP")
        row.refresh_from_db()
        assert row.status == Status.SYNCED
        row.name = "Edited"
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            row.save()
        assert len(callbacks) == 1
        row.refresh_from_db()
        assert row.status == Status.SYNCED
        assert [segment.name for segment in self.bunce.segments] == ["Edited"]

    def test_a_save_that_changes_nothing_pushes_nothing(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            row = Segment.objects.create(name="VIP")
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            Segment.objects.get(pk=row.pk).save()
        assert callbacks == []

    def test_proxies_and_subclasses_are_pushed(self) -> None:
        for model in (Tracked, Vip):
            with self.captureOnCommitCallbacks(execute=True):
                row = model.objects.create(name=model.__name__)
            row.refresh_from_db()
            assert row.status == Status.SYNCED


@pytest.mark.usefixtures("eager")
class ManyRowsBefore(TestCase):
    """Rows created in ``setUp``, whose callbacks never run."""

    bunce: Emulator

    def setUp(self) -> None:
        for number in range(BURST + 5):
            Segment.objects.create(name=f"Before {number}")

    def test_one_more_row_is_pushed(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            row = Segment.objects.create(name="VIP")
        assert len(callbacks) == 1
        row.refresh_from_db()
        assert row.status == Status.SYNCED


@pytest.mark.usefixtures("eager")
class RealCommits(TransactionTestCase):
    """Commits outside the control of the test."""

    bunce: Emulator

    def test_each_save_is_pushed_at_once(self) -> None:
        for number in range(BURST + 5):
            row = Segment.objects.create(name=f"Segment {number}")
            row.refresh_from_db()
            assert row.status == Status.SYNCED
        row.description = "Edited"
        row.save()
        row.refresh_from_db()
        assert (row.status, row.bunce_description) == (Status.SYNCED, "Edited")


# The local Bunce, and work() in place of the workers


ROOT = Path(__file__).resolve().parents[2]


class LocalBunceTests:
    """What holds in each kind of test case."""

    bunce: LocalBunce

    def setUp(self) -> None:
        self.bunce = self.enterContext(running_bunce())  # type: ignore[attr-defined]

    def test_work_sends_creates_and_edits(self) -> None:
        row = Segment.objects.create(name="VIP")
        self.bunce.work()
        row.refresh_from_db()
        assert (row.status, row.bunce_id) == (Status.SYNCED, self.bunce.segments[0].id)
        row.name = "Edited"
        row.save()
        self.bunce.work()
        assert [segment.name for segment in self.bunce.segments] == ["Edited"]

    def test_work_does_the_other_kinds_of_work_too(self) -> None:
        row = Segment.objects.create(name="VIP")
        self.bunce.work()
        services.refresh(Segment.objects.all())
        self.bunce.work()
        row.refresh_from_db()
        assert row.refresh_requested_at is None
        assert [request.method for request in self.bunce.requests] == ["POST", "GET"]

    def test_work_leaves_what_is_not_due(self) -> None:
        self.bunce.script(["reset_before", "bad_request"])
        doubtful = Segment.objects.create(name="In doubt")
        self.bunce.work()
        refused = Segment.objects.create(name="Refused")
        self.bunce.work()
        for row, status in ((doubtful, Status.IN_DOUBT), (refused, Status.REJECTED)):
            row.refresh_from_db()
            assert row.status == status
        assert len(self.bunce.requests) == 2

    def test_with_nothing_to_do_work_makes_no_request(self) -> None:
        self.bunce.work()
        assert self.bunce.requests == []


class InTestCase(LocalBunceTests, TestCase):
    """A transaction that is rolled back."""


class InTransactionTestCase(LocalBunceTests, TransactionTestCase):
    """Real commits."""


class InEagerTestCase(LocalBunceTests, TransactionTestCase):
    """Real commits, after which tasks run at once."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(setattr, current_app.conf, "task_always_eager", False)
        current_app.conf.task_always_eager = True


class WithoutDatabase(PlainTestCase):
    """The settings, which ``unittest`` alone can check."""

    def test_the_settings_point_to_bunce_and_are_restored(self) -> None:
        before = dict(django_settings.BUNCE_SYNC)
        with running_bunce(unique_names=True) as bunce:
            assert bunce.options.unique_names
            changed = {"BASE_URL": bunce.base_url, "API_KEY": mock.ANY, "RATE_LIMIT": None}
            during = dict(django_settings.BUNCE_SYNC)
            assert during == {**before, **changed}
        after = dict(django_settings.BUNCE_SYNC)
        assert after == before

    def test_work_refuses_to_send_elsewhere(self) -> None:
        message = r"nothing was sent.*settings\.BUNCE_SYNC"
        replaced = override_settings(BUNCE_SYNC={"API_KEY": "sk_live_x"})
        with running_bunce() as bunce, replaced, pytest.raises(RuntimeError, match=message):
            bunce.work()


@pytest.mark.django_db
def test_the_fixture_sends_more_than_a_minute_allows_in_production() -> None:
    Segment.objects.bulk_create(Segment(name=f"Segment {number}") for number in range(510))
    with running_bunce() as bunce:
        bunce.work()
        assert len(bunce.segments) == 510


def test_without_the_extra_it_is_imported_and_says_what_to_install() -> None:
    program = """
import sys
sys.modules.update(h11=None, pytest=None)
from bunce_sync.testing import running_bunce
from django.conf import settings
settings.configure()
try:
    with running_bunce():
        pass
except ImportError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "pip install 'django-bunce-sync[testing]'" in ran.stdout
