"""Orders of events that end with two segments for one row, or with a link that was missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from bunce_sync import services, signals
from bunce_sync.conf import conf
from bunce_sync.models import Segment
from bunce_sync.sync import push
from bunce_sync.sync.sweep import run_once
from bunce_sync.testing.emulator import Faults
from bunce_sync.testing.local_bunce import LocalBunce
from tests.unit.core import Status, configure, drain, fresh, let_time_pass
from tests.unit.test_rehome import (  # noqa: F401 - fixtures
    _second_server,
    live,
    moved,
    use_live,
    use_sandbox,
)

pytestmark = pytest.mark.django_db(transaction=True)


def forth_and_back(use_sandbox: Any, use_live: Callable[[], None]) -> None:  # noqa: F811
    """Move all rows to the sandbox, then back to live."""
    here = conf.environment
    use_sandbox()
    moved(here)
    drain()
    sandbox = conf.environment
    use_live()
    moved(sandbox)
    drain()


@pytest.mark.parametrize("how", ["imported", "linked", "adopted"])
def test_a_row_that_was_not_created_by_us_goes_back(
    how: str,
    live: LocalBunce,  # noqa: F811
    use_live: Callable[[], None],  # noqa: F811
    use_sandbox: Any,  # noqa: F811
) -> None:
    there = live.add_segment("VIP")
    if how == "linked":
        Segment.objects.link(there.id, name="VIP")
    else:
        if how == "adopted":
            Segment.objects.create(name="VIP")
        services.request_import(adopt=how == "adopted")
    live.work()
    forth_and_back(use_sandbox, use_live)
    assert [one.id for one in live.segments] == [there.id]


def test_an_import_before_the_move_back_makes_no_second_segment(
    live: LocalBunce,  # noqa: F811
    use_live: Callable[[], None],  # noqa: F811
    use_sandbox: Any,  # noqa: F811
) -> None:
    Segment.objects.create(name="VIP")
    drain()
    here = conf.environment
    use_sandbox()
    moved(here)
    drain()
    sandbox = conf.environment
    use_live()
    services.request_import()  # IMPORT_INTERVAL does this by itself
    live.work()
    moved(sandbox)
    drain()
    assert len(live.segments) == 1


def test_a_create_in_doubt_that_goes_back_is_looked_up(
    live: LocalBunce,  # noqa: F811
    use_live: Callable[[], None],  # noqa: F811
    use_sandbox: Any,  # noqa: F811
) -> None:
    live.script(["lost_answer"])
    row = Segment.objects.create(name="VIP")
    push.push(row.pk)
    assert fresh(row).status == Status.IN_DOUBT
    here = conf.environment
    use_sandbox()
    moved(here)
    for _ in range(2):
        let_time_pass(1000)
        run_once(seconds=5)
    sandbox = conf.environment
    use_live()
    moved(sandbox)
    for _ in range(2):
        let_time_pass(1000)
        run_once(seconds=5)
    assert len(live.segments) == 1


@pytest.mark.parametrize("here", ["caf\u0065\u0301", "caf\u00e9 ", "\ncaf\u00e9"])
def test_names_are_linked_in_any_form(here: str, bunce: LocalBunce) -> None:
    bunce.add_segment("caf\u00e9")
    Segment.objects.bulk_create([Segment(name=here)])
    services.request_import(adopt=True)
    bunce.work()
    assert (len(bunce.segments), Segment.objects.count()) == (1, 1)


def test_many_rows_of_one_name_are_all_compared(bunce: LocalBunce) -> None:
    rows = [Segment(name="VIP", description=str(number)) for number in range(60)]
    Segment.objects.bulk_create(rows)
    bunce.add_segment("VIP", description="59")
    services.request_import(adopt=True)
    bunce.work()
    assert Segment.objects.count() == 60


@pytest.mark.parametrize("fault", ["forbidden", "bad_request", "redirect", "html_502"])
def test_a_new_key_is_accepted_by_the_list_if_single_reads_do_not_work(
    fault: str, bunce: LocalBunce, settings: Settings
) -> None:
    Segment.objects.create(name="VIP")
    drain()
    configure(settings, API_KEY="sk_test_new")
    row = Segment.objects.create(name="New")
    # The emulator fails the lists as well; then at least a message has to say why nothing is sent.
    bunce.set_faults(Faults(**{fault: 1.0}, methods=frozenset({"GET"})))
    for _ in range(3):
        run_once(seconds=1)
    from tests.unit.commands import run

    assert fresh(row).status == Status.SYNCED or run("bunce_status").code == 1


def test_one_difference_is_announced_once(bunce: LocalBunce) -> None:
    heard: list[int] = []

    def receive(segment: Segment, **kwargs: Any) -> None:
        heard.append(segment.pk)

    signals.segment_changed_in_bunce.connect(receive)
    row = Segment.objects.create(name="VIP")
    bunce.work()
    bunce.change_segment(str(fresh(row).bunce_id), name="Other")
    services.request_import()
    bunce.work()
    Segment.objects.filter(pk=row.pk).update(description="another field")
    bunce.work()
    signals.segment_changed_in_bunce.disconnect(receive)
    assert heard == [row.pk]
