"""What is not Bunce's API: the front page, health, and the control endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from .faults import Faults
from .messages import HTML, Request, Response, dump, failure
from .options import OPTION_NAMES
from .pages import SHOWN, Summary, front_page
from .validation import InvalidError, read_object

if TYPE_CHECKING:
    from .server import Emulator

_LISTED_DUPLICATES = 50


class ControlPages:
    """Answers requests that are about the emulator instead of Bunce.

    They need no key, are not in the log and do not count for the rate limit:

    ``GET /``: the front page;
    ``GET /health``: 200 when it runs;
    ``GET /control/state``: figures, as JSON;
    ``GET, PUT /control/faults``: the faults; PUT replaces all of them, ``seed`` and ``script``
    (a list of faults for the next creates) may be among them;
    ``GET, PUT /control/settings``: the options; PUT changes those that are given,
    ``outage_seconds`` may be among them;
    ``POST /control/reset``: back to how everything was at the start.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._routes: dict[str, dict[str, Callable[[Request], Response]]] = {
            "/": {"GET": self._front},
            "/health": {"GET": lambda _: _json({"status": "ok"})},
            "/favicon.ico": {"GET": lambda _: Response(204, b"")},
            "/control/state": {"GET": lambda _: _json(self.state())},
            "/control/faults": {"GET": lambda _: self._faults(), "PUT": self._set_faults},
            "/control/settings": {"GET": lambda _: self._settings(), "PUT": self._set_settings},
            "/control/reset": {"POST": self._reset},
        }

    def answer(self, request: Request) -> Response | None:
        """Return the answer, or None when the path is not one of these."""
        methods = self._routes.get(request.path)
        if methods is None:
            return None
        run = methods.get(request.method)
        if run is None:
            allowed = (("Allow", ", ".join(methods)),)
            return failure(405, f"Use {' or '.join(methods)} here", allowed)
        try:
            return run(request)
        except InvalidError as error:
            return failure(error.status, error.message)
        except (ValueError, TypeError) as error:
            return failure(422, str(error))

    def state(self) -> dict[str, object]:
        """Return the figures of ``/control/state``."""
        bunce = self._emulator
        duplicates = bunce.duplicates if bunce.twins else []
        return {
            "segments": len(bunce.segments),
            "customers": len(bunce.customers),
            "twins": bunce.twins,
            "duplicates": [
                {
                    "name": group[0].name,
                    "description": group[0].description,
                    "ids": [segment.id for segment in group],
                }
                for group in islice(duplicates, _LISTED_DUPLICATES)
            ],
            "requests": bunce.served,
            "limited": bunce.limited,
            "blocked": bunce.blocked,
            "recent": bunce.recent(bunce.options.rate_window),
            "worst_window": bunce.worst_window(bunce.options.rate_window),
            "unsettled": bunce.unsettled,
            "scripted": bunce.scripted,
            "suffered": dict(bunce.suffered),
        }

    def _front(self, _: Request) -> Response:
        bunce = self._emulator
        options = bunce.options
        summary = Summary(
            base_url=bunce.base_url,
            key=options.key,
            segments=len(bunce.segments),
            customers=len(bunce.customers),
            twins=bunce.twins,
            served=bunce.served,
            recent=bunce.recent(options.rate_window),
            window=options.rate_window,
            limit=options.rate_limit,
            limited=bunce.limited,
            blocked=bunce.blocked,
            faults=bunce.faults.in_force(),
            scripted=bunce.scripted,
            outage=options.outage,
            unsettled=bunce.unsettled,
        )
        return Response(200, front_page(summary, bunce.newest(SHOWN)), HTML)

    def _faults(self) -> Response:
        return _json({**self._emulator.faults.as_dict(), "seed": self._emulator.seed})

    def _set_faults(self, request: Request) -> Response:
        values = read_object(request)
        seed, script = values.pop("seed", None), values.pop("script", [])
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise InvalidError("seed must be a whole number")
        if not isinstance(script, list):
            raise InvalidError("script must be an array of names of faults, or null to pass")
        self._emulator.set_faults(Faults.from_mapping(values), seed=seed, script=script)
        return self._faults()

    def _settings(self) -> Response:
        options = asdict(self._emulator.options)
        options.pop("key")  # who may not know it must not learn it here
        return _json(options)

    def _set_settings(self, request: Request) -> Response:
        values: Mapping[str, Any] = read_object(request)
        for name in values:
            if name not in (*OPTION_NAMES, "outage_seconds"):
                raise InvalidError(f"unknown setting {name!r}; known: {', '.join(OPTION_NAMES)}")
        if values.get("outage") == "refuse" and values.get("outage_seconds") is None:
            raise InvalidError("give outage_seconds: nobody could end this outage from outside")
        self._emulator.set(**values)
        return self._settings()

    def _reset(self, _: Request) -> Response:
        self._emulator.reset()
        return _json(self.state())


def _json(value: object) -> Response:
    return Response(200, dump(value))
