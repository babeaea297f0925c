"""Bunce as a model: exact about what arrives, what is stored, and what is answered."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from bunce_sync.sync.outcome import Claim, Result

from bunce_sync.client import Page, Position, RemoteSegment
from bunce_sync.client.paging import read_page
from bunce_sync.fingerprint import content_digest
from bunce_sync.models import ApiCall

Outcome = ApiCall.Outcome

FORBIDDEN = Result(Outcome.REJECTED, code="forbidden", http_status=403)


@dataclass
class Stored:
    """A segment in Bunce; one that is archived takes its place in the list and is left out."""

    id: str
    name: str
    description: str | None
    created_at: datetime
    archived: bool = False

    @property
    def digest(self) -> str:
        return content_digest(self.name, self.description)


@dataclass(eq=False)
class Request:
    """A request whose bytes have left.

    Attributes:
        fate: ``open`` while Bunce may still act on it; ``done``: it acted; ``dead``: it never will.
        answer: what Bunce answers, whether that is heard or not.
        late: from then on Bunce is sure not to begin acting any more.
    """

    claim: Claim
    sent_at: datetime
    late: datetime
    fate: str = "open"
    answer: Result | None = None
    segment_id: str | None = None


@dataclass
class Bunce:
    """What Bunce holds and what is on its way to it.

    Args:
        order: of the list: by ``newest``, ``oldest``, ``name`` or ``id``.
        unique: whether names are unique.
        zone: by how much the times in its answers are off; None when there are none.
        cap: rows a page has at most, whatever is asked for.
        blocked: names that an edge refuses.
        refusing: creates are refused, whatever they say.
    """

    order: str = "newest"
    unique: bool = False
    zone: timedelta | None = timedelta(0)
    cap: int | None = None
    blocked: set[str] = field(default_factory=set)
    refusing: bool = False
    segments: dict[str, Stored] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    _ids: "count[int]" = field(default_factory=count)

    def add(
        self, name: str, description: str | None, created_at: datetime, *, archived: bool = False
    ) -> Stored:
        """Store a segment."""
        # Scattered, so that the order by id is not the order of creation.
        number = next(self._ids)
        stored = Stored(f"{number * 7 % 10}-{number}", name, description, created_at, archived)
        self.segments[stored.id] = stored
        return stored

    def receive(self, claim: Claim, now: datetime, patience: timedelta) -> Request:
        """Bytes have left; from here on Bunce may act."""
        request = Request(claim, now, now + patience)
        self.requests.append(request)
        return request

    def act(self, request: Request, now: datetime) -> None:
        """Carry the request out, or refuse it for what it says."""
        claim = request.claim
        if claim.name in self.blocked or (self.refusing and claim.creates):
            self.fail(request, FORBIDDEN)
            return
        request.fate = "done"
        if self.unique and self._taken(claim.name, claim.bunce_id):
            request.fate = "dead"
            request.answer = Result(
                Outcome.REJECTED, code="conflict", detail="name is taken", http_status=422
            )
            return
        if claim.bunce_id is None:
            stored = self.add(claim.name, claim.description, now)
        else:
            stored = self.segments[claim.bunce_id]
            stored.name, stored.description = claim.name, claim.description
            for other in self.requests:
                # Taken for granted: of two updates the one sent later is completed later.
                if other.claim.bunce_id == stored.id and other.sent_at <= request.sent_at:
                    other.fate = "dead" if other.fate == "open" else other.fate
        request.segment_id = stored.id
        request.answer = Result(Outcome.CONFIRMED, segment=self.show(stored), http_status=200)

    def fail(self, request: Request, answer: Result) -> None:
        """Never act on the request, and say so or not."""
        request.fate, request.answer = "dead", answer

    def alive(self, segment_id: int) -> list[Request]:
        """The creates for a row that made a segment, or still may."""
        return [
            one
            for one in self.requests
            if one.claim.segment_id == segment_id
            and one.claim.bunce_id is None
            and one.fate != "dead"
        ]

    def overdue(self, now: datetime) -> list[Request]:
        """Requests that are decided by now at the latest."""
        return [one for one in self.requests if one.fate == "open" and one.late <= now]

    def show(self, stored: Stored) -> RemoteSegment:
        """The segment as an answer has it."""
        created = None
        if self.zone is not None:
            created = stored.created_at.replace(microsecond=0) + self.zone
        return RemoteSegment(
            id=stored.id,
            name=stored.name,
            description=stored.description,
            type="manual",
            created_at=created,
        )

    def page(self, position: Position) -> Page:
        """A page of the list as it is now; what is archived is filtered out after paging."""
        keys = {
            "newest": lambda one: (-one.created_at.timestamp(), one.id),
            "oldest": lambda one: (one.created_at.timestamp(), one.id),
            "name": lambda one: (one.name, one.id),
            "id": lambda one: one.id,
        }
        rows = sorted(self.segments.values(), key=keys[self.order])
        size = min(position.per_page, self.cap or position.per_page)
        begin = (position.page - 1) * size
        some = rows[begin : begin + size]
        shown = [self.show(one) for one in some if not one.archived]
        data = [
            {
                "id": one.id,
                "name": one.name,
                "description": one.description,
                "type": one.type,
                "created_at": one.created_at and one.created_at.isoformat(),
            }
            for one in shown
        ]
        content = {"success": True, "data": data}
        return read_page(content, position, http_status=200)

    def _taken(self, name: str, by_other_than: str | None) -> bool:
        return any(one.name == name and one.id != by_other_than for one in self.segments.values())
