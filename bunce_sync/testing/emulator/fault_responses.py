"""Turns a fault's name into the answer a client gets to see, or does not."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import get_args

from .faults import FaultPlan, RetryAfter, Shape
from .messages import HTML, JSON, Answer, Delivery, Response, dump, failure, proxy_page

LIMIT_MESSAGE = "You have reached maximum request limit."
_FARTHEST_DATE = 100 * 365 * 86400  # seconds; a later moment may have no date


def answer_instead(fault: str, plan: FaultPlan) -> Answer:
    """Return the answer for a call that is not carried out (now)."""
    faults = plan.faults
    match fault:
        case "reset_before":
            return Answer(None, Delivery.RESET)
        case "hold_before":
            return Answer(None, Delivery.HOLD, seconds=faults.hold_seconds)
        case "late_store":
            return Answer(None, Delivery.CLOSE)
        case "error_before":
            return Answer(failure(500, "Something went wrong"))
        case "html_502":
            return Answer(proxy_page(502))
        case "limit_429":
            return Answer(failure(429, LIMIT_MESSAGE, _retry_after(plan)))
        case "redirect":
            return Answer(failure(302, "Found", (("Location", "/v1/segments"),)))
        case "unauthorized":
            return Answer(failure(401, "Unauthorized"))
        case "forbidden":
            return Answer(failure(403, "You are not allowed to do this."))
        case "unavailable":
            return Answer(failure(503, "Service unavailable", _retry_after(plan)))
        case "name_taken":
            body = {"success": False, "message": "Name already taken", "data": None}
            return Answer(Response(200, dump(body)))
        case "bad_request":
            return Answer(failure(400, "name taken"))
        case _:
            raise ValueError(f"{fault} does not act before the call")


def answer_after(fault: str, response: Response, plan: FaultPlan) -> Answer:
    """Return what becomes of the response of a call that has been carried out."""
    faults = plan.faults
    match fault:
        case "lost_answer":
            return Answer(None, Delivery.CLOSE)
        case "hold_after":
            return Answer(None, Delivery.HOLD, seconds=faults.hold_seconds)
        case "error_after":
            return Answer(failure(500, "Something went wrong"))
        case "cut_json":
            return Answer(response, Delivery.CUT)
        case "wrong_shape":
            return Answer(_misshapen(response, faults.shape, plan.random))
        case "no_content":
            refused = response.status >= 300  # an honest refusal stays one
            return Answer(response if refused else Response(204, b""))
        case "trickle":
            return Answer(
                response,
                Delivery.TRICKLE,
                seconds=faults.trickle_seconds,
                trickle_head=faults.trickle_head,
            )
        case "too_large":
            return Answer(response, Delivery.FLOOD, padding=faults.large_bytes)
        case _:
            raise ValueError(f"{fault} does not act after the call")


def _retry_after(plan: FaultPlan) -> tuple[tuple[str, str], ...]:
    kind = plan.faults.retry_after
    if kind == "any":
        kind = plan.random.choice([each for each in get_args(RetryAfter) if each != "any"])
    seconds = plan.faults.retry_seconds
    if kind == "none":
        return ()
    if kind == "rubbish":
        return (("Retry-After", "soon"),)
    if kind == "date":
        moment = datetime.now(UTC) + timedelta(seconds=min(seconds, _FARTHEST_DATE))
        return (("Retry-After", format_datetime(moment, usegmt=True)),)
    return (("Retry-After", str(seconds)),)


def _misshapen(response: Response, shape: Shape, chance: random.Random) -> Response:
    """Return the response with the same status and a body nobody documented."""
    if response.status >= 300:  # an honest refusal stays one
        return response
    if shape == "any":
        shape = chance.choice([each for each in get_args(Shape) if each != "any"])
    if shape == "empty":
        return Response(response.status, b"")
    if shape == "not_json":
        return Response(response.status, b"<html><body>Created</body></html>", HTML)
    envelope = json.loads(response.body)
    data = envelope["data"] if isinstance(envelope["data"], dict) else {}
    body: object
    match shape:
        case "list":
            body = {**envelope, "data": [data]}
        case "no_data":
            body = {name: value for name, value in envelope.items() if name != "data"}
        case "null_data":
            body = {**envelope, "data": None}
        case "no_id":
            body = {**envelope, "data": {key: data[key] for key in data if key != "id"}}
        case "empty_id":
            body = {**envelope, "data": {**data, "id": ""}}
        case "number_id":
            body = {**envelope, "data": {**data, "id": 7}}
        case "not_object":
            body = [envelope]
        case _:  # "failed": a success by its status that says it is none
            body = {"success": False, "message": "Something went wrong", "data": None}
    return Response(response.status, dump(body), JSON)
