"""The customers of segments, while Bunce fails, workers are killed, and processes disagree."""

import json
import time
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from bunce_sync.models import CustomerSync, Member
from bunce_sync.testing.emulator import Faults
from tests.faults import report
from tests.faults.conftest import STACKS
from tests.faults.trial import LONG, REST_LIMIT, Trial, Workers
from tests.site import Process, eventually

#: Half of the responses take a tenth of a second, so that workers are killed while they wait.
MIX = Faults(
    lost_answer=0.05,
    error_before=0.03,
    error_after=0.03,
    reset_before=0.05,
    late_store=0.03,
    trickle=0.5,
    trickle_seconds=0.001,
    methods=frozenset({"POST", "DELETE"}),
    customer_calls=True,
)
SEEDS = range(5 if LONG else 1)
ADDED = 20_000 if LONG else 2_000
REMOVED = ADDED // 4
#: Users that one edit of the queryset removes.
EDIT = REMOVED // (20 if LONG else 5)
#: Leases and grace periods have to end; a request that is stored late is so after two seconds.
GRACE = 3.0
QUICK = {"BUNCE_LEASE": "8", "BUNCE_GRACE": f"{GRACE:g}"}
#: Smaller batches in the short form, so that there are enough requests to fail.
ENV = {**QUICK, "BUNCE_CUSTOMERS_PER_REQUEST": "100" if LONG else "25"}


def members_in_bunce(trial: Trial) -> set[str]:
    """Return the customers that Bunce has in the only segment."""
    segments = trial.bunce.segments
    return trial.bunce.member_ids(segments[0].id) if segments else set()


def is_at_rest(trial: Trial) -> bool:
    """Return whether nothing has to be sent, and Bunce has no write left to complete."""
    rows = Member.objects.using(trial.site.alias)
    return not rows.unsent().exists() and not trial.bunce.pending_writes


def note(trial: Trial, what: str, wanted: set[str]) -> None:
    """Add a line to the report, and check that Bunce's members are the wanted ones."""
    found = members_in_bunce(trial)
    rows = Member.objects.using(trial.site.alias)
    took = time.monotonic() - trial.began
    calls = trial.site.calls.filter(operation__in=("add", "remove")).count()
    report.note(
        trial.request,
        (
            f"{what}, {calls} requests",
            *trial.stack.split("+"),
            len(wanted),
            len(found - wanted),
            len(wanted - found),
            rows.unsent().count(),
            f"{took:.1f}",
        ),
    )
    assert len(trial.bunce.segments) == 1
    story = dict(trial.bunce.injected)
    assert found == wanted, f"too many {found - wanted}, missing {wanted - found}; {story}"
    refused = rows.filter(status=Member.Status.REFUSED)
    assert not refused.exists()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stack", STACKS)
def test_under_a_mix_of_faults_and_kills_bunce_has_exactly_the_customers_of_the_queryset(
    stack: str, seed: int, start: Callable[..., Trial]
) -> None:
    trial = start("audience", stack, ENV)
    users = User.objects.using(trial.site.alias)
    users.bulk_create((User(username=f"u-{n}") for n in range(ADDED)), batch_size=1_000)
    leaving = list(users.order_by("?").values_list("pk", flat=True)[:REMOVED])
    trial.bunce.set_faults(MIX, seed=seed)
    trial.site.start_beat()
    workers = Workers(trial.site, 2, seed=seed, app="tests.faults.audience_app")

    def wanted() -> set[str]:
        return {*users.filter(is_active=True).values_list("username", flat=True)}

    def is_settled() -> bool:
        return not leaving and is_at_rest(trial) and members_in_bunce(trial) == wanted()

    assert eventually(lambda: len(members_in_bunce(trial)) > ADDED / 10, 60)
    ends = time.monotonic() + (REST_LIMIT if LONG else 20)
    while not eventually(is_settled, 2) and time.monotonic() < ends:
        workers.kill_one()
        gone, leaving[:EDIT] = leaving[:EDIT], []
        users.filter(pk__in=gone).update(is_active=False)
        users.filter(pk__in=gone[:3]).update(is_active=True, first_name="Back")
        trial.note_fault()
    assert trial.last_fault, "no worker was killed: there were too few customers"
    assert not leaving
    eventually(is_settled, REST_LIMIT)
    # Nothing that was lost may take effect now.
    eventually(lambda: members_in_bunce(trial) != wanted(), GRACE)
    note(trial, "mix, kill -9 every 2 s, audience", wanted())
    assert not CustomerSync.objects.using(trial.site.alias).exclude(run_error="").exists()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stack", STACKS if LONG else STACKS[1:2])
def test_of_two_processes_the_last_one_decides_which_customers_are_in_the_segment(
    stack: str, seed: int, start: Callable[..., Trial]
) -> None:
    trial = start("by hand", stack, {**QUICK, "BUNCE_CUSTOMERS_PER_REQUEST": "10"})
    row = trial.site.put("VIP")
    trial.bunce.set_faults(MIX, seed=seed)
    for beat in (True, False):
        trial.site.start_worker(beat=beat, processes=2)
    seconds = "60" if LONG else "5"
    people = [
        trial.site.start(
            "hand", "-m", "tests.faults.by_hand", str(row.pk), f"{seed} {person}", seconds,
            env={"DJANGO_SETTINGS_MODULE": "project.settings"},
        )
        for person in range(2)
    ]  # fmt: skip
    assert eventually(lambda: not any(person.running for person in people), float(seconds) + 60)
    assert [person.popen.returncode for person in people] == [0, 0], people[0].output[-2000:]
    wanted_rows = Member.objects.using(trial.site.alias).filter(wanted=True)

    def wanted() -> set[str]:
        return {*wanted_rows.values_list("identifier", flat=True)}

    check_last(people, wanted())
    eventually(lambda: is_at_rest(trial) and members_in_bunce(trial) == wanted(), REST_LIMIT)
    eventually(lambda: members_in_bunce(trial) != wanted(), GRACE)
    note(trial, "mix, two processes by hand", wanted())
    stored = {one.customer_id: one.first_name for one in trial.bunce.members(row_id(trial))}
    rows = wanted_rows.values_list("identifier", "profile")
    assert {identifier for identifier, profile in rows if profile} == set(), stored


def row_id(trial: Trial) -> str:
    return trial.bunce.segments[0].id


def check_last(people: list[Process], wanted: set[str]) -> None:
    """Check that each customer is in the segment, or not, as the last call says.

    Of calls that were made at the same time either may be the last one.
    """
    last: dict[str, list[tuple[bool, float, float]]] = {}
    for person in people:
        own: dict[str, tuple[bool, float, float]] = {}
        for line in person.output.splitlines():
            if line.startswith("["):
                adds, identifiers, began, ended = json.loads(line)
                own |= dict.fromkeys(identifiers, (adds, began, ended))
        for identifier, call in own.items():
            last.setdefault(identifier, []).append(call)
    assert len(last) > 50
    for identifier, calls in last.items():
        latest = max(began for _adds, began, _ended in calls)
        possible = {adds for adds, _began, ended in calls if ended >= latest}
        assert (identifier in wanted) in possible, f"{identifier}: {calls}"
