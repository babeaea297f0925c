"""A model of Bunce: exactly what arrives, what is stored, and what the responses are."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from bunce_sync.choices import Outcome
from bunce_sync.client import Page, Position, RemoteSegment
from bunce_sync.client.paging import read_page
from bunce_sync.fingerprint import listed_fingerprint
from bunce_sync.results import Result
from bunce_sync.transitions import Claim

FORBIDDEN = Result(Outcome.REJECTED, code="forbidden", http_status=403)
NOT_FOUND = Result(Outcome.REJECTED, code="not_found", http_status=404)


@dataclass
class Stored:
    """A segment in Bunce; an archived one counts towards its page but is left out of it.

    Attributes:
        create: the request that created it; None for one that was added in the dashboard.
        edited: it was changed in the dashboard.
    """

    id: str
    name: str
    description: str | None
    created_at: datetime
    archived: bool = False
    create: "Request | None" = None
    edited: bool = False

    @property
    def listed_fingerprint(self) -> str:
        return listed_fingerprint(self.name, self.description)


@dataclass(eq=False)
class Request:
    """A request that has been sent.

    Attributes:
        fate: ``open`` while Bunce may still act on it; ``done``: it acted; ``dead``: it never will.
        answer: Bunce's response, whether or not it arrives.
        late: the time after which Bunce does not begin to act.
        given_up: the row gave up the segment on purpose, or it was removed in the dashboard.
    """

    claim: Claim
    sent_at: datetime
    late: datetime
    fate: str = "open"
    answer: Result | None = None
    segment_id: str | None = None
    given_up: bool = False


@dataclass
class Bunce:
    """The segments in Bunce and the requests on their way to it.

    Args:
        order: of the list: by ``newest``, ``oldest``, ``name`` or ``id``.
        unique: whether names are unique.
        upper: whether names that requests send are stored in capitals.
        zone: the offset of the times in its responses; None if they contain none.
        cap: the maximum number of rows on a page, whatever is requested.
        blocked: names that an edge refuses.
        refusing: every create is refused.

    Attributes:
        removed: the segments that were removed in the dashboard.
    """

    order: str = "newest"
    unique: bool = False
    upper: bool = False
    zone: timedelta | None = timedelta(0)
    cap: int | None = None
    blocked: set[str] = field(default_factory=set)
    refusing: bool = False
    segments: dict[str, Stored] = field(default_factory=dict)
    removed: dict[str, Stored] = field(default_factory=dict)
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
        """Record a request that has been sent; from now on Bunce may act on it."""
        request = Request(claim, now, now + patience)
        self.requests.append(request)
        return request

    def act(self, request: Request, now: datetime) -> None:
        """Carry the request out, or refuse it for its content."""
        claim = request.claim
        before = self.segments.get(claim.bunce_id or "")
        if not claim.creates and before is None:
            self.fail(request, NOT_FOUND)
            return
        name = claim.content.get("name", before and before.name)
        description = claim.content.get("description", before and before.description)
        if name in self.blocked or (self.refusing and claim.creates):
            self.fail(request, FORBIDDEN)
            return
        if self.upper and "name" in claim.content:
            name = name.upper()
        request.fate = "done"
        if self.unique and self._taken(name, claim.bunce_id):
            request.fate = "dead"
            request.answer = Result(
                Outcome.REJECTED, code="conflict", detail="name is taken", http_status=422
            )
            return
        if claim.bunce_id is None:
            stored = self.add(name, description, now)
            stored.create = request
        else:
            stored = self.segments[claim.bunce_id]
            stored.name, stored.description = name, description
            for other in self.requests:
                # An assumption: of two updates the one sent later is completed later.
                if other.claim.bunce_id == stored.id and other.sent_at <= request.sent_at:
                    other.fate = "dead" if other.fate == "open" else other.fate
        request.segment_id = stored.id
        request.answer = Result(Outcome.CONFIRMED, segment=self.show(stored), http_status=200)

    def fail(self, request: Request, answer: Result) -> None:
        """Make the request fail permanently, with or without a response."""
        request.fate, request.answer = "dead", answer

    def change(self, stored: Stored, **texts: str | None) -> None:
        """Change name or description in the dashboard."""
        for name, text in texts.items():
            setattr(stored, name, text)
        stored.edited = True

    def remove(self, stored: Stored) -> None:
        """Remove a segment in the dashboard."""
        self.removed[stored.id] = self.segments.pop(stored.id)
        if stored.create is not None:
            stored.create.given_up = True

    def alive(self, segment_id: int) -> list[Request]:
        """Return the creates for a row that created a segment, or still may."""
        return [
            one
            for one in self.requests
            if one.claim.segment_id == segment_id
            and one.claim.bunce_id is None
            and one.fate != "dead"
            and not one.given_up
        ]

    def overdue(self, now: datetime) -> list[Request]:
        """Return the open requests on which Bunce will no longer act."""
        return [one for one in self.requests if one.fate == "open" and one.late <= now]

    def show(self, stored: Stored) -> RemoteSegment:
        """Return the segment as in a response."""
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
        """Return a page of the list as it is now; archived segments are left out after paging."""
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
