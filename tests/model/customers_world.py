"""The customers of a segment kept by hand and of an audience, the processes, and the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from unittest.mock import patch

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import QuerySet
from hypothesis.stateful import RuleBasedStateMachine

from bunce_sync import audiences, services
from bunce_sync.audiences import Audience
from bunce_sync.choices import MemberStatus, Operation, Outcome
from bunce_sync.conf import conf
from bunce_sync.customer_entries import CustomerEntry, read_entry
from bunce_sync.member_transitions import FORGOTTEN, OUTDATED
from bunce_sync.models import (
    ApiCall,
    CustomerQueue,
    CustomerSync,
    ForgottenCustomer,
    Member,
    MemberQuerySet,
    OperationState,
    PushHold,
    Segment,
    SyncState,
)
from bunce_sync.results import PERMIT_EXPIRED, Result
from bunce_sync.sync import (
    audience_runs,
    circuit_breaker,
    clock,
    customers,
    rate_limiter,
    shared_state,
)
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.rate_limiter import NoPermit
from tests.model.actors import UNHEARD
from tests.model.customers_bunce import CustomersBunce, CustomersRequest
from tests.model.interruption import another_process
from tests.model.virtual_time import VirtualTime

#: After the real time, which is the default in the database that members are inserted with.
START: Final = datetime.now(UTC).replace(microsecond=1) + timedelta(days=1)
LEASE: Final = 15.0
GRACE: Final = 30.0
DAY: Final = audience_runs.BRAKE_SECONDS
#: Removals of the audience within a day that need no confirmation.
REMOVALS: Final = 2
#: Customers of the audience at most.
CROWD: Final = 5
Profile = dict[str, str]


class Crowd(Audience):
    name = "Crowd"
    customer_id = "username"
    first_name = "first_name"
    max_removals = REMOVALS
    max_removal_share = 0.0

    def get_queryset(self) -> QuerySet[User]:
        return User.objects.filter(is_active=True)


@dataclass(eq=False)
class Sender:
    """A process with a reserved batch.

    Attributes:
        request: the request, once it has been sent.
        result: its result, once the process knows it.
    """

    batch: customers.Batch
    request: CustomersRequest | None = None
    result: Result | None = None


class Dead(BaseException):
    """The process was killed: none of its further statements are executed."""


@contextmanager
def mortal(*, at: int) -> Iterator[None]:
    """Kill the process before a statement of the block, by number from 1, if there are so many."""
    statements = 0

    def execute_one(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal statements
        statements += 1
        if statements >= at and not sql.startswith("ROLLBACK"):
            raise Dead
        return execute(sql, params, many, context)

    try:
        with connection.execute_wrapper(execute_one):
            yield
    finally:
        if connection.in_atomic_block:
            connection.set_rollback(False)  # see ``interrupted``


@contextmanager
def meddled(*, at: int, by: Callable[[], object]) -> Iterator[None]:
    """Let another process act before a statement of the block, as on a database with row locks.

    It acts only while the block has no member locked or written that is not committed yet: the
    other process would wait, or would not see it.

    Args:
        at: the number of the statement among those where it can act. If there are fewer, it acts
            after the block.
    """
    outside = len(connection.savepoint_ids)
    statements = 0
    locking = touched = happened = False
    table = Member._meta.db_table
    lock_methods = {name: getattr(MemberQuerySet, name) for name in ("locked", "lock_available")}

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def lock(rows: MemberQuerySet) -> Any:
            nonlocal locking
            locking = True
            return method(rows)

        return lock

    def execute_one(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal statements, locking, touched, happened
        if happened:
            return execute(sql, params, many, context)
        ends = sql.startswith(("RELEASE", "ROLLBACK"))  # Django has left the savepoint already
        if len(connection.savepoint_ids) == outside and not ends:
            touched = False
        if not touched and not ends:
            statements += 1
            if statements >= at:
                happened = True
                with another_process():
                    by()
        done = execute(sql, params, many, context)
        if table in sql and (locking if sql.startswith("SELECT") else context["cursor"].rowcount):
            touched, locking = True, False
        return done

    with ExitStack() as stack:
        for name, method in lock_methods.items():
            stack.enter_context(patch.object(MemberQuerySet, name, noting(method)))
        stack.enter_context(connection.execute_wrapper(execute_one))
        yield
    if not happened:
        by()


class CustomersWorld(RuleBasedStateMachine):
    """The bookkeeping and the checks; the events are in the machine.

    Attributes:
        wanted: the customers of the segment that is kept by hand, with their profiles.
        forgotten: customers that are never added again.
        removals: when how many customers of the audience were removed without confirmation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time = VirtualTime()
        self.time.now = START
        self.bunce = CustomersBunce()
        self.senders: list[Sender] = []
        self.queues: list[CustomerQueue] = []
        self.wanted: dict[str, Profile] = {}
        self.forgotten: set[str] = set()
        self.removals: list[tuple[datetime, int]] = []
        self.resources = ExitStack()
        self.resources.enter_context(self.time.in_force())
        clock.forget_readings()
        self.resources.enter_context(patch.object(circuit_breaker, "OUTAGE_THRESHOLD", 10**6))
        for model in (
            *(ApiCall, CustomerQueue, CustomerSync, ForgottenCustomer, Member, OperationState),
            *(PushHold, Segment, SyncState, User),
        ):
            model._base_manager.all().delete()
        audiences.register(Crowd)
        self.resources.callback(audiences.unregister, Crowd)
        shared_state.accept_key()
        self.hand = self._link(Segment.objects.create(name="By hand"))
        self.crowd = self._link(audience_runs.ensure(Crowd()).segment)

    def _link(self, segment: Segment, *foreign: str) -> Segment:
        """Give a segment a new id in Bunce, where it has customers that the app did not add."""
        Segment.objects.filter(pk=segment.pk).update_sync_fields(
            bunce_id=self.bunce.add_segment(*foreign),
            environment=conf.environment,
            status=Segment.Status.SYNCED,
        )
        return Segment.objects.get(pk=segment.pk)

    # By hand

    def _add(self, identifiers: list[str], profile: Profile, retry: bool) -> None:
        entries = [{"customer_id": one, **profile} for one in identifiers]
        self.hand.add_customers(entries, retry=retry)
        for one in {*identifiers} - self.forgotten:
            self.wanted[one] = profile

    def _remove(self, identifiers: list[str]) -> None:
        self.hand.remove_customers(identifiers)
        for one in identifiers:
            self.wanted.pop(one, None)

    def _do_by_hand(self, change: Callable[[], object], **meddling: Any) -> None:
        """Change the segment by hand, perhaps while another process acts.

        Of two changes at once either may be the last one.
        """
        if not meddling:
            change()
            return
        before = dict(self.wanted)
        with meddled(**meddling):
            change()
        first = dict(self.wanted)
        self.wanted = dict(before)
        for possible in (first, self._alternative(before, change, meddling)):
            self.wanted = possible
            with suppress(AssertionError):
                self.check_wanted()
                return
        self.check_wanted()

    def _alternative(
        self, before: dict[str, Profile], change: Callable[[], object], meddling: Any
    ) -> dict[str, Profile]:
        """Return what is wanted if the other process was the last one."""
        self.wanted = dict(before)
        with patch.object(Segment, "add_customers"), patch.object(Segment, "remove_customers"):
            change()
            if getattr(meddling["by"], "by_hand", False):
                meddling["by"]()
        return self.wanted

    def check_wanted(self) -> None:
        """Compare what the rows say that is wanted with what was asked for."""
        rows = Member.objects.filter(segment=self.hand, wanted=True)
        found = dict(rows.values_list("identifier", "profile_digest"))
        assert found.keys() == self.wanted.keys(), f"wanted {[*self.wanted]}, rows {[*found]}"
        for identifier, digest in found.items():
            expected = self._entry(identifier).digest
            assert digest in (expected, OUTDATED), f"the profile of {identifier} was lost"

    def check_settled(self) -> None:
        """Check that a customer about whom nothing is left to do is as wanted in Bunce."""
        sync = CustomerSync.objects.filter(pk=self.hand.pk).first()
        bunce_id = str(self.hand.bunce_id)
        rows = Member.objects.filter(segment=self.hand)
        statuses = dict(rows.values_list("identifier", "status"))
        settled = {one for one, status in statuses.items() if status == MemberStatus.IN_BUNCE}
        assert settled <= self.wanted.keys(), f"nothing is left to do for {settled}"
        if sync is not None and sync.bunce_id == bunce_id:
            assert settled <= self.bunce.members[bunce_id], f"{settled} should be in Bunce"
            left = self.bunce.members[bunce_id] & self.bunce.ours[bunce_id]
            assert left <= statuses.keys(), f"{left} are in Bunce, and have no row"

    def _entry(self, identifier: str) -> CustomerEntry:
        return read_entry({"customer_id": identifier, **self.wanted[identifier]})

    # Batches

    def _reserve(self, queue: CustomerQueue) -> Sender | None:
        """Let a worker take the next batch of a queue, as ``customers.run`` does."""
        made: list[Sender] = []

        def reserve(batch: customers.Batch, budget: Budget) -> None:
            if batch.reserve(budget):
                made.append(Sender(batch))

        with patch.object(customers.Batch, "run", reserve), suppress(NoPermit):
            customers._send(Budget(60, wait_seconds=0), queue)
        for sender in made:
            self._check_reserved(sender.batch)
        self.senders += made
        return made[0] if made else None

    def _check_reserved(self, batch: customers.Batch) -> None:
        if batch.adds:
            self.bunce.added[batch.bunce_id] |= {row.identifier for row in batch.members}
        elif CustomerSync.objects.filter(pk=batch.segment_id, held_at__isnull=False).exists():
            digests = {row.profile_digest for row in batch.members}
            assert digests == {FORGOTTEN}, "held removals are sent"

    def _send(self, sender: Sender) -> None:
        batch = sender.batch
        age = self.time.now - batch.permit.slot
        if age > timedelta(seconds=rate_limiter.PERMIT_SECONDS):
            sender.result = Result(Outcome.NOT_SENT, code=PERMIT_EXPIRED)
            return
        content = {
            row.identifier: dict(row.profile or {}) if batch.adds else {} for row in batch.members
        }
        for other in self.senders:
            if other.request and not other.result and other.request.bunce_id == batch.bunce_id:
                both = content.keys() & other.request.customers.keys()
                assert not both, f"two requests at once for {both}"
        operation = Operation(batch.queue.operation)
        sender.request = self.bunce.receive(
            operation, batch.bunce_id, content, self.time.now, timedelta(seconds=GRACE - 1)
        )

    def _record(self, sender: Sender, dies_at: int | None = None) -> None:
        assert sender.result is not None
        sender.batch.words = sender.result.detail
        with self._mortal(dies_at):
            sender.batch.record(sender.result)

    @contextmanager
    def _mortal(self, dies_at: int | None) -> Iterator[None]:
        """Kill the process before one of the statements of the block."""
        with suppress(Dead), ExitStack() as stack:
            if dies_at is not None:
                stack.enter_context(mortal(at=dies_at))
            yield

    def _sweep(self) -> None:
        customers.free_leases()
        customers.delete_removed()
        customers.notice_new_segments()

    def _advance(self, seconds: float) -> None:
        """Let time pass; workers stop waiting for responses, and Bunce for late actions."""
        self.time.advance(seconds)
        for sender in self.senders:
            request = sender.request
            if request and not sender.result:
                age = (self.time.now - request.sent_at).total_seconds()
                if age > conf.request_deadline:
                    sender.result = UNHEARD
        for request in self.bunce.open_requests:
            if request.late <= self.time.now:
                self.bunce.fail(request, UNHEARD)

    # The audience

    def _compare(self, dies_at: int | None = None) -> None:
        """Compare the audience, and count what it removes without confirmation."""
        mine = Member.objects.filter(segment=self.crowd)
        before = {*mine.filter(wanted=True).values_list("identifier", flat=True)}
        sync = CustomerSync.objects.get(pk=self.crowd.pk)
        with self._mortal(dies_at):
            audience_runs.compare(Crowd())
        gone = before - {*mine.filter(wanted=True).values_list("identifier", flat=True)}
        if sync.confirmed_removals is not None and len(gone) <= sync.confirmed_removals:
            return
        present = {*Crowd().get_queryset().values_list("username", flat=True)}
        assert not gone or present, "an empty queryset is a removal"
        self.removals.append((self.time.now, len(gone)))
        since = self.time.now - timedelta(seconds=DAY)
        total = sum(number for at, number in self.removals if at > since)
        assert total <= REMOVALS, f"{total} removals without confirmation"

    def _held(self) -> CustomerSync:
        return CustomerSync.objects.get(pk=self.crowd.pk)

    # The end

    def _come_to_rest(self) -> None:
        """End all faults, finish what is under way, and compare."""
        self.senders.clear()
        self.bunce.refused.clear()
        services.resume()
        for _ in range(30):
            self._advance(max(LEASE, GRACE) + 1)
            self._sweep()
            CustomerSync.objects.update(run_lease_until=None)
            self._compare()
            if self._held().held_at is not None:
                services.confirm_removals(self.crowd, shown=self._held().held_removals)
                self._compare()
            self._finish_work()
            moved = CustomerSync.objects.exclude(bunce_id="").exclude(
                bunce_id__in=Segment.objects.values("bunce_id")
            )
            if not Member.objects.unsent().exists() and not moved.exists():
                break
            self._advance(3700)  # queues and operations that are paused
        else:
            raise AssertionError(f"members are stuck: {[*Member.objects.unsent().values()]}")
        self._advance(2 * GRACE)  # until no removal can be undone
        self._sweep()
        self._check_rest()

    def _finish_work(self) -> None:
        while queues := customers.ready_queues():
            made = [sender for queue in queues if (sender := self._reserve(queue))]
            for sender in made:
                self._send(sender)
                if sender.request is not None:
                    self.bunce.act(sender.request)
                    sender.result = sender.request.answer
                self._record(sender)
                self.senders.remove(sender)
            if not made:
                return

    def _check_rest(self) -> None:
        self._check_segment(self.hand, self.wanted)
        people = Crowd().get_queryset().values_list("username", "first_name")
        self._check_segment(
            self.crowd,
            {
                name: {"first_name": first} if first else {}
                for name, first in people
                if name not in self.forgotten
            },
        )

    def _check_segment(self, segment: Segment, wanted: dict[str, Profile]) -> None:
        rows = Member.objects.filter(segment=segment)
        statuses = dict(rows.values_list("identifier", "status"))
        refused = {one for one, status in statuses.items() if status == MemberStatus.REFUSED}
        assert refused <= self.bunce.ever_refused, "Bunce never refused them"
        bunce_id = str(segment.bunce_id)
        strangers = self.bunce.foreign[bunce_id] - self.bunce.ours[bunce_id] - wanted.keys()
        assert strangers - self.bunce.added[bunce_id] <= self.bunce.members[bunce_id]
        found = self.bunce.members[bunce_id] - refused - strangers
        expected = wanted.keys() - refused
        assert found == expected, f"{segment.name}: wanted {expected}, in Bunce {found}"
        assert statuses.keys() - refused == expected, "rows of removed customers are left"
        for identifier in expected:
            stored = self.bunce.profiles[identifier]
            assert stored.items() >= wanted[identifier].items(), f"profile of {identifier}"
