"""Two people who edit one segment: each saves what they changed, and sees the other's change."""

from __future__ import annotations

import html as html_module
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db.models import Count
from django.forms import DateTimeField, ModelForm, MultiWidget, Textarea
from django.test import Client
from django.urls import clear_url_caches, path, set_urlconf
from django.utils import timezone

from bunce_sync.admin import SegmentAdmin
from bunce_sync.models import Segment
from tests.neighbours.models import Campaign
from tests.unit.admin_people import editor, page, person, row
from tests.unit.core import fresh

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return editor()


def as_sent(text: str) -> str:
    """Return a text with the line ends that a browser sends."""
    return re.sub(r"\r\n?|\n", "\r\n", text)


class Form:
    """The form of an open change page, filled in as a browser would."""

    def __init__(self, client: Client, segment: Segment, address: str = "") -> None:
        self.client = client
        self.address = address or page(segment)
        self._read(client.get(self.address))

    def _read(self, response: Any) -> None:
        assert response.status_code == 200
        self.text = html_module.unescape(response.content.decode())
        self.values: dict[str, Any] = {}
        for field in response.context["adminform"].form:
            self._fill_in(field.html_name, field.field.widget, field.value())
        shown = re.search(r'name="bunce_shown" value="([^"]*)"', response.content.decode())
        assert shown
        self.values["bunce_shown"] = html_module.unescape(shown[1])

    def _fill_in(self, name: str, widget: Any, value: Any) -> None:
        """Add what a browser sends for an untouched field."""
        widget = getattr(widget, "widget", widget)  # the admin wraps those of relations
        if isinstance(widget, MultiWidget):
            split: Any = widget
            pieces = value if isinstance(value, list) else split.decompress(value)
            parts = zip(split.widgets_names, split.widgets, pieces, strict=True)
            for suffix, part, piece in parts:
                self._fill_in(f"{name}{suffix}", part, piece)
            return
        sent = widget.get_context(name, value, {})["widget"]
        if "optgroups" in sent:
            chosen = [
                one["value"]
                for _, group, _ in sent["optgroups"]
                for one in group
                if one["selected"]
            ]
            self.values[name] = [str(one) for one in chosen]
        elif sent.get("type") == "checkbox":
            if value:
                self.values[name] = "on"
        elif sent.get("type") != "file":
            text = sent["value"] or ""
            one_line = not isinstance(widget, Textarea)
            self.values[name] = re.sub(r"[\r\n]", "", text) if one_line else as_sent(text)

    def save(self, **changes: Any) -> bool:
        """Save with these changes; return whether the page was left. If not, it is shown again."""
        self.values |= changes
        response = self.client.post(self.address, self.values)
        if response.status_code == 302:
            return True
        self._read(response)
        return False

    def errors(self) -> str:
        [found] = re.findall(r'<ul class="errorlist nonfield[^>]*>(.*?)</ul>', self.text, re.DOTALL)
        return " ".join(re.findall(r"<li>(.*?)</li>", found, re.DOTALL))


def change(segment: Segment, **values: Any) -> None:
    """Change the row as another person or a program would."""
    for name, value in values.items():
        setattr(segment, name, value)
    segment.save()


def test_what_another_changed_is_shown_first_and_not_reverted(client: Client) -> None:
    segment = row(name="VIP", description="old")
    form = Form(client, segment)
    change(segment, name="Gold")
    assert not form.save(description="mine")
    assert fresh(segment).description == "old", "nothing is saved yet"
    assert form.errors() == (
        "Nothing was saved yet: the segment was changed while this page was open. Check the new"
        " values, and save again to keep your changes. Name: “VIP” is now “Gold”."
    )
    assert (form.values["name"], form.values["description"]) == ("Gold", "mine")
    assert form.save()
    assert (fresh(segment).name, fresh(segment).description) == ("Gold", "mine")


def test_when_both_changed_the_same_field_the_second_save_decides(client: Client) -> None:
    segment = row(name="VIP")
    form = Form(client, segment)
    change(segment, name="Gold")
    assert not form.save(name="Silver")
    assert "“VIP” is now “Gold”. Saving replaces it with yours." in form.errors()
    assert form.values["name"] == "Silver"
    assert form.save()
    assert fresh(segment).name == "Silver"


def test_a_change_between_the_two_saves_is_shown_as_well(client: Client) -> None:
    segment = row(name="VIP")
    form = Form(client, segment)
    change(segment, name="Gold")
    assert not form.save(description="mine")
    change(segment, name="Bronze")
    assert not form.save()
    assert "“Gold” is now “Bronze”" in form.errors()
    assert form.save()
    assert (fresh(segment).name, fresh(segment).description) == ("Bronze", "mine")


def test_the_box_is_compared_too(client: Client) -> None:
    segment = row(name="VIP")
    form = Form(client, segment)
    change(segment, add_all_customers=True)
    assert not form.save(name="Gold")
    assert "Add all customers: “No” is now “Yes”." in form.errors()
    assert form.values["add_all_customers"] == "on"
    change(segment, add_all_customers=False)
    assert not form.save()
    assert "add_all_customers" not in form.values
    assert form.save()
    assert (fresh(segment).name, fresh(segment).add_all_customers) == ("Gold", False)


@pytest.mark.parametrize(
    ("name", "description"),
    [
        *(("VIP", text) for text in ("two\nlines", "two\r\nlines", "a\rb", None, "", "\n first")),
        *((" VIP ", " x "), ("two\nlines", None)),
    ],
)
def test_a_row_that_nobody_changed_is_saved_at_once(
    client: Client, name: str, description: str | None
) -> None:
    segment = row(name=name, description=description)
    assert Form(client, segment).save(), "nothing was edited"
    assert (fresh(segment).name, fresh(segment).description) == (name, description)
    assert Form(client, segment).save(name="Gold")
    assert (fresh(segment).name, fresh(segment).description) == ("Gold", description)


def test_the_sync_is_no_person(client: Client) -> None:
    segment = row(name="VIP")
    form = Form(client, segment)
    Segment.objects.filter(pk=segment.pk).update_sync_fields(
        status="synced", bunce_id="a1", bunce_name="VIP"
    )
    assert form.save(name="Gold")


def test_a_program_that_posts_the_fields_alone_saves_them(client: Client) -> None:
    segment = row(name="VIP", description="old")
    assert client.post(page(segment), {"name": "Gold", "description": "new"}).status_code == 302
    assert (fresh(segment).name, fresh(segment).description) == ("Gold", "new")


def test_the_log_names_only_what_was_edited(client: Client) -> None:
    segment = row(name="VIP", description="old")
    form = Form(client, segment)
    change(segment, name="Gold")
    form.save(description="mine")
    assert form.save()
    [entry] = LogEntry.objects.all()
    assert json.loads(entry.change_message) == [{"changed": {"fields": ["Description"]}}]


def test_an_update_of_the_open_page_contains_the_values(client: Client) -> None:
    segment = row(name="VIP", description="old")
    opened = client.get(page(segment)).content.decode()
    [shown] = re.findall(r'data-bunce-content="(\w+)"', opened)
    before = client.get(page(segment, "live"))
    assert before.json()["content"] == shown
    change(segment, name="Gold")
    after = client.get(page(segment, "live"), headers={"If-None-Match": before["ETag"]})
    assert after.status_code == 200
    assert after.json()["content"] != shown
    assert after.json()["values"] == [
        ["Name", "name", "Gold", True],
        ["Description", "description", "old", True],
        ["Add all customers", "add_all_customers", "False", True],
    ]


def test_a_reader_only_learns_that_something_changed() -> None:
    reader = person("view_segment")
    segment = row(name="VIP")
    assert reader.get(page(segment, "live")).json()["values"] == []
    assert "data-bunce-changed" in reader.get(page(segment)).content.decode()


# A site's own model and admin


class CampaignForm(ModelForm):  # type: ignore[type-arg]  # Django takes none
    """A site's form, whose field ``at`` is no column, and which computes a column."""

    at = DateTimeField(initial=timezone.now, required=False)

    def clean(self) -> dict[str, Any]:
        return {**self.cleaned_data, "slug": self.cleaned_data.get("name", "").lower()}


class CampaignAdmin(SegmentAdmin):
    """A site's admin of a subclass."""

    form = CampaignForm
    fields = (
        *("name", "description", "groups", "starts", "paid", "rules", "budget", "owner"),
        *("attachment", "slug", "at"),
    )

    def get_queryset(self, request: Any) -> Any:
        rows: Any = super().get_queryset(request)
        return rows.select_related("owner").annotate(n=Count("calls"))

    def save_model(self, request: Any, obj: Any, form: Any, change: bool) -> None:
        obj.editor = request.user.username
        super().save_model(request, obj, form, change)


@pytest.fixture
def campaign(settings: Any) -> Iterator[Campaign]:
    """A row of a subclass that has its own admin, at the admin's usual address."""
    site = AdminSite()
    site.register(Campaign, CampaignAdmin)
    settings.ROOT_URLCONF = type("URLs", (), {"urlpatterns": [path("admin/", site.urls)]})
    User.objects.update(is_superuser=True)
    campaign = Campaign.objects.create(
        name="Spring",
        starts=datetime(2026, 3, 1, 12, 30, 15, 123456, UTC),
        paid=True,
        rules={"b": [1], "a": None},
        attachment="a.txt",
    )
    campaign.groups.set([Group.objects.create(name=f"g{n}") for n in range(2)])
    yield campaign
    set_urlconf(None)
    clear_url_caches()


def open_campaign(client: Client, campaign: Campaign) -> Form:
    return Form(client, campaign, f"/admin/neighbours/campaign/{campaign.pk}/change/")


def stored(campaign: Campaign) -> dict[str, Any]:
    names = ("name", "description", "starts", "paid", "rules", "budget", "owner", "attachment")
    row = Campaign.objects.filter(pk=campaign.pk).values(*names).get()
    groups = campaign.groups.order_by("name").values_list("name", flat=True)
    return {**row, "groups": list(groups)}


def test_an_edit_changes_no_other_field_of_any_kind(client: Client, campaign: Campaign) -> None:
    before = stored(campaign)
    assert open_campaign(client, campaign).save(name="Summer")
    assert stored(campaign) == {**before, "name": "Summer"}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"starts": datetime(2030, 1, 1, tzinfo=UTC)}, "Starts: “2026-03-01T12:30:15"),
        ({"starts": None}, "is now “(empty)”"),
        ({"paid": False}, "Paid: “Yes” is now “No”."),
        ({"paid": None}, "Paid: “Yes” is now “(empty)”."),
        ({"rules": {"c": 2}}, 'is now “{"c": 2}”.'),
        ({"budget": Decimal("12.50")}, "Budget: “0.00” is now “12.50”."),
        ({"attachment": "b.txt"}, "Attachment: “a.txt” is now “b.txt”."),
        ({"groups": ["g1"]}, "Groups: "),
        ({"groups": []}, "is now “(empty)”."),
    ],
)
def test_a_change_of_a_field_of_any_kind_is_shown_and_kept(
    client: Client, campaign: Campaign, values: dict[str, Any], text: str
) -> None:
    form = open_campaign(client, campaign)
    kept = dict(values)
    if "groups" in kept:
        campaign.groups.set(Group.objects.filter(name__in=kept.pop("groups")))
    change(campaign, **kept)
    expected = {**stored(campaign), "name": "Summer"}
    assert not form.save(name="Summer")
    assert text in form.errors()
    assert "Saving replaces" not in form.errors()
    assert form.save()
    assert stored(campaign) == expected


def test_two_changes_of_a_date_are_told(client: Client, campaign: Campaign) -> None:
    form = open_campaign(client, campaign)
    change(campaign, starts=datetime(2030, 1, 1, tzinfo=UTC))
    assert not form.save(starts_0="2027-07-07")
    assert "Saving replaces it with yours." in form.errors()
    assert form.save()
    assert stored(campaign)["starts"].year == 2027


def test_what_the_sites_own_code_sets_is_saved(client: Client, campaign: Campaign) -> None:
    before = Campaign.objects.get().saved
    assert open_campaign(client, campaign).save(name="Summer")
    saved = Campaign.objects.get()
    assert (saved.slug, saved.editor != "", saved.saved > before) == ("summer", True, True)


def test_a_box_that_can_no_longer_be_ticked_is_told(client: Client) -> None:
    segment = row(name="VIP")
    form = Form(client, segment)
    Segment.objects.filter(pk=segment.pk).update_sync_fields(
        status="synced", bunce_id="a1", sent_at=timezone.now()
    )
    assert not form.save(add_all_customers="on", description="mine")
    assert form.errors().startswith("Nothing was saved: “Add all customers” cannot be changed")
    assert form.save()
    assert fresh(segment).description == "mine"
