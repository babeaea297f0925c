"""The customers in segments against an exact model of Bunce, with events in any order.

Hypothesis draws the events: workers reserve batches, send them, and record results late or never;
Bunce acts at once, late or not at all, or refuses; processes are killed between any two statements,
or meet there; people add and remove customers, an audience's queryset changes and is compared,
segments get other ids in Bunce. What must always hold is an invariant. At the end all faults stop,
and Bunce's members must be the wanted ones, apart from those it refused.

Workers make their two transactions with ``Batch.reserve`` and ``Batch.record``. Only the request
itself is the model's. The assumptions are those of docs/guarantees.md.
"""

from __future__ import annotations

import logging
from typing import Any

import hypothesis.strategies as st
import pytest
from django.contrib.auth.models import User
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.choices import Outcome
from bunce_sync.models import CustomerQueue
from bunce_sync.results import Result
from bunce_sync.sync import customers
from tests.faults.trial import LONG
from tests.model.actors import REFUSED, UNHEARD, UNREADABLE, pick
from tests.model.customers_bunce import CustomersRequest
from tests.model.customers_world import CROWD, DAY, GRACE, LEASE, CustomersWorld, Sender

IDENTIFIERS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)
PROFILES = st.sampled_from([{}, {"first_name": "Ann"}, {"first_name": "Bo"}])
#: At which statement a process is killed, if at all.
DEATHS = st.sampled_from([None, None, None, 1, 2, 3, 4, 5, 6, 8, 10, 13])
STATEMENTS = st.integers(1, 6)
FAILURES = (
    Result(Outcome.RATE_LIMITED, code="rate_limited", http_status=429, retry_after=1.0),
    Result(Outcome.REJECTED, code="forbidden", http_status=403),
    Result(Outcome.UNKNOWN, code="server_error", http_status=500),
)
SENDERS = 3
PERSONS = (
    *("forget", "unforget", "confirm", "confirm", "discard", "retry", "resync", "create again"),
    *("pause", "resume", "resume"),
)
CHANGES = ("add", "Ann", "Bo", "remove", "remove")
FATES = ("done", "lost", "late", "unreached")
#: A change, what happens to the requests that are due, and what happens then; or, if that is a
#: change, while they are made.
STEP = st.tuples(
    st.sampled_from(("", *CHANGES)),
    st.sampled_from((*FATES, "done", "begin", "end")),
    st.sampled_from(("", "act late", "wait", *CHANGES)),
)
CHURN = st.lists(STEP, min_size=2, max_size=8)


class Customers(CustomersWorld):
    """The events; see the module."""

    @initialize(
        crowd=st.integers(0, CROWD),
        hand=st.lists(st.sampled_from("abc"), unique=True),
        past=st.lists(STEP, min_size=10, max_size=20),
    )
    def begin(self, crowd: int, hand: list[str], past: list[tuple[str, str, str]]) -> None:
        """Begin with some customers that Bunce has, and with one that is changed repeatedly."""
        User.objects.bulk_create(
            User(username=f"u{number}", is_active=number < crowd) for number in range(CROWD)
        )
        if hand:
            self._add(hand, {}, True)
        self._compare()
        self._finish_work()
        self.churn(past)

    # What the site wants

    @rule(identifiers=IDENTIFIERS, profile=PROFILES, retry=st.booleans(), data=st.data())
    def add(
        self, identifiers: list[str], profile: dict[str, str], retry: bool, data: st.DataObject
    ) -> None:
        meddling = self._draw_meddling(data)
        self._do_by_hand(lambda: self._add(identifiers, profile, retry), **meddling)

    @rule(identifiers=IDENTIFIERS, data=st.data())
    def remove(self, identifiers: list[str], data: st.DataObject) -> None:
        meddling = self._draw_meddling(data)
        self._do_by_hand(lambda: self._remove(identifiers), **meddling)

    def _draw_meddling(self, data: st.DataObject) -> dict[str, Any]:
        """Return what another process does at the same time, if anything."""
        what = data.draw(st.sampled_from([None, None, "reserve", "record", "sweep", "hand"]))
        if what == "reserve" and (queues := customers.ready_queues()):
            queue = pick(data, queues)
            return {"at": data.draw(STATEMENTS), "by": lambda: self._reserve(queue)}
        if what == "record" and (ready := [one for one in self.senders if one.result]):
            sender = pick(data, ready)
            return {"at": data.draw(STATEMENTS), "by": lambda: self._finish(sender)}
        if what == "sweep":
            return {"at": data.draw(STATEMENTS), "by": self._sweep}
        if what == "hand":
            return self._draw_hand(data)
        return {}

    def _draw_hand(self, data: st.DataObject) -> dict[str, Any]:
        """Return a change by hand that is made while another process acts."""
        identifiers = data.draw(IDENTIFIERS)
        profile = data.draw(st.sampled_from([None, {}, {"first_name": "Ann"}]))

        def by() -> None:
            if profile is None:
                self._remove(identifiers)
            else:
                self._add(identifiers, profile, True)

        by.by_hand = True  # type: ignore[attr-defined]  # for ``_alternative``
        return {"at": data.draw(STATEMENTS), "by": by}

    def _finish(self, sender: Sender) -> None:
        if sender in self.senders:
            self.senders.remove(sender)
            self._record(sender)

    @rule(
        present=st.lists(st.booleans(), min_size=CROWD, max_size=CROWD),
        name=st.sampled_from([None, "", "Ann", "Bo"]),
    )
    def edit_queryset(self, present: list[bool], name: str | None) -> None:
        """Change who is in the audience, and perhaps a name."""
        for number, is_present in enumerate(present):
            User.objects.filter(username=f"u{number}").update(is_active=is_present)
        if name is not None:
            User.objects.filter(username="u1").update(first_name=name)

    @rule(dies_at=DEATHS)
    def compare(self, dies_at: int | None) -> None:
        self._compare(dies_at)

    @rule(what=st.sampled_from(PERSONS), crowd=st.booleans())
    def act(self, what: str, crowd: bool) -> None:
        """Do what people and code of the site do now and then."""
        segment = self.crowd if crowd else self.hand
        match what:
            case "forget":
                self._forget("u0" if crowd else "a")
            case "unforget" if self.forgotten:
                services.unforget(self.forgotten.pop())
            case "confirm" | "discard" if self._held().held_at is not None:
                confirms = what == "confirm"
                decide = services.confirm_removals if confirms else services.drop_removals
                decide(self.crowd, shown=self._held().held_removals)
            case "retry":
                services.retry_refused(segment)
            case "resync":
                services.resync_customers(segment)
            case "create again" if crowd:
                self.crowd = self._link(self.crowd, "u1")
            case "create again":
                self.hand = self._link(self.hand, "a")
            case "pause":
                services.pause(reason="", by="")
            case "resume":
                services.resume()

    def _forget(self, identifier: str) -> None:
        services.forget(identifier)
        self.forgotten.add(identifier)
        self.wanted.pop(identifier, None)

    @rule(steps=CHURN)
    def churn(self, steps: list[tuple[str, str, str]]) -> None:
        """Change one customer again and again, while requests about them get lost."""
        for change, fate, then in steps:
            self._change_one(change)
            if fate in FATES:
                for queue in customers.ready_queues():
                    if queue.sync_id == self.hand.pk:
                        self._flush(queue, fate, meanwhile=then)
            elif fate == "begin" and (queues := customers.ready_queues()):
                self._reserve(queues[0])
            elif fate == "end" and self.senders:
                sender = self.senders.pop()
                sender.result = sender.result or REFUSED
                self._record(sender)
            if then == "act late" and self.bunce.open_requests:
                self.bunce.act(self.bunce.open_requests[0])
            elif then == "wait":
                self._advance(2.0)
            self.check_settled()

    def _change_one(self, change: str) -> None:
        match change:
            case "add":
                self._add(["a"], {}, True)
            case "Ann" | "Bo":
                self._add(["a"], {"first_name": change}, True)
            case "remove":
                self._remove(["a"])

    # Workers

    @precondition(lambda self: len(self.senders) < SENDERS)
    @rule(data=st.data(), stale=st.booleans(), dies_at=DEATHS, meddle=st.booleans())
    def reserve(self, data: st.DataObject, stale: bool, dies_at: int | None, meddle: bool) -> None:
        """Take a batch of a queue, as it is now or as it was read earlier."""
        ready = customers.ready_queues()
        queues = self.queues if stale else ready
        self.queues = ready or self.queues
        if not queues:
            return
        queue = pick(data, queues)
        if not meddle:
            with self._mortal(dies_at):
                self._reserve(queue)
            return
        self._do_by_hand(lambda: self._reserve(queue), **self._draw_hand(data))

    @precondition(lambda self: any(not (one.request or one.result) for one in self.senders))
    @rule(data=st.data(), reached=st.sampled_from([True, True, False]))
    def send(self, data: st.DataObject, reached: bool) -> None:
        """Send the request, unless Bunce cannot be reached or the permit has expired."""
        sender = pick(data, [one for one in self.senders if not (one.request or one.result)])
        if reached:
            self._send(sender)
        else:
            sender.result = REFUSED

    @precondition(lambda self: self.bunce.open_requests)
    @rule(data=st.data(), how=st.sampled_from([None, None, None, *FAILURES, "refuse"]))
    def serve(self, data: st.DataObject, how: Result | str | None) -> None:
        """Let Bunce act on a request, or fail to."""
        request = pick(data, self.bunce.open_requests)
        self._serve(request, how)

    def _serve(self, request: CustomersRequest, how: Result | str | None) -> None:
        if how is None:
            self.bunce.act(request)
        elif isinstance(how, Result):
            self.bunce.fail(request, how)
        else:
            self.bunce.refuse(request)

    @precondition(lambda self: any(one.request and not one.result for one in self.senders))
    @rule(data=st.data(), lost=st.sampled_from([None, None, UNHEARD, UNREADABLE]))
    def hear(self, data: st.DataObject, lost: Result | None) -> None:
        """Let a worker receive the response, fail to read it, or stop waiting."""
        sender = pick(data, [one for one in self.senders if one.request and not one.result])
        assert sender.request is not None
        sender.result = lost or sender.request.answer or UNHEARD

    @precondition(lambda self: any(one.result for one in self.senders))
    @rule(data=st.data(), times=st.sampled_from([1, 1, 2]), dies_at=DEATHS, meddle=st.booleans())
    def record(self, data: st.DataObject, times: int, dies_at: int | None, meddle: bool) -> None:
        """Record a result, on time or late; twice if the worker cannot tell that it did."""
        sender = pick(data, [one for one in self.senders if one.result])
        self.senders.remove(sender)
        for _ in range(times):
            if meddle:
                self._do_by_hand(lambda: self._record(sender), **self._draw_hand(data))
            else:
                self._record(sender, dies_at)

    @precondition(lambda self: self.senders)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Kill a worker between any two steps."""
        self.senders.remove(pick(data, self.senders))

    @rule(
        data=st.data(),
        fate=st.sampled_from(["done", "done", "lost", "late", "refused", "unreached"]),
        dies_at=DEATHS,
    )
    def flush(self, data: st.DataObject, fate: str, dies_at: int | None) -> None:
        """Send one batch from start to end, so that deep states are common."""
        if queues := customers.ready_queues():
            self._flush(pick(data, queues), fate, dies_at)

    def _flush(
        self,
        queue: CustomerQueue,
        fate: str,
        dies_at: int | None = None,
        *,
        meanwhile: str = "",
    ) -> None:
        sender = self._reserve(queue)
        if sender is None:
            return
        self._change_one(meanwhile)
        if fate == "unreached":
            sender.result = REFUSED
        else:
            self._send(sender)
        if request := sender.request:
            if fate != "late":  # if late, Bunce may act after the worker has given up
                self._serve(request, "refuse" if fate == "refused" else None)
            heard = fate in ("done", "refused")
            sender.result = request.answer if heard else UNHEARD
        self.senders.remove(sender)
        self._record(sender, dies_at)

    @rule()
    def drain(self) -> None:
        """Send all that is due, as workers do most of the time."""
        self._finish_work()

    @rule(dies_at=DEATHS)
    def sweep(self, dies_at: int | None) -> None:
        with self._mortal(dies_at):
            self._sweep()

    @rule(refused=st.sets(st.sampled_from(["a", "b", "u1"])))
    def refuse(self, refused: set[str]) -> None:
        """Change which customers Bunce refuses from now on."""
        self.bunce.refused = refused

    @rule(seconds=st.sampled_from([0.4, 2.0, 2.0, LEASE + 1, GRACE + 4, GRACE + 4, 3700, DAY + 1]))
    def wait(self, seconds: float) -> None:
        self._advance(seconds)

    # What must hold

    @invariant()
    def edits_are_kept(self) -> None:
        self.check_wanted()
        self.check_settled()

    def teardown(self) -> None:
        """End all faults; then Bunce has the wanted members."""
        try:
            self._come_to_rest()
        finally:
            self.resources.close()


@pytest.mark.django_db
def test_no_order_of_events_leaves_other_customers_in_a_segment_than_wanted(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.BUNCE_SYNC = {
        "API_KEY": "sk_test_model",
        "LEASE": LEASE,
        "GRACE": GRACE,
        "CONNECT_TIMEOUT": 1,
        "READ_TIMEOUT": 2,
        "RATE_LIMIT": None,
        "CUSTOMERS_PER_REQUEST": 2,
    }
    caplog.set_level(logging.CRITICAL, "bunce_sync")  # thousands of lines
    examples = 1500 if LONG else 60
    # The short form is the same each time; the long one looks for more.
    bounds = hypothesis_settings(
        max_examples=examples, stateful_step_count=30, deadline=None, derandomize=not LONG
    )
    run_state_machine_as_test(Customers, settings=bounds)
