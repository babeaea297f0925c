"""The segment calls of Bunce's API and what they accept."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

from .http import HttpError, Request, Response, Routes, proxy_page, success
from .options import Options, Times
from .paging import list_segments
from .store import NameTakenError, Store, StoredSegment

PREFIX = "/v1"
MAX_NAME = 255
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_CUSTOMER_TEXTS = ("customer_id", "email", "first_name", "last_name", "phone_no")


class SegmentsApi:
    """Bunce's segment calls over a store. Not thread-safe: the caller holds a lock.

    Args:
        options: returns the current options.
        shuffler: draws the order of shuffled lists.
    """

    def __init__(
        self, store: Store, options: Callable[[], Options], shuffler: random.Random
    ) -> None:
        self._store = store
        self._options = options
        self._shuffler = shuffler

    def routes(self) -> Routes:
        """Return the handlers of all calls."""
        return {
            f"{PREFIX}/segments": {"POST": self._create, "GET": self._list},
            f"{PREFIX}/segments/{{id}}": {"GET": self._get, "PATCH": self._update},
            f"{PREFIX}/segments/{{id}}/customers": {
                "POST": self._add_customers,
                "DELETE": self._remove_customers,
            },
            f"{PREFIX}/segments/{{id}}/all-customers": {"POST": self._add_all_customers},
        }

    def _create(self, request: Request) -> Response:
        options = self._options()
        body = request.json()
        if _is_blocked(body, options):
            return proxy_page(403)
        name = _required_name(body)
        description = _optional_text(body, "description")
        all_customers = _optional_flag(body, "add_all_customers")
        if name in options.taken_names:
            raise HttpError(400, "name taken")
        if options.plan_limit is not None and len(self._store.segments) >= options.plan_limit:
            raise HttpError(403, "You have reached the limit of your plan.")
        try:
            segment = self._store.add_segment(
                _stored_name(name, options),
                description,
                all_customers=all_customers,
                unique=options.unique_names,
            )
        except NameTakenError:
            raise _name_taken() from None
        return success(describe(segment, options), "Segment created successfully", 201)

    def _list(self, request: Request) -> Response:
        options = self._options()
        row = partial(describe, options=options)
        return list_segments(self._store, request.query, options, self._shuffler, row)

    def _get(self, _: Request, segment_id: str) -> Response:
        segment = describe(self._segment(segment_id), self._options())
        return success(segment, "Segment fetched successfully")

    def _update(self, request: Request, segment_id: str) -> Response:
        options = self._options()
        body = request.json()
        if _is_blocked(body, options):
            return proxy_page(403)
        segment = self._segment(segment_id)
        changes: dict[str, str | None] = {}
        if "name" in body:
            name = _required_name(body)
            if options.stored_name != "keep_old":
                changes["name"] = _stored_name(name, options)
        if "description" in body:
            changes["description"] = _optional_text(body, "description")
        if changes:
            try:
                segment = self._store.update_segment(
                    segment.id, changes, unique=options.unique_names
                )
            except NameTakenError:
                raise _name_taken() from None
        return success(describe(segment, options), "Segment updated successfully")

    def _add_customers(self, request: Request, segment_id: str) -> Response:
        segment = self._segment(segment_id)
        options = self._options()
        customers = _customers_to_add(request.json())
        _check_number(customers, options)
        limit = options.customers_plan_limit
        if limit is not None and len(self._store.customers) >= limit:
            raise HttpError(422, "You have reached the limit of your plan.")
        for index, customer in enumerate(customers):
            for field in ("customer_id", "email"):
                _check_identifier(customer.get(field), options, index, f".{field}")
        self._store.add_customers(segment.id, customers)
        self._store.count_request(segment.id, added=len(customers))
        return success(None, "Customers added to segment successfully")

    def _add_all_customers(self, request: Request, segment_id: str) -> Response:
        segment = self._segment(segment_id)
        request.json()  # a body that cannot be read is refused
        self._store.add_all_customers(segment.id)
        return success(None, "All customers added to segment successfully")

    def _remove_customers(self, request: Request, segment_id: str) -> Response:
        segment = self._segment(segment_id)
        options = self._options()
        keys = customer_identifiers(request.json())
        _check_number(keys, options)
        for index, key in enumerate(keys):
            _check_identifier(key, options, index)
        self._store.remove_customers(segment.id, keys)
        self._store.count_request(segment.id, removed=len(keys))
        return success(None, "Customers removed from segment successfully")

    def _segment(self, segment_id: str) -> StoredSegment:
        if not _UUID.match(segment_id):
            raise HttpError(400, "ID param is not valid UUID")
        segment = self._store.segments.get(segment_id.lower())
        if segment is None:
            raise HttpError(404, "Segment not found")
        return segment


def describe(segment: StoredSegment, options: Options) -> dict[str, object]:
    """Return a segment as responses show it."""
    return {
        "id": segment.id,
        "name": segment.name,
        "description": segment.description,
        "conditions": None,
        "type": segment.type,
        "all_customers": int(segment.all_customers),
        "customers_count": segment.customers_count,
        "created_at": _time(segment.created_at, options.times),
        "updated_at": _time(segment.updated_at, options.times),
    }


def _time(moment: datetime, times: Times) -> str | None:
    match times:
        case "plain":
            return moment.strftime("%Y-%m-%d %H:%M:%S")
        case "iso":
            return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        case "none":
            return None


def _is_blocked(body: Mapping[str, object], options: Options) -> bool:
    name = body.get("name")
    text = options.blocked_text
    return text is not None and isinstance(name, str) and text in name


def _stored_name(name: str, options: Options) -> str:
    if options.stored_name == "upper":
        return name.upper()
    if options.stored_name == "collapse":
        return re.sub(r"\s+", " ", name)
    return name


def _name_taken() -> HttpError:
    return HttpError(422, "name has already been taken")


def _required_name(body: Mapping[str, object]) -> str:
    name = body.get("name")
    if name is None or name == "":
        raise HttpError(422, "name is required and must be present")
    if not isinstance(name, str):
        raise HttpError(422, "name must be a string")
    if not name.strip():
        raise HttpError(422, "name is required and must not be blank")
    if len(name) > MAX_NAME:
        raise HttpError(422, f"name must not be longer than {MAX_NAME} characters")
    return name


def _optional_text(body: Mapping[str, object], field: str) -> str | None:
    value = body.get(field)
    if value is not None and not isinstance(value, str):
        raise HttpError(422, f"{field} must be a string")
    return value


def _optional_flag(body: Mapping[str, object], field: str) -> bool:
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise HttpError(422, f"{field} must be a boolean")
    return bool(value)


def _check_number(customers: Sequence[object], options: Options) -> None:
    limit = options.customers_limit
    if limit is None or len(customers) <= limit:
        return
    if options.customers_limit_status == 413:
        raise HttpError(413, "Payload too large")
    raise HttpError(422, f"The customers field must not have more than {limit} items.")


def _check_identifier(value: object, options: Options, index: int, field: str = "") -> None:
    text = options.refused_customer_text
    if value in options.refused_customers or (
        text is not None and isinstance(value, str) and text in value
    ):
        raise HttpError(422, f"customers[{index}]{field} is not valid: {value}")


def _customers_to_add(body: Mapping[str, object]) -> list[dict[str, object]]:
    checked = []
    for index, entry in enumerate(_customers(body)):
        if not isinstance(entry, dict):
            raise HttpError(422, f"customers[{index}] must be an object")
        for field in _CUSTOMER_TEXTS:
            if not isinstance(entry.get(field), str | None):
                raise HttpError(422, f"customers[{index}].{field} must be a string")
        if not isinstance(entry.get("devices", []), list | None):
            raise HttpError(422, f"customers[{index}].devices must be an array")
        if not entry.get("customer_id") and not entry.get("email"):
            raise HttpError(422, f"customers[{index}] must have a customer_id or an email")
        checked.append(entry)
    return checked


def customer_identifiers(body: Mapping[str, object]) -> list[str]:
    """Return the customer_ids and emails in the body of a request.

    Raises:
        HttpError: 422 if they are missing, empty or not texts.
    """
    keys = []
    for index, entry in enumerate(_customers(body)):
        if not isinstance(entry, str) or not entry:
            raise HttpError(422, f"customers[{index}] must be a customer_id or an email")
        keys.append(entry)
    return keys


def _customers(body: Mapping[str, object]) -> list[object]:
    entries = body.get("customers")
    if entries is None:
        raise HttpError(422, "customers is required and must be present")
    if not isinstance(entries, list):
        raise HttpError(422, "customers must be an array")
    if not entries:
        raise HttpError(422, "customers must not be empty")
    return entries
