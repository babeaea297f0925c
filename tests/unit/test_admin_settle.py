"""Differences with Bunce, and how the admin shows and settles them."""

import html as html_module
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models.signals import post_save
from django.test import Client
from django.urls import clear_url_caches, path, set_urlconf
from reversion.admin import VersionAdmin
from reversion.models import Version

from bunce_sync.admin import SegmentAdmin
from bunce_sync.admin.actions import DIFFERENCE
from bunce_sync.models import Segment
from tests.neighbours.models import Tracked, Vip
from tests.unit.admin_people import LIST, page, person, row
from tests.unit.core import fresh

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return person("view_segment", "change_segment", "push_segment")


def changed_in_bunce(name: str = "VIP", **values: Any) -> Segment:
    """Create a segment whose name and description were changed in Bunce."""
    theirs = {"bunce_name": f"{name} of theirs", "bunce_description": "theirs"}
    return row("synced", name, **{"description": "ours", "last_code": "drift", **theirs, **values})


def html(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, response
    return response.content.decode()


def messages(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def difference(client: Client, segment: Segment) -> str:
    """Return what a button of the page sends along."""
    [value] = {*re.findall(rf'name="{DIFFERENCE}" value="(\w+)"', html(client, page(segment)))}
    return str(value)


class TestShown:
    def test_what_was_changed_in_bunce_is_counted_and_can_be_listed(self, client: Client) -> None:
        assert "changed in Bunce" not in html(client, LIST).split('id="changelist"')[0]
        changed_in_bunce()
        row("synced", "Same", bunce_name="Same")
        [link] = re.findall(r'<a href="([^"]*)" id="bunce-changed">([^<]*)<', html(client, LIST))
        assert link == (f"{LIST}?problem=drift", "1 segment was changed in Bunce.")
        [found] = client.get(link[0]).context["cl"].result_list
        assert found.name == "VIP"

    def test_filters_find_what_badges_say(self, client: Client) -> None:
        changed_in_bunce("Changed")
        changed_in_bunce("Different", last_code="stored_differently")
        row("synced", "Twice", bunce_duplicate_id="b-2")
        row("rejected", "Gone", last_code="not_found", bunce_id="b-3")
        row("synced", "There", environment="https://a.test:443 live")
        row("synced", "Imported", imported_at="2026-01-02T03:04:05Z")
        for query, expected in {
            "problem=drift": {"Changed"},
            "problem=differs": {"Different"},
            "problem=duplicate": {"Twice"},
            "problem=gone": {"Gone"},
            "problem=elsewhere": {"There"},
            "problem=held": set(),
            "problem=yes": {"Changed", "Different", "Twice", "Gone"},
            "origin=imported": {"Imported"},
            "origin=here": {"Changed", "Different", "Twice", "Gone", "There"},
        }.items():
            result = client.get(f"{LIST}?{query}").context["cl"].result_list
            assert {segment.name for segment in result} == expected, query

    def test_only_fields_that_differ_are_marked(self, client: Client) -> None:
        segment = changed_in_bunce(bunce_description="ours")
        shown = html(client, page(segment)).split('id="bunce-remote"')[1].split("</section>")[0]
        assert shown.count("differs from here") == 1
        assert 'class="bunce-differs"><dt>Name</dt><dd>VIP of theirs' in shown


class TestOneSegment:
    def test_push_ours_sends_all_of_the_content(self, client: Client) -> None:
        segment = changed_in_bunce(settled={"name": "digest"})
        client.post(page(segment, "push_ours"))
        assert (fresh(segment).status, fresh(segment).settled) == ("pending", None)
        assert (fresh(segment).name, fresh(segment).description) == ("VIP", "ours")

    def test_take_theirs_replaces_the_content_and_sends_nothing(self, client: Client) -> None:
        segment = changed_in_bunce()
        response = client.post(page(segment, "take_theirs"), follow=True)
        assert messages(response) == ["1 segment has Bunce's content now."]
        taken = fresh(segment)
        assert (taken.name, taken.description) == ("VIP of theirs", "theirs")
        assert (taken.status, taken.last_code, taken.unsettled_fields) == ("synced", "", ())
        assert "differs from here" not in html(client, page(segment))

    @pytest.mark.parametrize("action", ["push_ours", "take_theirs"])
    @pytest.mark.parametrize("change", [{"description": "edited"}, {"bunce_name": "Changed again"}])
    def test_a_button_of_an_outdated_page_does_nothing(
        self, client: Client, action: str, change: dict[str, str]
    ) -> None:
        segment = changed_in_bunce()
        shown = difference(client, segment)
        Segment.objects.filter(pk=segment.pk).update(
            **{name: value for name, value in change.items() if name not in Segment.SYNC_FIELDS}
        )
        kept = {"status": "synced", "last_code": "drift"}
        Segment.objects.filter(pk=segment.pk).update_sync_fields(
            **kept,
            **{name: value for name, value in change.items() if name in Segment.SYNC_FIELDS},
        )
        before = fresh(segment)
        response = client.post(page(segment, action), {DIFFERENCE: shown}, follow=True)
        [message] = messages(response)
        assert message.startswith("Nothing was done: the content here or in Bunce has changed")
        after = fresh(segment)
        assert (after.name, after.description, after.status) == (
            before.name,
            before.description,
            before.status,
        )
        assert not LogEntry.objects.exists()
        shown = difference(client, segment)
        client.post(page(segment, action), {DIFFERENCE: shown})
        assert LogEntry.objects.count() == 1

    def test_another_persons_open_page_shows_what_was_taken_before_it_saves(
        self, client: Client
    ) -> None:
        segment = changed_in_bunce()
        opened = html(client, page(segment))
        [shown] = re.findall(r'name="bunce_shown" value="([^"]*)"', opened)
        client.post(page(segment, "take_theirs"))
        form = {"name": "VIP", "description": "mine", "bunce_shown": html_module.unescape(shown)}
        response = client.post(page(segment), form)
        assert "is now “VIP of theirs”" in response.content.decode()
        assert fresh(segment).description == "theirs", "nothing is saved yet"

    def test_take_theirs_also_requires_the_permission_to_change(self) -> None:
        pusher = person("view_segment", "push_segment")
        segment = changed_in_bunce()
        shown = html(pusher, page(segment))
        assert 'id="bunce-button-push_ours"' in shown
        assert "take_theirs" not in shown
        assert "A colleague who can change and push segments" in shown
        assert pusher.post(page(segment, "take_theirs")).status_code == 403
        assert fresh(segment).name == "VIP"

    def test_create_again_gives_the_id_up(self, client: Client) -> None:
        segment = row("rejected", last_code="not_found", bunce_id="b-1")
        response = client.post(page(segment, "create_again"), follow=True)
        assert messages(response)[0].startswith("1 segment will be created in Bunce again")
        assert (fresh(segment).status, fresh(segment).bunce_id) == ("pending", None)


class TestManySegments:
    @pytest.mark.parametrize(
        ("action", "done"),
        [
            ("push_ours", "2 segments will be sent; the results appear here."),
            ("take_theirs", "2 segments have Bunce's content now."),
        ],
    )
    def test_those_that_differ_are_settled_and_the_others_counted(
        self, client: Client, action: str, done: str
    ) -> None:
        rows = [changed_in_bunce("A"), changed_in_bunce("B"), row("synced", "C"), row(name="D")]
        form = {"action": f"{action}_selected", "_selected_action": [one.pk for one in rows]}
        shown = messages(client.post(LIST, form, follow=True))
        assert shown[0] == done
        assert shown[1] == "2 segments were skipped: they do not differ in Bunce."
        assert LogEntry.objects.count() == 2
        assert Segment.objects.filter(last_code="drift", status="synced").count() == 0


class Owned(SegmentAdmin):
    """A site's admin in which users change their own segments only."""

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return obj is None or obj.name.startswith("Mine")


class Versioned(VersionAdmin, SegmentAdmin):  # type: ignore[misc]  # without types
    """A site's admin whose versions django-reversion keeps."""


@pytest.fixture
def site() -> AdminSite:
    return AdminSite(name="panel")


@pytest.fixture(autouse=True)
def forget_addresses() -> Iterator[None]:
    yield
    set_urlconf(None)
    clear_url_caches()


def serve(site: AdminSite, settings: Any) -> None:
    settings.ROOT_URLCONF = type("URLs", (), {"urlpatterns": [path("panel/", site.urls)]})
    clear_url_caches()


class TestOtherAdmins:
    def test_a_rule_of_the_site_about_single_segments_applies(
        self, site: AdminSite, settings: Any
    ) -> None:
        site.register(Segment, Owned)
        serve(site, settings)
        client = person("view_segment", "push_segment")
        rows = [changed_in_bunce("Mine"), changed_in_bunce("Yours")]
        listed = "/panel/bunce_sync/segment/"
        assert client.post(f"{listed}{rows[1].pk}/take_theirs/").status_code == 403
        keys = [one.pk for one in rows]
        form = {"action": "take_theirs_selected", "_selected_action": keys}
        client.post(listed, form)
        assert [fresh(one).name for one in rows] == ["Mine of theirs", "Yours"]

    def test_a_row_of_a_subclass_is_saved_as_such_and_logged_with_it(
        self, site: AdminSite, settings: Any
    ) -> None:
        site.register(Vip, SegmentAdmin)
        serve(site, settings)
        segment = Vip.objects.create(name="VIP", owner="ada")
        change_in_bunce(segment)
        saved: list[type] = []

        def receive(sender: type, **kwargs: Any) -> None:
            saved.append(sender)

        post_save.connect(receive, sender=Vip)
        try:
            superuser().post(f"/panel/neighbours/vip/{segment.pk}/take_theirs/")
        finally:
            post_save.disconnect(receive, sender=Vip)
        assert saved == [Vip]
        segment.refresh_from_db()
        assert (segment.name, segment.owner, segment.status) == ("Theirs", "ada", "synced")
        entry = LogEntry.objects.get()
        content_type = ContentType.objects.get_for_model(Vip)
        assert (entry.content_type, entry.object_id) == (content_type, str(segment.pk))

    def test_reversion_keeps_what_was_taken(self, site: AdminSite, settings: Any) -> None:
        site.register(Segment, Versioned)
        serve(site, settings)
        segments = [changed_in_bunce("A"), changed_in_bunce("B")]
        client = superuser()
        client.post(f"/panel/bunce_sync/segment/{segments[0].pk}/take_theirs/")
        form = {"action": "take_theirs_selected", "_selected_action": [segments[1].pk]}
        client.post("/panel/bunce_sync/segment/", form)
        for segment in segments:
            [version] = Version.objects.get_for_object(segment)
            assert version.field_dict["name"] == f"{segment.name} of theirs"
            assert version.revision.user_id == int(client.session["_auth_user_id"])

    def test_simple_history_keeps_what_was_taken(self, site: AdminSite, settings: Any) -> None:
        site.register(Tracked, SegmentAdmin)
        serve(site, settings)
        segment = Tracked.objects.create(name="VIP")
        change_in_bunce(segment)
        superuser().post(f"/panel/neighbours/tracked/{segment.pk}/take_theirs/")
        assert [version.name for version in segment.history.all()] == ["Theirs", "VIP"]


def superuser() -> Client:
    client = person()
    User.objects.filter(pk=client.session["_auth_user_id"]).update(is_superuser=True)
    return client


def change_in_bunce(segment: Segment) -> None:
    Segment.objects.filter(pk=segment.pk).update_sync_fields(
        status="synced", bunce_id="b-1", bunce_name="Theirs", last_code="drift"
    )
