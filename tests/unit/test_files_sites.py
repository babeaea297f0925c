"""Files in admin sites of all kinds: subclasses of the model and the admin, and without the app."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client
from django.urls import clear_url_caches, path, set_urlconf
from django.utils import timezone
from pytest_django import Settings
from pytest_django.fixtures import DjangoCaptureOnCommitCallbacks

from bunce_sync.admin import SegmentAdmin
from bunce_sync.models import Segment
from bunce_sync.testing.emulator import Emulator
from tests.neighbours.models import Campaign, Numbered, Tracked, Vip
from tests.site import ROOT

from .admin_people import editor
from .broker_queue import BrokerQueue
from .core import Status, make
from .file_pages import (
    confirm,
    errors,
    export,
    exported,
    import_rows,
    preview,
    totals,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def site(settings: Any) -> Iterator[AdminSite]:
    """An admin site with a name of its own, at /panel/; there is no other."""
    yield AdminSite(name="panel")
    set_urlconf(None)
    clear_url_caches()


@pytest.fixture
def client() -> Client:
    client = editor()
    User.objects.filter(pk=client.session["_auth_user_id"]).update(is_superuser=True)
    return client


def serve(
    site: AdminSite,
    settings: Any,
    model: type[Segment] = Segment,
    admin: type[SegmentAdmin] = SegmentAdmin,
) -> str:
    """Register a model, and return the path of its pages."""
    site.register(model, admin)
    settings.ROOT_URLCONF = type("URLs", (), {"urlpatterns": [path("panel/", site.urls)]})
    return f"/panel/{model._meta.app_label}/{model._meta.model_name}/"


@pytest.mark.parametrize("model", [Segment, Vip, Tracked])
def test_the_pages_stay_in_their_site(
    site: AdminSite, client: Client, settings: Settings, model: type[Segment]
) -> None:
    base = serve(site, settings, model)
    listed = client.get(base).content.decode()
    assert f'href="{base}import/"' in listed
    assert f'href="{base}export/?"' in listed
    assert f'href="{base}"' in client.get(f"{base}import/").content.decode()
    previewed = preview(client, [("name",), ("VIP",)], base=base)
    assert f'action="{base}process_import/"' in previewed.content.decode()
    assert confirm(client, previewed, base).redirect_chain == [(base, 302)]
    segment = model.objects.get()
    assert segment.status == Status.PENDING
    changed = preview(client, [("id", "name"), (segment.id, "Best")], base=base)
    assert f'href="{base}{segment.pk}/change/"' in changed.content.decode()
    confirm(client, changed, base)
    assert [one["name"] for one in exported(client, base=base)] == ["Best"]


def test_a_subclass_is_imported_with_its_fields(
    site: AdminSite, client: Client, settings: Settings
) -> None:
    base = serve(site, settings, Campaign)
    person = User.objects.get()
    started = timezone.now()
    first = {
        "name": "A",
        "starts": started.isoformat(),
        "paid": "yes",
        "rules": {"age": [18, 30]},
        "budget": "12.50",
        "owner": person.pk,
        "slug": "a",
    }
    data = json.dumps([first, {"name": "B", "paid": None, "budget": ""}]).encode()
    import_rows(client, data, "json", base)
    campaigns: Any = Campaign.objects.order_by("name")  # typed as segments
    one, other = campaigns
    assert (one.starts, one.paid, one.rules) == (started, True, {"age": [18, 30]})
    assert (one.budget, one.owner, one.slug) == (Decimal("12.50"), person, "a")
    assert (other.paid, other.budget, other.rules) == (None, Decimal(0), {})

    for kind in ("csv", "xlsx", "json"):
        previewed = preview(client, export(client, kind, base=base), kind, base)
        assert totals(previewed)["unchanged"] == "2", kind
    rows = [("id", "owner", "rules", "budget"), (one.id, "", "{}", "12.5")]
    import_rows(client, rows, base=base)
    one.refresh_from_db()
    assert (one.owner, one.rules, one.budget) == (None, {}, Decimal("12.50"))
    assert {segment.status for segment in Campaign.objects.all()} == {Status.PENDING}


def test_what_a_subclass_does_not_offer_for_editing_is_ignored(
    site: AdminSite, client: Client, settings: Settings
) -> None:
    base = serve(site, settings, Campaign)
    names = ("editor", "saved", "attachment", "groups", "segment_ptr", "segment_ptr_id")
    previewed = preview(client, [("name", *names), ("A", *"123456")], base=base)
    [ignored, *_] = previewed.context["preview"]["notes"]
    assert ignored == f"These columns are not imported: {', '.join(names)}."
    confirm(client, previewed, base)
    campaign: Any = Campaign.objects.get()
    assert campaign.attachment == ""


def test_wrong_values_of_a_subclass_are_errors_of_their_rows(
    site: AdminSite, client: Client, settings: Settings
) -> None:
    base = serve(site, settings, Campaign)
    rows = [
        ("name", "starts", "paid", "rules", "budget", "owner", "slug"),
        ("A", "soon", "", "", "", "", ""),
        ("A", "", "perhaps", "", "", "", ""),
        ("A", "", "", "{", "", "", ""),
        ("A", "", "", "", "much", "", ""),
        ("A", "", "", "", "", "4711", ""),
        ("A", "", "", "", "", "", "s" * 51),
        ("A", "", "", "", "", "", "nul \0"),
    ]
    found = errors(preview(client, rows, base=base))
    columns = [messages[0].split(":")[0] for messages in found.values()]
    assert columns == ["starts", "paid", "rules", "budget", "owner", "slug", "slug"]
    assert {len(messages) for messages in found.values()} == {1}


def test_a_subclass_with_its_own_key(site: AdminSite, client: Client, settings: Settings) -> None:
    base = serve(site, settings, Numbered)
    make("Another")
    import_rows(client, [("name", "number"), ("A", 7), ("B", 8)], base=base)
    one, _other = Numbered.objects.order_by("number")
    import_rows(client, [("id", "name", "number"), (one.id, "Best", 7)], base=base)
    assert {*Numbered.objects.values_list("number", "name")} == {(7, "Best"), (8, "B")}
    previewed = preview(client, [("id", "number"), (one.id, 9)], base=base)
    assert errors(previewed) == {"2": ["number: This cannot be changed."]}
    previewed = preview(client, [("name", "number"), ("C", 8)], base=base)
    assert errors(previewed) == {"2": ["number: Numbered with this Number already exists."]}

    twice = preview(client, [("name", "number"), ("C", 9), ("D", 9)], base=base)
    response = confirm(client, twice, base)
    [message] = [str(message) for message in response.context["messages"]]
    assert message.startswith("Nothing was imported. Nothing was imported: the database refused")
    assert Numbered.objects.count() == 2


def test_rows_of_a_subclass_wake_workers_once(
    site: AdminSite,
    client: Client,
    settings: Settings,
    bunce: Emulator,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    base = serve(site, settings, Vip)
    broker_queue = BrokerQueue(settings)
    rows = [("name", "owner"), *[(f"S{n}", "me") for n in range(60)]]
    with django_capture_on_commit_callbacks(execute=True):
        import_rows(client, rows, base=base)
    assert broker_queue.sent() == [("push_segment", [])]
    assert Vip.objects.filter(owner="me", hold__isnull=True).count() == 60


class TestOwnAdmins:
    def test_rows_that_an_admin_hides_are_neither_exported_nor_changed(
        self, site: AdminSite, client: Client, settings: Settings
    ) -> None:
        class Own(SegmentAdmin):
            def get_queryset(self, request: HttpRequest) -> QuerySet[Segment]:
                return super().get_queryset(request).exclude(name="Hidden")

        base = serve(site, settings, admin=Own)
        make("Shown")
        hidden = make("Hidden")
        assert [one["name"] for one in exported(client, base=base)] == ["Shown"]
        selected = client.post(f"{base}export/", {"format": 2, "selected": str(hidden.pk)})
        assert json.loads(b"".join(selected.streaming_content)) == []  # type: ignore[attr-defined]
        [message] = errors(preview(client, [("id", "name"), (hidden.pk, "x")], base=base))["2"]
        assert "There is no segment with this id" in message

    def test_the_permission_for_a_single_segment_counts(
        self, site: AdminSite, client: Client, settings: Settings
    ) -> None:
        class Own(SegmentAdmin):
            def has_change_permission(
                self, request: HttpRequest, obj: Segment | None = None
            ) -> bool:
                return obj is None or obj.name != "Fixed"

        base = serve(site, settings, admin=Own)
        rows = [("id", "name"), (make("Fixed").pk, "x"), (make("Free").pk, "y")]
        previewed = preview(client, rows, base=base)
        assert errors(previewed) == {"2": ["id: You may not change this segment."]}

    @pytest.mark.parametrize(
        "attributes",
        [
            {"readonly_fields": ("description", "add_all_customers")},
            {"fields": ("name",)},
            {"fieldsets": ((None, {"fields": ("name",)}),)},
        ],
    )
    def test_fields_that_the_form_does_not_offer_are_not_imported(
        self, site: AdminSite, client: Client, settings: Settings, attributes: dict[str, Any]
    ) -> None:
        base = serve(site, settings, admin=type("Own", (SegmentAdmin,), attributes))
        rows = [("name", "description", "add_all_customers"), ("VIP", "x", "yes")]
        previewed = preview(client, rows, base=base)
        [note, *_] = previewed.context["preview"]["notes"]
        assert note == "These columns are not imported: description, add_all_customers."
        confirm(client, previewed, base)
        assert Segment.objects.values_list("name", "description").get() == ("VIP", None)

    def test_a_resource_with_a_column_of_its_own(
        self, site: AdminSite, client: Client, settings: Settings
    ) -> None:
        from import_export.fields import Field

        from bunce_sync.admin.files.resource import SegmentResource

        class Own(SegmentResource):
            shouted = Field(readonly=True)

            class Meta:
                fields = ("id", "name", "shouted")

            def dehydrate_shouted(self, segment: Segment) -> str:
                return segment.name.upper()

        admin = type("OwnAdmin", (SegmentAdmin,), {"resource_classes": [Own]})
        base = serve(site, settings, admin=admin)
        segment = make("Vip")
        shown = [{"id": segment.pk, "name": "Vip", "shouted": "VIP"}]
        assert exported(client, base=base) == shown
        import_rows(client, [("name", "shouted"), ("New", "x")], base=base)
        assert Segment.objects.filter(name="New").exists()


SETTINGS = """
import sys

for name in {blocked}:
    sys.modules[name] = None  # importing it fails as if it were not installed

from tests.settings import *

INSTALLED_APPS = [app for app in INSTALLED_APPS if app not in {left_out}]
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": ":memory:",
    "OPTIONS": {{"transaction_mode": "IMMEDIATE"}},
}}}}
ALLOWED_HOSTS = ["*"]
"""
USE_ADMIN = """
import django

django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from bunce_sync.models import Segment

call_command("check")
call_command("migrate", verbosity=0)
client = Client()
client.force_login(User.objects.create_superuser("x"))
segment = Segment.objects.create(name="VIP")
base = "/admin/bunce_sync/segment/"
pages = {name: client.get(base + name) for name in ("", "add/", f"{segment.pk}/change/")}
assert {page.status_code for page in pages.values()} == {200}, pages
shown = pages[""].content.decode()
forms = {name: client.get(base + name).content.decode() for name in ("import/", "export/")}
action = {"action": "push_selected", "_selected_action": [segment.pk]}
assert client.post(base, action).status_code == 302
"""


def run(folder: Path, code: str, *, left_out: tuple[str, ...], blocked: tuple[str, ...]) -> str:
    """Run code in the tests' site without some apps and packages; return its output."""
    (folder / "site_settings.py").write_text(SETTINGS.format(left_out=left_out, blocked=blocked))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "site_settings",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("blocked", [(), ("import_export", "tablib", "openpyxl")])
def test_without_the_app_the_admin_has_neither(tmp_path: Path, blocked: tuple[str, ...]) -> None:
    code = (
        USE_ADMIN
        + """
assert "Import file" not in shown and "export" not in shown.lower()
assert "Select segment to change" in forms["import/"] or not forms["import/"]
"""
    )
    run(tmp_path, code, left_out=("import_export",), blocked=blocked)


def test_without_openpyxl_there_are_the_other_formats(tmp_path: Path) -> None:
    code = (
        USE_ADMIN
        + """
assert "Import file" in shown and "Export" in shown
for form in forms.values():
    assert ">csv<" in form and ">json<" in form and ">xlsx<" not in form
"""
    )
    run(tmp_path, code, left_out=(), blocked=("openpyxl", "openpyxl.x"))
