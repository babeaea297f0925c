"""The seven segment calls of Bunce's API: routes, rules and answers, no connections."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import validation
from .messages import Request, Response, failure, proxy_page, success
from .options import Options, StoredName
from .paging import list_segments
from .state import NameTakenError, Store, StoredSegment
from .validation import InvalidError

PREFIX = "/v1"
_WHITESPACE = re.compile(r"\s+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_TIME = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Call:
    """One request matched to one of the seven calls; ``run`` carries it out."""

    name: str
    run: Callable[[], Response]

    @property
    def about_customers(self) -> bool:
        """Whether the call is about a segment's customers."""
        return self.name.endswith("customers")


class SegmentsApi:
    """Bunce's segment calls over a store. Not thread-safe: the caller has a lock.

    Args:
        store: the data.
        options: asked anew for each call, since they can change.
        shuffler: draws the order of lists that are shuffled.
    """

    def __init__(
        self, store: Store, options: Callable[[], Options], shuffler: random.Random
    ) -> None:
        self.store = store
        self._options = options
        self._shuffler = shuffler

    def authorized(self, request: Request) -> bool:
        """Whether the request carries a key that is accepted."""
        given = request.headers.get("x-authorization", "")
        key = self._options().key
        return given == key if key is not None else given.startswith("sk_test_")

    def match(self, request: Request) -> Call | Response:
        """Find the call for a request, or the 404, 405 or 400 that answers it."""
        parts = request.path.removeprefix(PREFIX).strip("/").split("/")
        match parts:
            case ["segments"]:
                methods: dict[str, Callable[[], Response]] = {
                    "POST": lambda: self._create(request),
                    "GET": lambda: self._list(request),
                }
                names = {"POST": "create", "GET": "list"}
            case ["segments", segment_id]:
                methods = {
                    "GET": lambda: self._get(segment_id),
                    "PATCH": lambda: self._update(request, segment_id),
                }
                names = {"GET": "get", "PATCH": "update"}
            case ["segments", segment_id, "customers"]:
                methods = {
                    "POST": lambda: self._add_customers(request, segment_id),
                    "DELETE": lambda: self._remove_customers(request, segment_id),
                }
                names = {"POST": "add_customers", "DELETE": "remove_customers"}
            case ["segments", segment_id, "all-customers"]:
                methods = {"POST": lambda: self._add_all_customers(request, segment_id)}
                names = {"POST": "add_all_customers"}
            case _:
                return failure(404, f"Cannot {request.method} {request.path}")
        run = methods.get(request.method)
        if run is None:
            allowed = (("Allow", ", ".join(methods)),)
            return failure(405, f"Method {request.method} is not allowed here", allowed)
        return Call(names[request.method], lambda: self._guarded(run))

    def describe(self, segment: StoredSegment) -> dict[str, object]:
        """Return what an answer says of a segment."""
        return {
            "id": segment.id,
            "name": segment.name,
            "description": segment.description,
            "conditions": None,
            "type": segment.type,
            "all_customers": int(segment.all_customers),
            "customers_count": segment.customers_count,
            "created_at": self._time(segment.created_at),
            "updated_at": self._time(segment.updated_at),
        }

    def _time(self, moment: datetime) -> str:
        return (moment + timedelta(seconds=self._options().clock_offset)).strftime(_TIME)

    def _guarded(self, run: Callable[[], Response]) -> Response:
        try:
            return run()
        except InvalidError as error:
            return failure(error.status, error.message)
        except NameTakenError:
            return failure(422, "name has already been taken")

    def _segment(self, segment_id: str) -> StoredSegment:
        if not _UUID.match(segment_id):
            raise InvalidError("ID param is not valid UUID", 400)
        segment = self.store.segments.get(segment_id.lower())
        if segment is None:
            raise InvalidError("Segment not found", 404)
        return segment

    def _create(self, request: Request) -> Response:
        options = self._options()
        body = validation.read_object(request)
        if _is_blocked(body, options):
            return proxy_page(403)
        name = validation.required_name(body)
        description = validation.optional_text(body, "description")
        all_customers = validation.optional_flag(body, "add_all_customers")
        if name in options.taken_names:
            raise InvalidError("name taken", 400)
        if options.plan_limit is not None and len(self.store.segments) >= options.plan_limit:
            raise InvalidError("You have reached the limit of your plan.", 403)
        segment = self.store.add_segment(
            _stored_name(name, options.stored_name),
            description,
            all_customers=all_customers,
            unique=options.unique_names,
        )
        return success(self.describe(segment), "Segment created successfully", 201)

    def _list(self, request: Request) -> Response:
        return list_segments(
            self.store, request.query, self._options(), self._shuffler, self.describe
        )

    def _get(self, segment_id: str) -> Response:
        segment = self._segment(segment_id)
        return success(self.describe(segment), "Segment fetched successfully")

    def _update(self, request: Request, segment_id: str) -> Response:
        options = self._options()
        body = validation.read_object(request)
        if _is_blocked(body, options):
            return proxy_page(403)
        segment = self._segment(segment_id)
        changes: dict[str, str | None] = {}
        if "name" in body:
            name = validation.required_name(body)
            if options.stored_name != "keep_old":
                changes["name"] = _stored_name(name, options.stored_name)
        if "description" in body:
            changes["description"] = validation.optional_text(body, "description")
        if changes:
            segment = self.store.update_segment(segment.id, changes, unique=options.unique_names)
        return success(self.describe(segment), "Segment updated successfully")

    def _add_customers(self, request: Request, segment_id: str) -> Response:
        segment = self._segment(segment_id)
        entries = validation.customers_to_add(validation.read_object(request))
        self.store.add_customers(segment.id, entries)
        return success(None, "Customers added to segment successfully")

    def _add_all_customers(self, request: Request, segment_id: str) -> Response:
        segment = self._segment(segment_id)
        validation.read_object(request)
        self.store.add_all_customers(segment.id)
        return success(None, "All customers added to segment successfully")

    def _remove_customers(self, request: Request, segment_id: str) -> Response:
        segment = self._segment(segment_id)
        keys = validation.customers_to_remove(validation.read_object(request))
        self.store.remove_customers(segment.id, keys)
        return success(None, "Customers removed from segment successfully")


def _is_blocked(body: dict[str, object], options: Options) -> bool:
    if options.blocked_text is None:
        return False
    name = body.get("name")
    return isinstance(name, str) and options.blocked_text in name


def _stored_name(name: str, kind: StoredName) -> str:
    if kind == "upper":
        return name.upper()
    if kind == "collapse":
        return _WHITESPACE.sub(" ", name)
    return name
