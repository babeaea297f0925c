"""A database that is pointed at another environment or account: nothing is sent until it is moved.

The database is synced with one emulator, "live", and then used with another one, "sandbox".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.conf import conf
from bunce_sync.models import ApiCall, Segment
from bunce_sync.sync import push, rehome, shared_state
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.rehome import Preview, Rehome, Verdict
from bunce_sync.sync.sweep import run_once
from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.local_bunce import LocalBunce
from tests.unit.core import (
    Operation,
    Status,
    ago,
    calls,
    configure,
    drain,
    fresh,
    judge_absent,
    let_time_pass,
    make,
    run_reconcile,
)

pytestmark = pytest.mark.django_db(transaction=True)

LIVE_KEY = "sk_live_of_this_site"
LIVE = "https://api.bunce.so:443 live"


@pytest.fixture(scope="module")
def _second_server() -> Iterator[LocalBunce]:
    with LocalBunce() as server:
        yield server


@pytest.fixture
def live(_second_server: LocalBunce) -> Iterator[LocalBunce]:
    """The Bunce that the database was synced with before."""
    _second_server.reset()
    _second_server.set(key=LIVE_KEY)
    yield _second_server
    _second_server.reset()


@pytest.fixture
def use_live(settings: Settings, live: LocalBunce, bunce: LocalBunce) -> Callable[[], None]:
    def use() -> None:
        configure(settings, BASE_URL=live.base_url, API_KEY=LIVE_KEY)

    use()
    return use


@pytest.fixture
def use_sandbox(use_live: Callable[[], None], settings: Settings, bunce: LocalBunce) -> Any:
    return lambda: configure(settings, BASE_URL=bunce.base_url, API_KEY="sk_test_emulator")


def one_in_each_state(live: Emulator) -> dict[str, Segment]:
    """Bring rows into every state by requests to the live emulator."""
    names = ("synced", "edited", "drifted", "gone", "twice")
    rows = {name: Segment.objects.create(name=name, description="kept") for name in names}
    assert drain() == len(rows)
    row = rows["edited"]
    row.name = "edited since"
    row.save()
    ids = {name: fresh(row).bunce_id for name, row in rows.items()}
    live.change_segment(str(ids["drifted"]), name="changed there")
    live.remove_segment(str(ids["gone"]))
    services.refresh(Segment.objects.filter(pk__in=[rows["drifted"].pk, rows["gone"].pk]))
    run_once(seconds=5)
    Segment.objects.filter(pk=rows["twice"].pk).update_sync_fields(bunce_duplicate_id=str(uuid4()))
    rows["edited"].description = "edited again"
    rows["edited"].save()

    live.script(["lost_answer", "bad_request", "error_before"])
    for name in ("in doubt", "rejected", "failed once"):
        rows[name] = Segment.objects.create(name=name)
        push.push(rows[name].pk)
    rows["absent"] = Segment.objects.create(name="absent")
    live.script(["error_before"])
    push.push(rows["absent"].pk)
    judge_absent(rows["absent"])
    here = {"environment": conf.environment}
    rows["being sent"] = make("being sent", status=Status.SENDING, **here)
    rows["left by a worker"] = make(
        "left by a worker", status=Status.SENDING, lease_until=ago(5), **here
    )
    ApiCall.objects.create(
        segment=rows["left by a worker"],
        operation=Operation.CREATE,
        path="/segments",
        started_at=ago(100),
        listed_digest=rows["left by a worker"].listed_digest,
    )
    assert fresh(rows["drifted"]).last_code == "drift"
    assert fresh(rows["gone"]).last_code == "not_found"
    assert fresh(rows["rejected"]).status == Status.REJECTED
    assert fresh(rows["in doubt"]).status == Status.IN_DOUBT
    return rows


def work_for_hours() -> None:
    """Do all work that becomes due within some hours."""
    for _ in range(6):
        run_once(seconds=10)
        let_time_pass(1800)


def moved(*environments: str, this_account: bool = False) -> tuple[Preview, Counter[Verdict]]:
    """Read the list, and move the rows of these environments; return preview and result."""
    move = Rehome(environments, this_account=this_account)
    while not move.complete:
        assert move.read_page(Budget(10))
    preview = move.preview()
    return preview, sum(services.rehome(move), Counter())


def test_nothing_of_another_environment_is_sent_until_it_is_moved(
    live: LocalBunce, bunce: LocalBunce, use_live: Callable[[], None], use_sandbox: Any
) -> None:
    rows = one_in_each_state(live)
    served, stored = live.served, len(live.segments)
    source = conf.environment
    use_sandbox()
    new = Segment.objects.create(name="added since")
    services.retry(Segment.objects.all())
    services.push_now(Segment.objects.all())
    services.refresh(Segment.objects.all())
    services.push_ours(Segment.objects.all())
    services.create_again(Segment.objects.all())
    services.request_import(adopt=True)
    work_for_hours()
    Segment.objects.filter(pk=rows["synced"].pk).update(name="edited here")
    work_for_hours()

    assert live.served == served
    assert [one.name for one in bunce.segments] == ["added since"]
    assert {request.method for request in bunce.requests} <= {"GET", "POST"}
    assert all("/segments/" not in request.path for request in bunce.requests)
    assert fresh(new).status == Status.SYNCED
    assert set(Segment.objects.exclude(pk=new.pk).values_list("environment", flat=True)) == {source}

    Segment.objects.filter(pk=rows["being sent"].pk).update_sync_fields(
        status=Status.SENDING, lease_token=uuid4(), lease_until=ago(-60), due_at=ago(0)
    )
    preview, result = moved(source)
    assert preview.total == result
    assert result == {
        Verdict.ANEW: 5 + 1,  # those with an id, and the one that was refused
        Verdict.UNRESOLVED: 4,
        Verdict.SENDING: 1,
    }
    work_for_hours()
    run_reconcile()
    work_for_hours()
    names = Counter(one.name for one in bunce.segments)
    assert set(names.values()) == {1}
    left = {row.name: row.status for row in Segment.objects.all() if row.status != Status.SYNCED}
    assert set(left) == {"being sent"}
    assert live.served == served
    assert len(live.segments) == stored


def test_rows_whose_segments_are_in_the_list_are_only_relabelled(
    live: LocalBunce, bunce: LocalBunce, use_live: Callable[[], None], settings: Settings
) -> None:
    rows = one_in_each_state(live)
    Segment.objects.filter(pk=rows["being sent"].pk).delete()
    source, stored = conf.environment, len(live.segments)
    # The same account by another address, such as that of a proxy.
    configure(settings, BASE_URL=live.base_url.replace("127.0.0.1", "localhost"))
    before = {row.pk: row for row in Segment.objects.filter(name__in=("synced", "changed there"))}
    preview, result = moved(source)
    assert result == {Verdict.FOUND: 4, Verdict.ANEW: 2, Verdict.UNRESOLVED: 4}
    assert preview.counts == {source: result}
    for pk, row in before.items():
        now = Segment.objects.get(pk=pk)
        assert now.environment == conf.environment != source
        ignored = {"environment": "", "updated_at": None}
        assert vars(now) | ignored | {"_state": 0} == vars(row) | ignored | {"_state": 0}
    let_time_pass(600)
    work_for_hours()
    run_reconcile()
    work_for_hours()
    # What had arrived is found, and what was gone is created: there is no twin.
    names = Counter(one.name for one in live.segments)
    assert set(names.values()) == {1}, names
    assert len(live.segments) == stored + 5
    assert not Segment.objects.exclude(status=Status.SYNCED).exists()


def test_a_row_that_goes_back_gets_the_segment_it_had_before(
    live: LocalBunce, bunce: LocalBunce, use_live: Callable[[], None], use_sandbox: Any
) -> None:
    row = Segment.objects.create(name="VIP", description="kept", add_all_customers=True)
    drain()
    live_environment, live_id = conf.environment, fresh(row).bunce_id
    use_sandbox()
    assert moved(live_environment)[1] == {Verdict.ANEW: 1}
    drain()
    sandbox, sandbox_id = conf.environment, fresh(row).bunce_id
    assert sandbox_id not in (None, live_id)
    use_live()
    assert moved(sandbox)[1] == {Verdict.BACK: 1}
    drain()
    now = fresh(row)
    assert (now.bunce_id, now.status) == (live_id, Status.SYNCED)
    assert (now.name, now.description, now.add_all_customers) == ("VIP", "kept", True)
    assert len(live.segments) == len(bunce.segments) == 1
    use_sandbox()
    assert moved(live_environment)[1] == {Verdict.BACK: 1}
    drain()
    assert fresh(row).bunce_id == sandbox_id
    assert len(live.segments) == len(bunce.segments) == 1


@pytest.mark.parametrize("origin", ["import", "link", "adopt"])
def test_a_segment_that_no_create_here_made_is_kept_for_its_row_as_well(
    live: LocalBunce, use_live: Callable[[], None], use_sandbox: Any, origin: str
) -> None:
    stored = live.add_segment("VIP")
    if origin == "link":
        Segment.objects.link(stored.id, name="VIP")
    elif origin == "adopt":
        Segment.objects.bulk_create([Segment(name="VIP")])
    services.request_import(adopt=origin == "adopt")
    live.work()
    [row] = Segment.objects.all()
    assert row.bunce_id == stored.id
    live_environment = conf.environment
    use_sandbox()
    assert moved(live_environment)[1] == {Verdict.ANEW: 1}
    drain()
    sandbox = conf.environment
    use_live()
    assert moved(sandbox)[1] == {Verdict.BACK: 1}
    drain()
    assert fresh(row).bunce_id == stored.id
    assert len(live.segments) == 1


def test_an_import_before_the_way_back_takes_no_segment_from_its_row(
    live: LocalBunce, use_live: Callable[[], None], use_sandbox: Any
) -> None:
    row = Segment.objects.create(name="VIP")
    drain()
    live_environment, live_id = conf.environment, fresh(row).bunce_id
    use_sandbox()
    moved(live_environment)
    drain()
    sandbox = conf.environment
    use_live()
    services.request_import()
    live.work()
    assert [one.pk for one in Segment.objects.all()] == [row.pk]
    assert moved(sandbox)[1] == {Verdict.BACK: 1}
    drain()
    assert fresh(row).bunce_id == live_id
    assert len(live.segments) == 1


def test_a_create_in_doubt_there_is_looked_for_there_on_the_way_back(
    live: LocalBunce, bunce: LocalBunce, use_live: Callable[[], None], use_sandbox: Any
) -> None:
    live.script(["lost_answer"])
    row = Segment.objects.create(name="VIP")
    push.push(row.pk)
    [stored] = live.segments
    live_environment = conf.environment
    use_sandbox()
    assert moved(live_environment)[1] == {Verdict.UNRESOLVED: 1}
    work_for_hours()
    assert fresh(row).status == Status.SYNCED
    assert len(bunce.segments) == 1
    sandbox = conf.environment
    use_live()
    moved(sandbox)
    work_for_hours()
    assert fresh(row).bunce_id == stored.id
    assert len(live.segments) == 1


def test_what_is_wanted_and_the_hold_stay(
    live: LocalBunce, bunce: LocalBunce, use_live: Callable[[], None], use_sandbox: Any
) -> None:
    row = Segment.objects.create(name="VIP", description="kept", add_all_customers=True)
    drain()
    with services.no_push("a test"):
        row.name = "VIP customers"
        row.save()
        source = conf.environment
        use_sandbox()
        moved(source)
        assert fresh(row).hold_id is not None
        assert drain() == 0
    drain()
    [stored] = bunce.segments
    assert (stored.name, stored.description, stored.all_customers) == (
        *("VIP customers", "kept"),
        True,
    )


def test_moved_rows_can_be_linked_to_segments_that_are_there(
    live: LocalBunce, bunce: LocalBunce, use_live: Callable[[], None], use_sandbox: Any
) -> None:
    row = Segment.objects.create(name="VIP")
    drain()
    source = conf.environment
    use_sandbox()
    there = bunce.add_segment("VIP")
    moved(source)
    services.request_import(adopt=True)
    bunce.work()
    assert fresh(row).bunce_id == there.id
    assert len(bunce.segments) == 1


def test_killed_in_between_each_row_is_consistent_and_another_run_continues(
    live: LocalBunce,
    bunce: LocalBunce,
    use_live: Callable[[], None],
    use_sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rehome, "BATCH", 2)
    Segment.objects.bulk_create(Segment(name=f"Segment {n}") for n in range(5))
    drain()
    source = conf.environment
    use_sandbox()
    move = Rehome([source])
    assert move.read_page(Budget(10))
    next(move.apply())
    assert Segment.objects.elsewhere().count() == 3
    assert drain() == 2
    assert moved(source)[1] == {Verdict.ANEW: 3}
    assert drain() == 3
    assert Counter(one.name for one in bunce.segments) == {f"Segment {n}": 1 for n in range(5)}


def test_the_list_is_read_twice_if_a_segment_may_have_moved_between_pages(
    live: LocalBunce, use_live: Callable[[], None], settings: Settings
) -> None:
    configure(settings, PAGE_SIZE=10)
    Segment.objects.bulk_create(Segment(name=f"Segment {n}") for n in range(15))
    drain()
    source = conf.environment
    configure(settings, BASE_URL=live.base_url.replace("127.0.0.1", "localhost"))
    move = Rehome([source])
    assert move.read_page(Budget(10))
    live.remove_segment(live.newest(1)[0].id)  # one of the second page moves to the first
    while not move.complete:
        assert move.read_page(Budget(10))
    assert move.reads_again
    assert sum(move.apply(), Counter()) == {Verdict.FOUND: 15}


def test_a_late_response_does_not_link_a_row_that_was_moved(
    live: LocalBunce,
    bunce: LocalBunce,
    use_live: Callable[[], None],
    use_sandbox: Any,
) -> None:
    row = Segment.objects.create(name="VIP")
    drain()
    source = conf.environment
    Segment.objects.filter(pk=row.pk).update(name="VIP 2")
    late = push.Push(fresh(row))
    assert late.reserve(Budget(10))
    result = late.perform(Budget(10))
    let_time_pass(600)
    use_sandbox()
    assert moved(source)[1] == {Verdict.ANEW: 1}
    late.record(result)
    assert fresh(row).bunce_id is None
    drain()
    assert fresh(row).environment == conf.environment
    assert [one.name for one in bunce.segments] == ["VIP 2"]


def test_a_late_create_does_not_link_a_row_that_was_moved(
    live: LocalBunce, bunce: LocalBunce, use_live: Callable[[], None], use_sandbox: Any
) -> None:
    row = Segment.objects.create(name="VIP")
    source = conf.environment
    late = push.Push(fresh(row))
    assert late.reserve(Budget(10))
    result = late.perform(Budget(10))
    let_time_pass(600)
    use_sandbox()
    assert moved(source)[1] == {Verdict.UNRESOLVED: 1}
    late.record(result)
    assert (fresh(row).bunce_id, fresh(row).status) == (None, Status.IN_DOUBT)
    let_time_pass(600)
    bunce.work()
    assert fresh(row).bunce_id == bunce.segments[0].id
    assert len(bunce.segments) == 1


# Another account in the same environment


def test_with_the_key_of_another_account_nothing_is_sent_until_the_rows_are_moved(
    bunce: LocalBunce, settings: Settings
) -> None:
    rows = [Segment.objects.create(name=f"Segment {n}") for n in range(3)]
    drain()
    kept = bunce.add_segment("Segment 1")
    for row in rows:
        bunce.remove_segment(str(fresh(row).bunce_id))
    Segment.objects.filter(pk=rows[1].pk).update_sync_fields(bunce_id=kept.id)
    Segment.objects.filter(pk=rows[0].pk).update(name="Edited")
    bunce.set(paging="cursor")
    never_sent = Segment.objects.create(name="Never sent")
    configure(settings, API_KEY="sk_test_another")
    move = Rehome([])
    assert not move.complete
    assert moved()[1] == {}
    preview, result = moved(this_account=True)
    assert result == {Verdict.ANEW: 2}
    assert preview.counts == {conf.environment: result}
    assert shared_state.key_is_known(shared_state.read()[0])
    bunce.work()
    names = sorted(one.name for one in bunce.segments)
    assert names == ["Edited", "Never sent", "Segment 1", "Segment 2"]
    assert fresh(rows[1]).bunce_id == kept.id
    assert fresh(never_sent).status == Status.SYNCED
    assert moved(this_account=True)[1] == {}


def test_the_key_of_a_foreign_account_is_recognized(bunce: LocalBunce, settings: Settings) -> None:
    row = Segment.objects.create(name="VIP")
    drain()
    configure(settings, API_KEY="sk_test_another")
    bunce.remove_segment(str(fresh(row).bunce_id))
    bunce.add_segment("Of another site")
    assert drain() == 0
    move = Rehome([])
    assert move.read_page(Budget(10))
    assert move.key_is_strange
    services.accept_key()
    Segment.objects.filter(pk=row.pk).update(name="VIP 2")
    drain()
    assert calls(row)[-1] == (Operation.UPDATE, "rejected")


def test_a_row_that_was_created_while_the_list_was_read_is_left(bunce: LocalBunce) -> None:
    row = Segment.objects.create(name="VIP")
    move = Rehome([], this_account=True)
    assert move.read_page(Budget(10))
    drain()
    assert sum(move.apply(), Counter()) == {}
    assert fresh(row).status == Status.SYNCED


def test_a_page_that_cannot_be_read_is_read_again(bunce: LocalBunce) -> None:
    row = make(status=Status.SYNCED, environment=LIVE)
    bunce.script(["error_before"], "GET")
    move = Rehome([LIVE])
    assert not move.read_page(Budget(10))
    while not move.complete:
        assert move.read_page(Budget(10))
    assert move.preview().counts == {LIVE: {Verdict.ANEW: 1}}
    assert move.preview().examples == {(LIVE, Verdict.ANEW): [(row.pk, "VIP")]}


def test_smaller_pages_are_read_if_bunce_refuses_the_size(bunce: LocalBunce) -> None:
    bunce.set(max_per_page=30)
    bunce.add_segments(40)
    move = Rehome([LIVE])
    while not move.complete:
        move.read_page(Budget(10))
    sizes = [request.query for request in bunce.requests]
    assert sizes[:4] == [f"page={n}&per_page={size}" for n, size in _EXPECTED]


_EXPECTED = ((1, 100), (1, 50), (1, 25), (2, 25))
