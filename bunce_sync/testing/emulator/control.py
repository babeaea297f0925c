"""The health check and the control endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from types import UnionType
from typing import Any

from .api import customer_identifiers, describe
from .application import Application
from .http import HttpError, Request, Response, Routes, dump, or_404
from .options import OPTIONS_FIELDS, Faults, check_names
from .store import StoredSegment

_SHOWN_DUPLICATES = 50
_TEXT = (str, "a string")
_OPTIONAL_TEXT = (str | None, "a string or null")
_FIELDS_OF_A_CHANGE = {"name": _TEXT, "description": _OPTIONAL_TEXT}
_FIELDS_OF_A_SEGMENT = {
    **_FIELDS_OF_A_CHANGE,
    "type": _OPTIONAL_TEXT,
    "all_customers": (bool, "true or false"),
    "id": _OPTIONAL_TEXT,
}


class ControlEndpoints:
    """Calls about the emulator itself, in JSON.

    They need no key, are not logged and do not count towards the rate limit:

    ``GET /health``: 200 if it runs;
    ``GET /control/state``: figures;
    ``POST /control/segments``: add a segment as in Bunce's dashboard, with ``name`` and optional
    ``description``, ``type``, ``all_customers`` and ``id``;
    ``GET, PATCH, DELETE /control/segments/{id}``: read, change or remove one. PATCH takes ``name``
    and ``description``. Any text is accepted, also a blank or a long one;
    ``GET, POST, DELETE /control/segments/{id}/customers``: read who is in a segment, with the
    numbers of requests; add or remove customers as in Bunce's dashboard, given as an array
    ``customers`` of customer_ids and emails;
    ``GET, PUT /control/faults``: the faults. PUT replaces all of them and also accepts ``seed``
    and ``script`` (the faults of the next creates as an array, or an object with an array for
    each of ``POST``, ``PATCH``, ``GET``, ``POST customers`` and ``DELETE customers``);
    ``GET, PUT /control/settings``: the options. PUT changes those that are given;
    ``POST /control/reset``: delete all data, restore the initial options and faults.
    """

    def __init__(self, bunce: Application) -> None:
        self._bunce = bunce

    def routes(self) -> Routes:
        """Return the handlers of all pages."""
        return {
            "/health": {"GET": lambda _: _json({"status": "ok"})},
            "/control/state": {"GET": self._state},
            "/control/segments": {"POST": self._add_segment},
            "/control/segments/{id}": {
                "GET": self._get_segment,
                "PATCH": self._change_segment,
                "DELETE": self._remove_segment,
            },
            "/control/segments/{id}/customers": {
                "GET": self._get_members,
                "POST": self._add_members,
                "DELETE": self._remove_members,
            },
            "/control/faults": {"GET": self._faults, "PUT": self._set_faults},
            "/control/settings": {"GET": self._settings, "PUT": self._set_settings},
            "/control/reset": {"POST": self._reset},
        }

    def _state(self, _: Request) -> Response:
        bunce = self._bunce
        window = bunce.options.rate_window
        duplicates = bunce.duplicates if bunce.duplicate_count else []
        return _json(
            {
                "segments": len(bunce.segments),
                "customers": bunce.customer_count,
                "duplicate_count": bunce.duplicate_count,
                "duplicates": [
                    {
                        "name": group[0].name,
                        "description": group[0].description,
                        "ids": [segment.id for segment in group],
                    }
                    for group in islice(duplicates, _SHOWN_DUPLICATES)
                ],
                "requests": bunce.served,
                "limited": bunce.limited,
                "blocked": bunce.blocked,
                "recent": bunce.recent(window),
                "worst_window": bunce.worst_window(window),
                "pending_writes": bunce.pending_writes,
                "scripted": bunce.scripted,
                "injected": dict(bunce.injected),
            }
        )

    def _add_segment(self, request: Request) -> Response:
        values = _segment_fields(request, _FIELDS_OF_A_SEGMENT)
        if "name" not in values:
            raise HttpError(422, "name is required")
        try:
            segment = self._bunce.add_segment(**values)
        except ValueError as error:
            raise HttpError(422, str(error)) from None
        return self._segment(segment, 201)

    def _get_segment(self, _: Request, segment_id: str) -> Response:
        with or_404():
            return self._segment(self._bunce.segment(segment_id))

    def _change_segment(self, request: Request, segment_id: str) -> Response:
        values = _segment_fields(request, _FIELDS_OF_A_CHANGE)
        with or_404():
            return self._segment(self._bunce.change_segment(segment_id, **values))

    def _remove_segment(self, _: Request, segment_id: str) -> Response:
        with or_404():
            self._bunce.remove_segment(segment_id)
        return Response(204)

    def _get_members(self, _: Request, segment_id: str) -> Response:
        with or_404():
            members = self._bunce.member_ids(segment_id)
            totals = self._bunce.customer_totals(segment_id)
        return _json({"customers": sorted(members), **asdict(totals)})

    def _add_members(self, request: Request, segment_id: str) -> Response:
        with or_404():
            self._bunce.add_members(segment_id, customer_identifiers(request.json()))
        return Response(204)

    def _remove_members(self, request: Request, segment_id: str) -> Response:
        with or_404():
            self._bunce.remove_members(segment_id, customer_identifiers(request.json()))
        return Response(204)

    def _segment(self, segment: StoredSegment, status: int = 200) -> Response:
        return Response(status, dump(describe(segment, self._bunce.options)))

    def _faults(self, _: Request) -> Response:
        return _json({**self._bunce.faults.as_dict(), "seed": self._bunce.seed})

    def _set_faults(self, request: Request) -> Response:
        values: dict[str, Any] = request.json()
        seed, script = values.pop("seed", None), values.pop("script", [])
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise HttpError(422, "seed must be a whole number")
        scripts = script.values() if isinstance(script, dict) else [script]
        if not all(isinstance(each, list) for each in scripts):
            raise HttpError(
                422, "script must be an array of fault names or nulls, or an object of such arrays"
            )
        try:
            self._bunce.set_faults(Faults.from_mapping(values), seed=seed, script=script)
        except (ValueError, TypeError) as error:
            raise HttpError(422, str(error)) from None
        return self._faults(request)

    def _settings(self, _: Request) -> Response:
        options = asdict(self._bunce.options)
        del options["key"]  # this page needs no key, so it must not reveal it
        return _json(options)

    def _set_settings(self, request: Request) -> Response:
        values = request.json()
        if values.get("outage") == "refuse":
            raise HttpError(422, 'outage "refuse" would also refuse the request that ends it')
        try:
            check_names(values, OPTIONS_FIELDS)
            self._bunce.set(**values)
        except (ValueError, TypeError) as error:
            raise HttpError(422, str(error)) from None
        return self._settings(request)

    def _reset(self, request: Request) -> Response:
        self._bunce.reset()
        return self._state(request)


def _segment_fields(
    request: Request, known: Mapping[str, tuple[type | UnionType, str]]
) -> dict[str, Any]:
    """Return the fields of a segment in a request, of which only the types are checked."""
    values = request.json()
    for name, value in values.items():
        if name not in known:
            raise HttpError(422, f"unknown field {name!r}; known: {', '.join(known)}")
        kind, expected = known[name]
        if not isinstance(value, kind):
            raise HttpError(422, f"{name} must be {expected}")
    return values


def _json(value: object) -> Response:
    return Response(200, dump(value))
