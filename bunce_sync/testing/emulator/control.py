"""The front page, the health check and the control endpoints."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from html import escape
from itertools import islice
from pathlib import Path
from string import Template

from .api import PREFIX
from .application import Application
from .http import HTML, HttpError, Request, Response, Routes, dump
from .options import OPTIONS_FIELDS, Faults, check_names
from .store import StoredSegment

_SHOWN_SEGMENTS = 200
_SHOWN_DUPLICATES = 50


class ControlPages:
    """Pages about the emulator itself.

    They need no key, are not logged and do not count towards the rate limit:

    ``GET /``: the front page;
    ``GET /health``: 200 if it runs;
    ``GET /control/state``: figures, as JSON;
    ``GET, PUT /control/faults``: the faults. PUT replaces all of them and also accepts ``seed``
    and ``script`` (the faults of the next creates, as a list);
    ``GET, PUT /control/settings``: the options. PUT changes those that are given;
    ``POST /control/reset``: delete all data, restore the initial options and faults.
    """

    def __init__(self, bunce: Application) -> None:
        self._bunce = bunce

    def routes(self) -> Routes:
        """Return the handlers of all pages."""
        return {
            "/": {"GET": self._front_page},
            "/health": {"GET": lambda _: _json({"status": "ok"})},
            "/favicon.ico": {"GET": lambda _: Response(204)},
            "/control/state": {"GET": self._state},
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
                "customers": len(bunce.customers),
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

    def _faults(self, _: Request) -> Response:
        return _json({**self._bunce.faults.as_dict(), "seed": self._bunce.seed})

    def _set_faults(self, request: Request) -> Response:
        values = request.json()
        seed, script = values.pop("seed", None), values.pop("script", [])
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise HttpError(422, "seed must be a whole number")
        if not isinstance(script, list):
            raise HttpError(422, "script must be an array of fault names or nulls")
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

    def _front_page(self, request: Request) -> Response:
        bunce = self._bunce
        options = bunce.options
        segments = bunce.newest(_SHOWN_SEGMENTS)
        total = len(bunce.segments)
        heading = "Segments, newest first"
        if total > len(segments):
            heading = f"The newest {len(segments):,} of {total:,} segments"
        key_hint = "Only the key given at the start is accepted."
        if options.key is None:
            key_hint = (
                "Any key that begins with <code>sk_test_</code> is accepted, "
                "for example <code>sk_test_local</code>."
            )
        page = _template("front_page.html").substitute(
            base_url=escape(f"http://{request.headers.get('host', '')}{PREFIX}"),
            key_hint=key_hint,
            segments=f"{total:,}",
            duplicates=f"{bunce.duplicate_count:,}",
            customers=f"{len(bunce.customers):,}",
            served=f"{bunce.served:,}",
            window=f"{options.rate_window:g}",
            recent=f"{bunce.recent(options.rate_window):,}",
            limit="no limit" if options.rate_limit is None else f"{options.rate_limit:,}",
            limited=f"{bunce.limited:,}",
            warnings="\n".join(f'<p class="warn">{escape(line)}</p>' for line in self._warnings()),
            heading=heading,
            rows="".join(_row(segment) for segment in segments)
            or '<tr><td colspan="6" class="soft">No segments yet.</td></tr>',
        )
        return Response(200, page.encode("utf-8", "replace"), HTML)

    def _warnings(self) -> list[str]:
        bunce = self._bunce
        lines = []
        if bunce.options.outage is not None:
            lines.append(f"Outage: every API request gets “{bunce.options.outage}”.")
        if faults := bunce.faults.in_force():
            listed = ", ".join(f"{name} {chance:.4g}" for name, chance in faults.items())
            lines.append(f"Faults and their probabilities: {listed}.")
        if bunce.scripted:
            lines.append(f"Faults scripted for the next calls: {bunce.scripted}.")
        if bunce.pending_writes:
            lines.append(f"Pending writes: {bunce.pending_writes}.")
        return lines + [
            f"{address} exceeded the rate limit and is blocked for {seconds} more seconds."
            for address, seconds in bunce.blocked.items()
        ]


def _row(segment: StoredSegment) -> str:
    everyone = " (all)" if segment.all_customers else ""
    return _template("front_page_row.html").substitute(
        name=escape(segment.name),
        description=escape(segment.description or ""),
        type=escape(segment.type),
        customers=f"{segment.customers_count:,}{everyone}",
        created_at=segment.created_at.strftime("%Y-%m-%d %H:%M:%S"),
        id=segment.id,
    )


@cache
def _template(name: str) -> Template:
    return Template(Path(__file__).with_name(name).read_text("utf-8"))


def _json(value: object) -> Response:
    return Response(200, dump(value))
