"""A model of the customers in Bunce's segments: what arrives, and what takes effect when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from bunce_sync.choices import Operation, Outcome
from bunce_sync.results import Result

#: A member of every segment that the app did not add.
FOREIGN: Final = "x"


@dataclass(eq=False)
class CustomersRequest:
    """A request that has been sent.

    Attributes:
        customers: of an add: what is sent of each customer beside the identifier; of a removal
            nothing.
        fate: ``open`` while Bunce may still act on it; ``done``: it acted; ``dead``: it never will.
        answer: Bunce's response, whether or not it arrives.
        late: the time after which Bunce does not begin to act.
    """

    operation: Operation
    bunce_id: str
    customers: Mapping[str, Mapping[str, str]]
    sent_at: datetime
    late: datetime
    fate: str = "open"
    answer: Result | None = None

    def differs_from(self, other: CustomersRequest) -> set[str]:
        """Return the customers for whom the other request wants something else."""
        if self.bunce_id != other.bunce_id:
            return set()
        both = self.customers.keys() & other.customers.keys()
        if self.operation != other.operation:
            return both
        return {one for one in both if self.customers[one] != other.customers[one]}


@dataclass
class CustomersBunce:
    """The customers of each segment, and the requests on their way to Bunce.

    Attributes:
        members: by the id of the segment.
        foreign: those that the app did not add at first, by the id of the segment.
        profiles: what Bunce stores about each customer, whatever the segment.
        refused: identifiers that Bunce refuses.
        ever_refused: those that were in a request that it refused.
        added: the customers that the app has, or may have, added, by the id of the segment.
        ours: those that it has added.
    """

    members: dict[str, set[str]] = field(default_factory=dict)
    foreign: dict[str, set[str]] = field(default_factory=dict)
    profiles: dict[str, dict[str, str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    ever_refused: set[str] = field(default_factory=set)
    added: dict[str, set[str]] = field(default_factory=dict)
    ours: dict[str, set[str]] = field(default_factory=dict)
    requests: list[CustomersRequest] = field(default_factory=list)
    _ids: count[int] = field(default_factory=count)

    def add_segment(self, *foreign: str) -> str:
        """Store a segment with customers that the app did not add; return its id."""
        bunce_id = f"s{next(self._ids)}"
        self.members[bunce_id] = {FOREIGN, *foreign}
        self.foreign[bunce_id] = {FOREIGN, *foreign}
        self.added[bunce_id], self.ours[bunce_id] = set(), set()
        return bunce_id

    def receive(
        self,
        operation: Operation,
        bunce_id: str,
        customers: Mapping[str, Mapping[str, str]],
        now: datetime,
        patience: timedelta,
    ) -> CustomersRequest:
        """Record a request that has been sent; from now on Bunce may act on it."""
        request = CustomersRequest(operation, bunce_id, customers, now, now + patience)
        for other in self.requests:
            if other.fate == "open":
                overtaken = request.differs_from(other)
                assert not overtaken, f"{request} is sent while {other} may still act: {overtaken}"
        if operation == Operation.REMOVE:
            strangers = customers.keys() - self.added[bunce_id]
            assert not strangers, f"{strangers} are removed, whom the app did not add"
        self.requests.append(request)
        return request

    def act(self, request: CustomersRequest) -> None:
        """Carry the request out, or refuse it for one of its customers."""
        if named := sorted(self.refused & request.customers.keys()):
            self.refuse(request, f"customers[0] is not valid: {named[0]}")
            return
        members = self.members[request.bunce_id]
        if request.operation == Operation.ADD:
            members.update(request.customers)
            self.ours[request.bunce_id].update(request.customers)
            for identifier, profile in request.customers.items():
                self.profiles.setdefault(identifier, {}).update(profile)
        else:
            members.difference_update(request.customers)
        request.fate, request.answer = "done", Result(Outcome.CONFIRMED, http_status=200)

    def refuse(self, request: CustomersRequest, words: str = "No.") -> None:
        """Refuse what the request contains; nothing is stored."""
        self.ever_refused.update(request.customers)
        self.fail(request, Result(Outcome.REJECTED, code="rejected", detail=words, http_status=422))

    def fail(self, request: CustomersRequest, answer: Result) -> None:
        """Make the request fail permanently, with or without a response."""
        request.fate, request.answer = "dead", answer

    @property
    def open_requests(self) -> list[CustomersRequest]:
        """The requests on which Bunce may still act."""
        return [one for one in self.requests if one.fate == "open"]
