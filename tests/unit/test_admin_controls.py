"""The list's pages and buttons that concern all segments: imports, and the pause of pushes."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import clear_url_caches, path, set_urlconf
from pytest_django import Settings

from bunce_sync import services
from bunce_sync.admin import SegmentAdmin
from bunce_sync.client import BunceClient
from bunce_sync.conf import conf
from bunce_sync.functions import DatabaseNow
from bunce_sync.models import ImportRun, PushHold, Segment, SyncState
from tests.neighbours.models import Numbered, Vip
from tests.unit.admin_people import LIST, page, person, row

pytestmark = pytest.mark.django_db

IMPORT = f"{LIST}bunce/bunce_import/"
CANCEL = f"{LIST}bunce/cancel_import/"
PAUSE = f"{LIST}bunce/pause/"
RESUME = f"{LIST}bunce/resume/"
#: Each view with the permission it requires.
REQUIRED = {
    IMPORT: "push_segment",
    CANCEL: "push_segment",
    PAUSE: "pause_push",
    RESUME: "pause_push",
}


@pytest.fixture
def client() -> Client:
    return person("view_segment", "push_segment", "pause_push")


@pytest.fixture(autouse=True)
def worker(settings: Settings) -> None:
    """Set an API key, and record a sweep that has just run."""
    settings.BUNCE_SYNC = {"API_KEY": "sk_test_controls", "ENV": "sandbox"}
    SyncState.objects.update_or_create(pk=conf.environment, defaults={"swept_at": DatabaseNow()})


@pytest.fixture(autouse=True)
def no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test on any request to Bunce: the web process must make none."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the admin made a request to Bunce")

    for name in ("create_segment", "update_segment", "get_segment", "list_page"):
        monkeypatch.setattr(BunceClient, name, refuse)


def html(client: Client, address: str = LIST) -> str:
    response = client.get(address)
    assert response.status_code == 200, response
    return response.content.decode()


def post(client: Client, address: str, **form: str) -> list[str]:
    """Post a form, and return the messages on the list, to which it must lead."""
    response = client.post(address, form, follow=True)
    assert response.redirect_chain == [(LIST, 302)], response.content.decode()
    return [str(message) for message in response.context["messages"]]


def username(client: Client) -> str:
    return User.objects.get(pk=client.session["_auth_user_id"]).username


class TestAccess:
    @pytest.mark.parametrize("address", REQUIRED)
    def test_each_view_requires_its_permission_and_to_see_the_list(self, address: str) -> None:
        services.request_import()
        services.pause(reason="x", by="ada")
        others = {"push_segment", "pause_push", "change_segment", "add_segment"}
        for permissions in (
            ("view_segment", *(others - {REQUIRED[address]})),
            (REQUIRED[address], "add_segment"),
        ):
            client = person(*permissions)
            assert client.post(address, {"reason": "mine"}).status_code == 403
            assert client.get(address).status_code in (403, 405)
        assert ImportRun.objects.get().finished_at is None
        assert PushHold.objects.get().reason == "x"
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize("address", REQUIRED)
    def test_each_view_requires_a_csrf_token(self, address: str) -> None:
        client = person("view_segment", REQUIRED[address], csrf=True)
        assert client.post(address, {"reason": "x"}).status_code == 403
        assert not ImportRun.objects.exists()
        assert not PushHold.objects.exists()

    @pytest.mark.parametrize("address", [CANCEL, RESUME])
    def test_buttons_require_post(self, client: Client, address: str) -> None:
        assert client.get(address).status_code == 405

    def test_links_and_buttons_are_shown_only_to_those_who_may(self) -> None:
        services.request_import()
        services.pause(reason="x", by="ada")
        for permissions in ((), ("push_segment",), ("pause_push",), ("push_segment", "pause_push")):
            shown = html(person("view_segment", *permissions))
            may_push, may_pause = "push_segment" in permissions, "pause_push" in permissions
            assert (f'href="{IMPORT}"' in shown) is may_push
            assert ('id="bunce-button-cancel_import"' in shown) is may_push
            assert ('id="bunce-form-cancel_import"' in shown) is may_push
            assert ('id="bunce-button-resume"' in shown) is may_pause
            assert ('id="bunce-form-resume"' in shown) is may_pause
            assert f'href="{PAUSE}"' not in shown, "it is paused already"
        services.resume()
        assert f'href="{PAUSE}"' in html(person("view_segment", "pause_push"))
        assert f'href="{PAUSE}"' not in html(person("view_segment", "push_segment"))

    def test_a_popup_has_no_links(self, client: Client) -> None:
        assert IMPORT not in html(client, f"{LIST}?_popup=1")


class TestImport:
    def test_the_page_says_what_is_read_and_what_the_options_do(self, client: Client) -> None:
        shown = html(client, IMPORT)
        assert "All segments of sandbox (sandbox.api.bunce.so) are read." in shown
        assert shown.count('type="checkbox"') == 2
        for field in ("adopt", "include_deleted"):
            assert f'aria-describedby="id_{field}_helptext"' in shown
            assert f'id="id_{field}_helptext"' in shown
        assert "under way" not in shown
        services.request_import()
        assert "An import is under way since" in html(client, IMPORT)

    @pytest.mark.parametrize("options", [(), ("adopt",), ("adopt", "include_deleted")])
    def test_it_is_requested_with_the_options(
        self, client: Client, options: tuple[str, ...]
    ) -> None:
        message, *_ = post(client, IMPORT, **dict.fromkeys(options, "on"))
        assert message == "The import has been requested. The panel shows its progress."
        run = ImportRun.objects.get()
        assert (run.adopt, run.include_deleted) == ("adopt" in options, len(options) == 2)
        assert run.requested_by == username(client)
        assert run.finished_at is None

    def test_a_reason_to_wait_is_shown_at_once(self, client: Client) -> None:
        SyncState.objects.update(swept_at=None)
        assert post(client, IMPORT)[1].startswith("No worker has run yet.")

    def test_the_panel_shows_the_progress_and_then_the_result(self, client: Client) -> None:
        assert "Import from Bunce, requested" not in html(client)
        services.request_import(by="ada")
        ImportRun.objects.update(
            pages=1234, counts={"imported": 123_400, "changed": 0, "refused": 2, "of_tomorrow": 1}
        )
        shown = html(client)
        assert re.search(
            r"requested by ada at [\d:]+: 1,234 pages read\."
            r' <span class="bunce-quiet">123,400 added,'
            r" 2 could not be stored, see the workers&#x27; log\.</span>",
            shown,
        )
        assert "data-bunce-news" not in shown
        ImportRun.objects.update(finished_at=DatabaseNow())
        shown = html(client)
        assert re.search(r"Last import from Bunce, requested by ada: ended at [\d:]+\.", shown)
        assert "123,400 added" in shown
        assert "bunce-button-cancel_import" not in shown
        assert "data-bunce-news" in shown, "screen readers are told"

    def test_an_import_can_be_cancelled(self, client: Client) -> None:
        services.request_import(by="ada")
        assert post(client, CANCEL) == ["The import was cancelled. What it had done stays."]
        assert ImportRun.objects.get().cancelled
        assert "requested by ada: cancelled at" in html(client)
        assert post(client, CANCEL) == ["No import is under way."]

    def test_every_count_has_words(self) -> None:
        from bunce_sync.status import messages
        from bunce_sync.sync import importer

        assert messages.IMPORT_COUNTS.keys() == {*importer.COUNTS}


class TestPause:
    def test_a_reason_is_required(self, client: Client) -> None:
        for reason in ("", "  ", "\u200b", "x" * 501):
            response = client.post(PAUSE, {"reason": reason})
            assert response.status_code == 200
            assert b"errorlist" in response.content
        assert not PushHold.objects.exists()

    def test_pause_and_resume_are_shown_and_logged(self, client: Client) -> None:
        waiting = row()
        assert post(client, PAUSE, reason=" Moving <house> ") == ["Pushes are paused."]
        assert PushHold.objects.get().by == username(client)
        for shown in (html(client), client.get(f"{LIST}live/").json()["fragments"]["bunce-panel"]):
            assert f"Paused by {username(client)} since" in shown
            assert "Reason: “Moving &lt;house&gt;”." in shown
            assert "Resume pushes" in shown
        badge = html(client).split('class="bunce-badge ')[1].split("</span></span>")[0]
        assert "<span>Paused" in badge
        state = html(client, page(waiting)).split('id="bunce-state"')[1].split("</section>")[0]
        assert f"Paused by {username(client)}" in state
        assert post(client, RESUME) == ["Pushes have resumed."]
        assert not PushHold.objects.exists()
        assert post(client, RESUME) == ["Pushes were not paused."]
        entries = LogEntry.objects.order_by("pk")
        assert [entry.change_message for entry in entries] == ["Paused: Moving <house>", "Resumed"]
        for entry in entries:
            assert entry.user.username == username(client)
            assert entry.object_repr == "Pushes to Bunce"
            assert entry.content_type is not None
            assert entry.content_type.model_class() is PushHold
            assert entry.get_admin_url() is None

    def test_the_log_does_not_depend_on_the_users_language(self, client: Client) -> None:
        client.cookies["django_language"] = "fr"
        post(client, PAUSE, reason="x")
        assert LogEntry.objects.get().change_message == "Paused: x"

    def test_another_persons_pause_gets_the_new_reason(self, client: Client) -> None:
        services.pause(reason="old", by="ada")
        post(client, PAUSE, reason="new")
        assert PushHold.objects.get().reason == "new"

    def test_the_log_is_shown_on_the_front_page(self, client: Client) -> None:
        post(client, PAUSE, reason="x")
        assert "Pushes to Bunce" in html(client, "/admin/")


class TestNotices:
    def test_a_block_names_the_command_and_copies_it(self, client: Client) -> None:
        block = PushHold.objects.create(reason="nightly load", by="www@web1, process 42")
        held = row()
        Segment.objects.filter(pk=held.pk).update_sync_fields(hold=block)
        command = f"python manage.py bunce_resume --hold {block.pk}"
        shown = html(client)
        assert f'data-bunce-copy="{command}"' in shown
        assert "Reason: “nightly load”." in shown
        assert "<span>Held" in shown
        assert "Held since it was saved" in html(client, page(held))
        found = client.get(f"{LIST}?problem=held").context["cl"].result_list
        assert [segment.pk for segment in found] == [held.pk]

    def test_segments_elsewhere_name_the_command_and_copy_it(self, client: Client) -> None:
        row("synced", environment="https://api.bunce.so:443 live")
        shown = html(client)
        assert "1 segment belongs to live (api.bunce.so); this site uses sandbox" in shown
        assert 'data-bunce-copy="python manage.py bunce_rehome"' in shown

    def test_a_strange_key_is_an_urgent_notice(self, client: Client) -> None:
        SyncState.objects.update(strange_key=conf.key_digest, strange_since=DatabaseNow())
        notice = html(client).split("bunce-urgent")[1].split("</div>")[0]
        assert "this key seems to belong to another account" in notice

    def test_no_page_has_inline_code_or_two_elements_of_one_id(self, client: Client) -> None:
        services.request_import(by="ada", adopt=True)
        services.pause(reason="x", by="ada")
        block = PushHold.objects.create(by="www@web1, process 42")
        Segment.objects.filter(pk=row().pk).update_sync_fields(hold=block)
        row("synced", "There", environment="https://api.bunce.so:443 live")
        for address in (LIST, IMPORT, PAUSE):
            shown = html(client, address)
            for tag in shown.split("<")[1:]:
                assert " style=" not in tag.split(">")[0]
                assert not re.search(r" on\w+=", tag.split(">")[0])
                if tag.startswith("script"):
                    assert " src=" in tag or "application/json" in tag
            ids = re.findall(r' id="([^"]+)"', shown)
            assert len(ids) == len({*ids}), address


@pytest.fixture
def site() -> Iterator[AdminSite]:
    yield AdminSite(name="panel")
    set_urlconf(None)
    clear_url_caches()


@pytest.mark.parametrize("model", [Segment, Vip, Numbered])
def test_every_admin_has_the_pages_under_its_own_address(
    site: AdminSite, settings: Any, model: type[Segment]
) -> None:
    site.register(model, SegmentAdmin)
    settings.ROOT_URLCONF = type("URLs", (), {"urlpatterns": [path("panel/", site.urls)]})
    client = person()
    User.objects.filter(pk=client.session["_auth_user_id"]).update(is_superuser=True)
    listed = f"/panel/{model._meta.app_label}/{model._meta.model_name}/"
    shown = html(client, listed)
    for name in ("bunce_import", "pause"):
        assert f'href="{listed}bunce/{name}/"' in shown
        form = html(client, f"{listed}bunce/{name}/")
        assert f'href="{listed}"' in form
        response = client.post(f"{listed}bunce/{name}/", {"reason": "x"})
        assert response["Location"] == listed
    shown = html(client, listed)
    for name in ("cancel_import", "resume"):
        assert f'action="{listed}bunce/{name}/"' in shown
        assert client.post(f"{listed}bunce/{name}/")["Location"] == listed
    assert not PushHold.objects.exists()
    assert ImportRun.objects.get().cancelled
