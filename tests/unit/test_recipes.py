"""The code in the chapters on imports, differences and holds does what the text promises."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from pytest_django import Settings

from bunce_sync.log_entries import log_for_all
from bunce_sync.models import PushHold, Segment
from bunce_sync.services import request_import
from bunce_sync.signals import segment_changed_in_bunce
from bunce_sync.status import messages
from bunce_sync.testing.local_bunce import LocalBunce
from tests.neighbours.models import Campaign

from .core import Status
from .test_docs import ROOT, code

pytestmark = pytest.mark.django_db(transaction=True)

DOCS: Path = ROOT / "docs"


def block(page: str, text: str) -> str:
    """Return the one block of Python on a page that contains a text."""
    [found] = [one for one in code(DOCS / page, "python") if text in one]
    return found


def run(source: str, **names: Any) -> dict[str, Any]:
    """Run code of the documentation; return what it defines."""
    exec(compile(source, "docs", "exec"), names)  # noqa: S102 - of our own pages
    return names


def import_all(bunce: LocalBunce) -> None:
    request_import(by="a test")
    bunce.work()


def test_a_mail_tells_what_was_changed_in_bunce(
    bunce: LocalBunce, settings: Settings, mailoutbox: list[Any]
) -> None:
    settings.MANAGERS = [("Ann", "ann@example.com")]
    segment = Segment.objects.create(name="VIP")
    bunce.work()
    segment.refresh_from_db()
    receiver = run(block("drift.md", "mail_managers"))["mail_change"]
    try:
        bunce.change_segment(str(segment.bunce_id), name="Very\nimportant")
        import_all(bunce)
        import_all(bunce)
    finally:
        segment_changed_in_bunce.disconnect(receiver, sender=Segment)

    [mail] = mailoutbox
    assert str(segment.pk) in mail.subject
    assert "VIP" in mail.body
    assert "Very\nimportant" in mail.body


def test_the_command_links_the_rows_of_another_table(
    bunce: LocalBunce, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = bunce.add_segment("VIP", description="Our best customers")

    group = SimpleNamespace(bunce_id=known.id, title="VIP", notes="Our best customers")
    rows = Mock()
    rows.objects.exclude.return_value.iterator.return_value = [group]
    for name in ("mysite", "mysite.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["mysite.models"], "CustomerGroup", rows, raising=False)
    command: BaseCommand = run(block("import.md", "class Command"), __name__="link")["Command"]()
    command.handle()
    command.handle()
    bunce.work()

    [row] = Segment.objects.all()
    assert (row.status, row.bunce_id, row.problem_code) == (Status.SYNCED, known.id, "")
    assert {request.method for request in bunce.requests} == {"GET"}


def test_an_imported_row_gets_the_other_half_of_the_sites_model(bunce: LocalBunce) -> None:
    bunce.add_segment("VIP", description="Our best customers")
    import_all(bunce)
    segment = Segment.objects.get()

    run(block("import.md", "segment_ptr"), Campaign=Campaign, segment=segment)
    requests = len(bunce.requests)
    bunce.work()

    campaign = Campaign.objects.get()
    assert (campaign.name, campaign.bunce_id) == ("VIP", segment.bunce_id)
    assert campaign.status == Status.SYNCED
    assert len(bunce.requests) == requests


def test_a_load_is_sent_when_its_block_ends(bunce: LocalBunce) -> None:
    load = block("recipes.md", "no_push")
    assert "10_000" in load
    run(load.replace("10_000", "20"))

    assert bunce.requests == []
    assert not PushHold.objects.exists()
    bunce.work()
    assert len(bunce.segments) == 20


def test_a_block_of_code_holds_what_it_saves(bunce: LocalBunce) -> None:
    hint = "# nothing has been sent so far"
    source = block("pause.md", hint)
    look = "bunce.work(); sent = list(bunce.segments)"

    assert run(source.replace(hint, look), bunce=bunce)["sent"] == []
    bunce.work()
    assert len(bunce.segments) == 2


def test_the_admins_log_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    user = User.objects.create_user("ann")
    log_for_all(user, messages.PAUSED_FOR, reason="a wrong bulk edit")
    run(block("recipes.md", "LogEntry"))
    assert "ann" in (printed := capsys.readouterr().out)
    assert "a wrong bulk edit" in printed
