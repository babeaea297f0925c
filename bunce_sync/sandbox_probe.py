"""Questions that Bunce's documentation leaves open, asked of a sandbox account.

``bunce_doctor --probe-sandbox`` prints the answers, and whether the assumptions of the app hold.
Bunce has no call that deletes a segment: the probe's two segments stay, under a name that says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

from bunce_sync import clocks
from bunce_sync.choices import Outcome
from bunce_sync.client import (
    BunceClient,
    Customer,
    Page,
    Position,
    RemoteSegment,
    RequestRecord,
)
from bunce_sync.conf import BASE_URLS, conf
from bunce_sync.doctor import Finding, Level, Request
from bunce_sync.exceptions import BunceSyncError
from bunce_sync.results import Result
from bunce_sync.status.presenters import describe_problem
from bunce_sync.sync import shared_state
from bunce_sync.sync.push import CREATES, UPDATES
from bunce_sync.sync.rate_limiter import NoPermit
from bunce_sync.sync.reconcile import LISTS

#: Page sizes that are tried, the largest first.
PAGE_SIZES: Final = (1000, 500, 250, 100)
#: Customers in one request that are tried.
BATCH_SIZES: Final = (100, 1000)
#: Pages of the list that are read at most to find the order or a segment.
PAGES: Final = 5
#: Seconds to wait until a segment is in the list.
LIST_SECONDS: Final = 30.0
#: Hours that times may differ from UTC without being in another zone.
SAME_ZONE_HOURS: Final = 0.2


class NotASandbox(BunceSyncError):
    """The settings name a live account, in which nothing is tried out."""


def probe(*, with_customers: bool = False) -> Iterator[Finding]:
    """Yield the answers one by one.

    Args:
        with_customers: also add made-up customers to the probe's segment, and remove them.

    Raises:
        NotASandbox: the key is not a test key, or the host is the live one.
    """
    live = urlsplit(BASE_URLS["live"]).hostname
    if not conf.API_KEY.startswith("sk_test_") or urlsplit(conf.base_url).hostname == live:
        raise NotASandbox(
            "Only a sandbox account is probed: set a key that starts with sk_test_, and"
            " BUNCE_SYNC['ENV'] to 'sandbox'."
        )
    try:
        yield from _page_sizes()
        yield from _order()
        yield from _segments(with_customers=with_customers)
    except NoPermit as denied:
        yield Finding(
            "probe",
            "fail",
            f"Requests are paused for {denied.wait:.0f} s; the other questions were not asked.",
            "Run bunce_doctor to see why, and repeat the probe afterwards.",
        )


def _page_sizes() -> Iterator[Finding]:
    for size in PAGE_SIZES:
        page, result = _list(Position(per_page=size))
        if page is not None:
            more = f"; it returned {len(page.segments)} segments" if page.segments else ""
            level: Level = "pass" if size >= conf.PAGE_SIZE else "warn"
            yield Finding(
                "per_page",
                level,
                f"The largest accepted page size is {size}{more}. PAGE_SIZE is {conf.PAGE_SIZE}.",
                "" if level == "pass" else f"Set BUNCE_SYNC['PAGE_SIZE'] to {size}.",
            )
            return
    yield Finding("per_page", "fail", f"The list cannot be read: {_said(result)}")


def _order() -> Iterator[Finding]:
    times: list[datetime | None] = []
    position: Position | None = Position(per_page=min(conf.PAGE_SIZE, 100))
    for _ in range(PAGES):
        page = _list(position)[0] if position else None
        if page is None:
            break
        times += [segment.created_at for segment in page.segments]
        position = page.next
    known = [time for time in times if time is not None]
    if len(set(known)) < 2 or len(known) < len(times):
        answer = "cannot be told: too few segments with a time"
    elif known == sorted(known, reverse=True):
        answer = "is newest first"
    elif known == sorted(known):
        answer = "is oldest first"
    else:
        answer = "is not by creation time"
    yield Finding(
        "order",
        "pass",
        f"The order of the list {answer} ({len(times)} segments read). The app relies on none.",
    )


def _segments(*, with_customers: bool) -> Iterator[Finding]:
    name = f"bunce_sync probe {datetime.now(UTC):%Y-%m-%d %H:%M:%S} {uuid4().hex[:6]} (unused)"
    asked_at = shared_state.now()
    created, result = _create(name)
    if created is None:
        yield Finding("create", "fail", f"No segment could be created: {_said(result)}")
        return
    yield Finding("create", "pass", f"Created the segment “{name}”, which stays in the sandbox.")
    yield _stored(created, name)
    yield _zone(created, asked_at)
    yield _listed(created)
    yield _uniqueness(name)
    if with_customers:
        yield from _batches(created)


def _stored(created: RemoteSegment, name: str) -> Finding:
    if created.name == name:
        return Finding("name", "pass", "Names are stored as they are sent.")
    return Finding(
        "name",
        "warn",
        f"The name was stored as “{created.name}”.",
        "The admin shows such segments as “Differs in Bunce”; nothing is sent again for it.",
    )


def _zone(created: RemoteSegment, asked_at: datetime) -> Finding:
    if created.created_at is None:
        return Finding("zone", "warn", "The answer to a create has no creation time.")
    hours = (created.created_at - asked_at).total_seconds() / 3600
    if abs(hours) <= SAME_ZONE_HOURS:
        return Finding("zone", "pass", "created_at is in UTC, as the app assumes.")
    return Finding(
        "zone",
        "warn",
        f"created_at differs by {hours:+.1f} hours from UTC, which the app assumes.",
        "Times “created in Bunce” are shown that much too early or late. Please report it.",
    )


def _listed(created: RemoteSegment) -> Finding:
    """Return how soon a new segment is in the list: reconciliation waits for GRACE seconds."""
    began = clocks.monotonic()
    while (waited := clocks.monotonic() - began) < LIST_SECONDS:
        position: Position | None = Position(per_page=min(conf.PAGE_SIZE, 100))
        for _ in range(PAGES):
            page = _list(position)[0] if position else None
            if page is None:
                break
            if any(segment.id == created.id for segment in page.segments):
                level: Level = "pass" if waited < conf.GRACE else "warn"
                fix = "" if level == "pass" else "Set BUNCE_SYNC['GRACE'] to more than that."
                return Finding(
                    "listed", level, f"A new segment is in the list after {waited:.1f} s.", fix
                )
            position = page.next
        time.sleep(1.0)
    return Finding(
        "listed",
        "warn",
        f"The new segment was not on the first {PAGES} pages of the list for {LIST_SECONDS:.0f} s.",
        "Set BUNCE_SYNC['GRACE'] to more than the time it takes. In an account with many segments"
        " it may be on a later page.",
    )


def _uniqueness(name: str) -> Finding:
    second, result = _create(name)
    if second is not None:
        return Finding("names", "pass", "Names need not be unique; the app works either way.")
    if result.outcome == Outcome.REJECTED:
        return Finding(
            "names",
            "pass",
            f"Names are unique: a second segment of that name is refused ({result.http_status}:"
            f" {result.detail}). The app works either way.",
        )
    return Finding("names", "warn", f"Whether names are unique cannot be told: {_said(result)}")


def _batches(created: RemoteSegment) -> Iterator[Finding]:
    path = f"/segments/{quote(created.id, safe='')}/customers"
    for size in BATCH_SIZES:
        ids = [f"bunce-sync-probe-{number}" for number in range(size)]
        customers = [Customer(customer_id=one) for one in ids]

        def add(bunce: BunceClient, record: RequestRecord, customers: Any = customers) -> None:
            bunce.add_customers(created.id, customers, record=record)

        def remove(bunce: BunceClient, record: RequestRecord, ids: Any = ids) -> None:
            bunce.remove_customers(created.id, ids, record=record)

        added = Request(UPDATES, path, add).result()
        if not added.succeeded:
            yield Finding("batch", "warn", f"{size} customers are refused: {_said(added)}")
            return
        removed = Request(UPDATES, path, remove).result()
        after = "and removed" if removed.succeeded else f"but not removed: {_said(removed)}"
        yield Finding("batch", "pass", f"{size} customers in one request are added {after}.")


# Requests


def _list(position: Position) -> tuple[Page | None, Result]:
    path = f"/segments?page={position.page}&per_page={position.per_page}"
    request = Request(LISTS, path, lambda bunce, record: bunce.list_page(position, record=record))
    result = request.result()
    return (request.value if result.succeeded else None), result


def _create(name: str) -> tuple[RemoteSegment | None, Result]:
    fields = {"name": name, "description": "Created by bunce_doctor --probe-sandbox."}
    request = Request(
        CREATES,
        "/segments",
        lambda bunce, record: bunce.create_segment(fields, record=record),
    )
    result = request.result()
    return (request.value if result.succeeded else None), result


def _said(result: Result) -> str:
    return f"{describe_problem(result.code)} {result.detail}".strip()
