"""No parameter, path or form value makes a page or the REST API fail with an internal error."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.admin import site
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousOperation
from django.test import Client, RequestFactory

from bunce_sync.models import ApiCall, Segment
from tests.unit.admin_people import LIST, call, editor, row
from tests.unit.api_client import ALL, client_for, get, user_with

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime:RuntimeWarning"),
]

CALLS = "/admin/bunce_sync/apicall/"
#: Values that are no values, out of range, or more than a database or Python can handle.
VALUES = [
    *("", "garbage", "0", "-1", "1.5", "99999", "9" * 20, "-" + "9" * 20, "9" * 5000, "1e400"),
    *(
        "\0",
        "a\0b",
        "\ud800",
        "[",
        "(",
        "\\",
        "%",
        "{}",
        "null",
        "NaN",
        "\u0661",
        "True",
        "a,b",
        "1,x",
    ),
    *("2024-13-45", "0000-00-00", "0001-01-01", "9999-12-31 23:59:59", "10000-01-01"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2024-01-01T00:00:00+99:99"),
]
#: Lookups that Django offers for some field, so that they reach its query.
LOOKUPS = [
    *("", "exact", "iexact", "contains", "icontains", "startswith", "in", "isnull", "range"),
    *("gt", "gte", "lt", "lte", "regex", "iregex", "search", "unknown"),
    *("year", "year__gt", "iso_year", "month", "day", "week_day", "quarter", "date", "date__gte"),
    *("time", "hour", "second", "year__in", "date__year", "0", "has_key", "contained_by"),
]


def encode(value: str) -> str:
    return quote(value.encode("utf-8", "surrogatepass"))


def fields(model: Any) -> list[str]:
    """Return the name of one field of each type."""
    return [*{type(field): field.name for field in model._meta.concrete_fields}.values()]


FIELDS = [
    *((Segment, field) for field in fields(Segment)),
    *((Segment, field) for field in ("calls", "calls__started_at", "nothing", "pk")),
    *((ApiCall, field) for field in fields(ApiCall)),
    *((ApiCall, field) for field in ("segment__bunce_created_at", "segment__id")),
]


@pytest.fixture
def client() -> Client:
    segment = row("synced")
    call(segment)
    return editor()


def is_handled(client: Client, address: str) -> None:
    """Check that a page shows something, or refuses the request."""
    assert client.get(address, follow=True).status_code in (200, 400, 403, 404), address


def read_list(model: type[Segment | ApiCall], name: str, value: str) -> None:
    """Read the admin's list as its page does; Django handles these two errors."""
    request = RequestFactory().get(f"/?{name}={encode(value)}")
    request.user = User(is_superuser=True)
    with suppress(IncorrectLookupParameters, SuspiciousOperation):
        list(site.get_model_admin(model).get_changelist_instance(request).result_list)


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_any_lookup_of_the_admins_lists_is_handled(
    model: type[Segment | ApiCall], field: str
) -> None:
    call(row("synced"))
    for lookup in LOOKUPS:
        for value in VALUES if lookup in ("", "in", "gte", "year") else VALUES[::4]:
            read_list(model, f"{field}__{lookup}" if lookup else field, value)


@pytest.mark.parametrize("page", [LIST, CALLS])
@pytest.mark.parametrize(
    "name",
    [
        *("q", "p", "o", "all", "e", "_popup", "_to_field", "_facets", "_changelist_filters"),
        *("type", "problem", "status__exact", "outcome__exact", "add_all_customers__exact"),
    ],
)
def test_any_other_parameter_of_the_admins_lists_is_handled(
    client: Client, page: str, name: str
) -> None:
    for value in VALUES[::2]:
        response = client.get(f"{page}?{name}={encode(value)}", follow=True)
        assert response.status_code in (200, 400, 404), (name, value)


def test_a_filter_that_makes_no_sense_shows_the_whole_list(client: Client) -> None:
    for query in ("bunce_created_at__year=99999", "bunce_created_at__gte=garbage", "id=x"):
        response = client.get(f"{LIST}?{query}", follow=True)
        assert [segment.name for segment in response.context["cl"].result_list] == ["VIP"]


@pytest.mark.parametrize("value", VALUES)
def test_any_key_in_a_path_of_the_admin_is_handled(client: Client, value: str) -> None:
    for page in (LIST, CALLS):
        for view in ("change", "delete", "history", "live"):
            is_handled(client, f"{page}{encode(value)}/{view}/")
    for action in ("push", "retry", "refresh"):
        response = client.post(f"{LIST}{encode(value)}/{action}/", follow=True)
        assert response.status_code in (200, 404)


@pytest.mark.parametrize("value", VALUES)
def test_any_selection_of_the_admins_list_is_handled(client: Client, value: str) -> None:
    for action in ("push_selected", "delete_selected", encode(value)):
        form = f"action={action}&_selected_action={encode(value)}"
        response = client.post(LIST, form, "application/x-www-form-urlencoded", follow=True)
        assert response.status_code in (200, 400)
    assert client.get(f"{LIST}live/?ids={encode(value)},{encode(value)}").status_code == 200
    assert Segment.objects.exists()


def cursor(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


@pytest.mark.parametrize("value", VALUES)
def test_any_value_in_the_rest_api_is_handled(client: Client, value: str) -> None:
    segment = Segment.objects.get()
    service = client_for(user_with(*ALL))
    for name in (
        *("status", "type", "name", "bunce_id", "search", "cursor", "page_size", "format"),
        *("created_since", "updated_before", "bunce_created_since", "id", "unknown"),
    ):
        response = service.get(f"/api/segments/?{name}={encode(value)}")
        assert response.status_code in (200, 400, 404), (name, value)
    for part in ("p", "o", "r"):
        response = get(service, "segments/", {"cursor": cursor(f"{part}={encode(value)}")})
        assert response.status_code in (200, 400), (part, value)
    paths = (f"segments/{encode(value)}/", f"segments/{encode(value)}/calls/")
    for path in paths:
        assert service.get(f"/api/{path}").status_code in (200, 404), path
    query = f"cursor={encode(cursor(f'p={encode(value)}'))}&page_size={encode(value)}"
    response = service.get(f"/api/segments/{segment.pk}/calls/?{query}")
    assert response.status_code in (200, 400), value
