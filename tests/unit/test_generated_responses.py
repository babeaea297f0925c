"""Any response to any request ends as an outcome, is recorded, and shows the key nowhere.

Each generated response answers requests of all operations. ``RESPONSES=100000`` sets how many
answers are given; CI gives fewer.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from pytest_django import Settings

from bunce_sync.choices import Operation
from bunce_sync.client import BunceClient, Customer, RequestRecord
from bunce_sync.exceptions import BunceError
from bunce_sync.models import (
    ApiCall,
    CustomerQueue,
    CustomerSync,
    ImportRun,
    Member,
    OperationState,
    Segment,
    SyncState,
)
from bunce_sync.results import result_of
from bunce_sync.sync import customers, push, refresh
from bunce_sync.sync.budget import Budget

from .admin_people import LIST, editor, page
from .api_client import ALL, client_for, user_with
from .core import Outcome, Status, ago, configure, doubtful, make, run_import, run_reconcile
from .generated_responses import KEY, AnyServer, responses, reveals
from .raw_server import SEGMENT

ANSWERS = int(os.environ.get("RESPONSES") or 2000)
#: The part of them that goes through the whole path; the others go to the client alone.
PATH = 0.05
#: One in so many of those is looked at in the admin and in the REST API.
PAGES = 100

BUNCE_ID = str(SEGMENT["id"])
CALLS: dict[Operation, Callable[[BunceClient, RequestRecord], object]] = {
    Operation.CREATE: lambda client, record: client.create_segment({"name": "VIP"}, record=record),
    Operation.UPDATE: lambda client, record: client.update_segment(
        BUNCE_ID, {"name": "VIP"}, record=record
    ),
    Operation.READ: lambda client, record: client.get_segment(BUNCE_ID, record=record),
    Operation.LIST: lambda client, record: client.list_page(record=record),
    Operation.ADD: lambda client, record: client.add_customers(
        BUNCE_ID, [Customer(customer_id="c-1")], record=record
    ),
    Operation.REMOVE: lambda client, record: client.remove_customers(
        BUNCE_ID, ["c-1"], record=record
    ),
}


def generated(share: float) -> hypothesis_settings:
    """Return the settings for this share of the answers."""
    return hypothesis_settings(
        max_examples=math.ceil(ANSWERS * share / len(CALLS)),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Output(logging.Handler):
    """All that is logged, with tracebacks and extra fields."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{logging.Formatter().format(record)} {vars(record)}")

    def take(self) -> str:
        text, self.lines = "\n".join(self.lines), []
        return text


@pytest.fixture
def output() -> Iterator[Output]:
    root = logging.getLogger()
    level = root.level
    handler = Output()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("hypothesis").propagate = False
    yield handler
    logging.getLogger("hypothesis").propagate = True
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture
def server() -> Iterator[AnyServer]:
    with AnyServer() as server:
        yield server


def everything_about(error: BunceError) -> str:
    """Return all that a log, a debug page, an error tracker or a queue could show."""
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    data = pickle.dumps(error).decode("latin-1")
    return "".join([str(error), repr(error), repr(vars(error)), data, *shown.format()])


def failure_of(
    operation: Operation, client: BunceClient, record: RequestRecord
) -> BunceError | None:
    """Make a request, and return its error; its traceback begins here."""
    try:
        CALLS[operation](client, record)
    except BunceError as error:
        return error
    return None


def test_any_response_is_a_value_or_an_error_without_the_key(
    server: AnyServer, output: Output
) -> None:
    client = BunceClient(base_url=server.url, api_key=KEY, connect_timeout=60, read_timeout=60)

    @generated(1 - PATH)
    @given(response=responses())
    def check(response: bytes) -> None:
        server.response = response
        for operation in CALLS:
            record = RequestRecord()
            error = failure_of(operation, client, record)
            assert record.sent
            if error is None:
                continue
            assert not reveals(everything_about(error))
            assert len(error.detail) <= 300
            result = result_of(error, sent=True, operation=operation)
            assert result.outcome in Outcome.values
            assert result.outcome not in (Outcome.NOT_SENT, Outcome.UNDER_WAY)
            assert result.code != "internal"
        assert not reveals(output.take())

    with client:
        check()


def prepare(operation: Operation) -> Segment:
    """Store a row that is due for the operation."""
    if operation == Operation.CREATE:
        return make("VIP")
    if operation == Operation.LIST:
        return doubtful("VIP")
    row = make("VIP", status=Status.SYNCED, bunce_id=BUNCE_ID)
    rows = Segment.objects.filter(pk=row.pk)
    if operation == Operation.UPDATE:
        rows.update(name="Gold")
        rows.update_sync_fields(status=Status.PENDING, due_at=ago(1))
    elif operation == Operation.READ:
        rows.update_sync_fields(refresh_requested_at=ago(1))
    else:
        row.add_customers(["c-1", "c-2", "c-3"])
        if operation == Operation.REMOVE:
            CustomerSync.objects.update(bunce_id=BUNCE_ID)
            Member.objects.update(in_bunce=True, status=Member.Status.IN_BUNCE)
            row.remove_customers(["c-1", "c-2", "c-3"])
        Member.objects.update(due_at=ago(1))
        CustomerQueue.objects.update(due_at=ago(1))
    return row


def work(operation: Operation) -> None:
    """Do what is due, as a worker does."""
    if operation in (Operation.CREATE, Operation.UPDATE):
        push.run(Budget(10))
    elif operation == Operation.READ:
        refresh.run(Budget(10))
    elif operation == Operation.LIST:
        run_reconcile(seconds=10)
        run_import(seconds=10)
    else:
        customers.run(Budget(10))


def everything_stored() -> str:
    """Return all values of the rows that a request can change."""
    models = (ApiCall, Segment, SyncState, OperationState, Member, CustomerQueue, ImportRun)
    return "\n".join(str(row) for model in models for row in model._base_manager.values())


@pytest.mark.django_db
def test_any_response_is_recorded_and_shown_without_the_key(
    settings: Settings, server: AnyServer, output: Output
) -> None:
    configure(settings, API_KEY=KEY, BASE_URL=server.url, RATE_LIMIT=None)
    admin = editor()
    rest = client_for(user_with(*ALL))
    number = itertools.count()

    @generated(PATH)
    @given(response=responses())
    def check(response: bytes) -> None:
        server.response = response
        for operation in CALLS:
            before = transaction.savepoint()
            try:
                respond_and_look(operation)
            finally:
                transaction.savepoint_rollback(before)

    def respond_and_look(operation: Operation) -> None:
        row = prepare(operation)
        requests, logged = server.requests, ApiCall.objects.count()
        work(operation)
        made = ApiCall.objects.order_by("pk")[logged:]
        assert server.requests > requests
        assert len(made) == server.requests - requests
        for call in made:
            assert call.outcome not in (Outcome.UNDER_WAY, Outcome.NOT_SENT)
            assert call.code != "internal"
        shown = [everything_stored(), output.take()]
        if next(number) % PAGES == 0:
            shown += pages(row)
        for text in shown:
            assert not reveals(text)

    def pages(row: Segment) -> list[str]:
        paths = [LIST, page(row), "/admin/bunce_sync/apicall/"]
        paths += [f"/admin/bunce_sync/apicall/{call.pk}/change/" for call in ApiCall.objects.all()]
        answers: list[Any] = [admin.get(path) for path in paths]
        answers += [
            rest.get(f"/api/{path}") for path in ("segments", f"segments/{row.pk}", "status")
        ]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.content.decode() for answer in answers]

    check()
