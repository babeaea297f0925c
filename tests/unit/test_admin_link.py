"""The action that links waiting segments to imported ones, and its preview."""

import re
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.test import Client

from bunce_sync import services
from bunce_sync.admin import SegmentAdmin, link_view
from bunce_sync.conf import conf
from bunce_sync.models import Segment, Tombstone
from tests.unit.admin_people import LIST, person, row
from tests.unit.core import fresh

pytestmark = pytest.mark.django_db

BUNCE_TIME = datetime(2024, 12, 5, 8, 30, tzinfo=UTC)


@pytest.fixture
def client() -> Client:
    return person("view_segment", "change_segment", "push_segment")


def imported(name: str, description: str | None = None, **values: Any) -> Segment:
    """Create a row as an import does."""
    bunce = {"bunce_id": str(uuid.uuid4()), "bunce_created_at": BUNCE_TIME}
    segment = row(
        "synced",
        name,
        description=description,
        **{"imported_at": datetime(2026, 1, 2, tzinfo=UTC), "sent_at": None, **bunce, **values},
    )
    segments = Segment.objects.filter(pk=segment.pk)
    segments.update_sync_fields(
        environment=conf.environment, settled=segment.field_digests(segment.UPDATE_FIELDS)
    )
    return fresh(segment)


def choose(client: Client, *segments: Segment, **form: str) -> Any:
    """Choose the action for rows of the list, and return its page."""
    keys = [segment.pk for segment in segments]
    return client.post(LIST, {"action": "link_selected", "_selected_action": keys, **form})


def confirm(client: Client, preview: Any, **changes: str) -> list[str]:
    """Submit the form of the preview, and return the messages that follow."""
    shown = preview.content.decode()
    form = shown.split('class="bunce-form"')[1].split("</form>")[0]
    values = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    response = client.post(LIST, values | changes, follow=True)
    assert response.redirect_chain, response.status_code
    return [str(message) for message in response.context["messages"]]


class TestPreview:
    def test_it_shows_what_would_be_linked_and_changes_nothing(self, client: Client) -> None:
        waiting, other = row(name="VIP", description="d"), row(name="Other")
        found = imported("VIP", "d")
        preview = choose(client, waiting, other, found)
        shown = preview.content.decode()
        assert preview.status_code == 200
        [pair] = re.findall(r"<li>(<strong>.*?)</li>", shown)
        text = re.sub(r"<[^>]+>", " ", pair)
        assert re.sub(r"\s+", " ", text).strip() == (
            f"VIP → {found.bunce_id} created in Bunce on Dec. 5, 2024, 8:30 a.m."
            " imported on Jan. 2, 2026, midnight"
        )
        assert "The rows that the import added for them are deleted here" in shown
        assert "2 selected segments have no unedited imported segment" in shown
        assert f'href="{LIST}bunce/bunce_import/"' in shown
        assert fresh(waiting).bunce_id is None
        assert not LogEntry.objects.exists()

    def test_without_a_match_there_is_no_button_but_the_hint_to_import(
        self, client: Client
    ) -> None:
        shown = choose(client, row(), row("synced", "B")).content.decode()
        assert "There is nothing to link." in shown
        assert "If Bunce has such segments, import them first." in shown
        assert 'type="submit"' not in shown.split('id="content-main"')[1]

    def test_names_are_escaped(self, client: Client) -> None:
        name = "<script>alert(1)</script>"
        imported(name)
        assert name not in choose(client, row(name=name)).content.decode()

    def test_many_pairs_are_linked_in_portions(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(link_view, "MAX_PAIRS", 2)
        rows = [row(name=f"S{number}") for number in range(3)]
        for segment in rows:
            imported(segment.name)
        preview = choose(client, rows[0], select_across="1")
        assert "These are the first 2. Repeat the action" in preview.content.decode()
        assert confirm(client, preview) == ["2 segments were linked to the existing ones."]
        preview = choose(client, rows[0], select_across="1")
        assert confirm(client, preview) == ["1 segment was linked to the existing one."]

    def test_the_number_of_queries_does_not_grow_with_the_pairs(
        self, client: Client, django_assert_max_num_queries: Any
    ) -> None:
        rows = [row(name=f"S{number}") for number in range(20)]
        for segment in rows:
            imported(segment.name)
        choose(client, rows[0])
        with django_assert_max_num_queries(25):
            assert choose(client, *rows).content.decode().count("<li><strong>") == 20


class TestConfirming:
    def test_the_waiting_segment_gets_the_one_in_bunce(self, client: Client) -> None:
        waiting, found = row(name="VIP"), imported("VIP")
        shown = confirm(client, choose(client, waiting))
        assert shown == ["1 segment was linked to the existing one."]
        linked = fresh(waiting)
        assert (linked.status, linked.bunce_id) == ("synced", found.bunce_id)
        assert not Segment.objects.filter(pk=found.pk).exists()
        assert not Tombstone.objects.exists(), "it is not left out of imports"
        entries = {entry.action_flag: entry for entry in LogEntry.objects.all()}
        assert entries[CHANGE].object_id == str(waiting.pk)
        assert entries[CHANGE].change_message == f"Linked to {found.bunce_id}"
        assert entries[DELETION].object_id == str(found.pk)
        assert str(waiting.pk) in entries[DELETION].change_message

    def test_what_changed_since_the_preview_is_not_linked(self, client: Client) -> None:
        rows = [row(name=name) for name in ("Edited", "Deleted", "Taken", "Good")]
        for segment in rows:
            imported(segment.name)
        preview = choose(client, *rows)
        rows[0].name = "Edited since"
        rows[0].save()
        rows[1].delete()
        found = Segment.objects.get(name="Taken", status="synced")
        found.description = "edited"
        found.save()
        assert confirm(client, preview) == [
            "1 segment was linked to the existing one.",
            "3 segments were not linked: they were changed, sent or are referred to since.",
        ]
        assert LogEntry.objects.filter(action_flag=CHANGE).count() == 1

    def test_a_second_click_links_nothing_more(self, client: Client) -> None:
        waiting = row(name="VIP")
        imported("VIP")
        preview = choose(client, waiting)
        confirm(client, preview)
        [message] = confirm(client, preview)
        assert message.startswith("1 segment was not linked")

    @pytest.mark.parametrize(
        "pairs", ["", "x", "1", "1:2:3", "1:2,", ",".join(["1:2"] * 201), "1:" + "9" * 19, "²:1"]
    )
    def test_a_changed_form_is_refused(self, client: Client, pairs: str) -> None:
        form = {"action": "link_selected", "_selected_action": [row().pk], "bunce_pairs": pairs}
        assert client.post(LIST, form).status_code == 400

    def test_only_what_the_user_may_change_is_linked(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waiting, mine = row(name="VIP"), row(name="Mine")
        imported("VIP")
        imported("Mine")
        preview = choose(client, waiting, mine)
        allowed = SegmentAdmin.has_change_permission

        def change(self: Any, request: Any, obj: Any = None) -> bool:
            return allowed(self, request, obj) and (obj is None or obj.name == "Mine")

        monkeypatch.setattr(SegmentAdmin, "has_change_permission", change)
        confirm(client, preview)
        assert (fresh(waiting).bunce_id, fresh(mine).bunce_id is not None) == (None, True)

    def test_only_what_the_user_may_see_is_linked(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hidden, own = row(name="Hidden"), row(name="Own")
        found = imported("Hidden")
        everything = SegmentAdmin.get_queryset
        monkeypatch.setattr(
            SegmentAdmin,
            "get_queryset",
            lambda admin, request: everything(admin, request).exclude(name="Hidden"),
        )
        choose(client, own, bunce_pairs=f"{hidden.pk}:{found.pk}")
        assert fresh(hidden).bunce_id is None

    @pytest.mark.parametrize("missing", ["change_segment", "push_segment"])
    def test_it_requires_both_permissions(self, missing: str) -> None:
        permissions = {"view_segment", "change_segment", "push_segment"} - {missing}
        client = person(*permissions)
        waiting = row(name="VIP")
        found = imported("VIP")
        assert b"link_selected" not in client.get(LIST).content
        choose(client, waiting, bunce_pairs=f"{waiting.pk}:{found.pk}")
        assert fresh(waiting).bunce_id is None
        assert services.adoptable(Segment.objects.all())
