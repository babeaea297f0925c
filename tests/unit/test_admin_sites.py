"""Admin sites of all kinds: without the call log, without segments, or with a subclass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.test import Client
from django.urls import clear_url_caches, path, set_urlconf

from bunce_sync.admin import ApiCallAdmin, SegmentAdmin
from bunce_sync.models import ApiCall, Segment
from tests.neighbours.models import Numbered, Tracked, Vip

from .admin_people import call, editor, row
from .core import Status, fresh, make

pytestmark = pytest.mark.django_db


@pytest.fixture
def site(settings: Any) -> Iterator[AdminSite]:
    """An admin site with a name of its own, at /panel/; there is no other."""
    site = AdminSite(name="panel")
    yield site
    set_urlconf(None)
    clear_url_caches()


@pytest.fixture
def client() -> Client:
    client = editor()
    user = client.session["_auth_user_id"]
    User.objects.filter(pk=user).update(is_superuser=True)
    return client


def serve(site: AdminSite, settings: Any) -> None:
    urls = type("URLs", (), {"urlpatterns": [path("panel/", site.urls)]})
    settings.ROOT_URLCONF = urls


def test_segments_without_the_call_log(site: AdminSite, client: Client, settings: Any) -> None:
    site.register(Segment, SegmentAdmin)
    serve(site, settings)
    segment = row()
    for _ in range(30):
        call(segment)
    for name in ("", f"{segment.pk}/change/", f"{segment.pk}/live/", f"{segment.pk}/delete/"):
        response = client.get(f"/panel/bunce_sync/segment/{name}")
        assert response.status_code == 200, name
        assert b"/panel/bunce_sync/apicall/" not in response.content
    response = client.post(f"/panel/bunce_sync/segment/{segment.pk}/push/")
    assert response["Location"] == f"/panel/bunce_sync/segment/{segment.pk}/change/"


def test_the_call_log_without_segments(site: AdminSite, client: Client, settings: Any) -> None:
    site.register(ApiCall, ApiCallAdmin)
    serve(site, settings)
    entry = call(row(name="Gold"))
    for name in ("", f"{entry.pk}/change/"):
        response = client.get(f"/panel/bunce_sync/apicall/{name}")
        assert response.status_code == 200
        assert b"Gold" in response.content


@pytest.mark.parametrize("model", [Vip, Tracked])
def test_a_subclass_alone_has_the_same_pages(
    site: AdminSite, client: Client, settings: Any, model: type[Segment]
) -> None:
    site.register(model, SegmentAdmin)
    serve(site, settings)
    segment = model.objects.create(name="Gold")
    base = f"/panel/neighbours/{model.__name__.lower()}/"
    shown = client.get(base).content.decode()
    assert 'id="bunce-panel"' in shown
    assert f'href="{base}?status__exact=pending"' in shown
    page = client.get(f"{base}{segment.pk}/change/").content.decode()
    assert f'data-bunce-live="{base}{segment.pk}/live/"' in page
    assert f'action="{base}{segment.pk}/refresh/"' in page
    for name in ("live/", f"{segment.pk}/live/", f"{segment.pk}/delete/"):
        assert client.get(f"{base}{name}").status_code == 200
    response = client.post(f"{base}{segment.pk}/push/")
    assert response["Location"] == f"{base}{segment.pk}/change/"


def test_a_subclass_beside_segments_has_its_own_addresses(
    site: AdminSite, client: Client, settings: Any
) -> None:
    site.register(Segment, SegmentAdmin)
    site.register(Vip, SegmentAdmin)
    serve(site, settings)
    segment = Vip.objects.create(name="Gold")
    for base in ("/panel/bunce_sync/segment/", "/panel/neighbours/vip/"):
        page = client.get(f"{base}{segment.pk}/change/").content.decode()
        assert f'data-bunce-live="{base}{segment.pk}/live/"' in page


def test_a_subclass_with_its_own_key_is_its_own_segment(
    site: AdminSite, client: Client, settings: Any
) -> None:
    site.register(Numbered, SegmentAdmin)
    serve(site, settings)
    others = [make(f"Other {n}") for n in range(3)]
    number = others[1].pk
    segment = Numbered.objects.create(name="Numbered", number=number)
    Segment.objects.all().update_sync_fields(status=Status.REJECTED, last_code="conflict")
    call(Segment.objects.get(pk=segment.id), message="of the numbered one")
    listed = "/panel/neighbours/numbered/"
    assert b"of the numbered one" in client.get(f"{listed}{number}/change/").content
    client.post(f"{listed}{number}/retry/")
    assert fresh(Segment.objects.get(pk=segment.id)).status == Status.PENDING
    client.post(listed, {"action": "retry_selected", "_selected_action": [number]})
    assert fresh(others[1]).status == Status.REJECTED
    client.post(f"{listed}{number}/delete/", {"post": "yes"})
    assert not Numbered.objects.exists()
    assert Segment.objects.count() == len(others)
