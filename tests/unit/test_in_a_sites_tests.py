"""The app in the tests of a site, where ``TestCase`` never commits and runs callbacks itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import current_app
from django.test import TestCase, TransactionTestCase
from pytest_django import Settings

from bunce_sync.models import Segment
from bunce_sync.publisher import BURST, publisher
from bunce_sync.testing.emulator import Emulator
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
