"""The customers of segments in the admin."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bunce_sync import audiences
from bunce_sync.admin.members import MemberAdmin
from bunce_sync.models import ApiCall, CustomerSync, Member, Segment
from bunce_sync.sync import audience_runs, customers, refresh
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.customers import CUSTOMERS
from bunce_sync.sync.work import KINDS
from bunce_sync.testing.emulator import Emulator

from .admin_people import LIST, page, person
from .core import make
from .test_audiences import Staff, audience, held, people, sync, usernames
from .test_customers import ids, in_bunce, statuses

__all__ = ["audience"]

pytestmark = pytest.mark.django_db

CALL_LOG = "/admin/bunce_sync/apicall/"
MEMBERS = "/admin/bunce_sync/member/"
PAGES = ("add", "remove", "retry", "compare", "resync", "decide")


@pytest.fixture
def client() -> Client:
    return person(
        *("view_segment", "change_segment", "change_customers", "confirm_removals", "view_member")
    )


def path(segment: Segment, name: str) -> str:
    return page(segment, f"customers/{name}")


def panel(client: Client, segment: Segment) -> str:
    """Return the text of the panel on the change page."""
    html = client.get(page(segment)).content.decode()
    found = re.search(r'<div id="bunce-customers">(.*?)</section>', html, re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def post(client: Client, address: str, form: Any = None) -> list[str]:
    """Post a form and return the messages on the page to which it leads."""
    response = client.post(address, form or {}, follow=True)
    assert response.redirect_chain, response.content.decode()
    return [str(message) for message in response.context["messages"]]


def logged() -> list[str]:
    return [*LogEntry.objects.values_list("change_message", flat=True)]


def test_a_segment_without_customers_offers_to_add_some(client: Client) -> None:
    segment = make("A")
    assert panel(client, segment) == "No customers were added here. Add customers"
    assert not CustomerSync.objects.exists()
    everyone = make("B", add_all_customers=True)
    assert "Bunce adds all customers" in panel(client, everyone)


def test_the_panel_shows_the_numbers(bunce: Emulator, client: Client) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(1_200))
    assert panel(client, segment).startswith(
        "In this segment 1,200 In Bunce 0 Waiting to be sent 1,200 Add customers"
    )
    customers.run(Budget(30))
    assert panel(client, segment).startswith("In this segment 1,200 In Bunce 1,200 Add customers")
    refresh.run(Budget(30))
    assert panel(client, segment).startswith(
        "In this segment 1,200 In Bunce 1,200 Counted by Bunce 1,200 Add customers"
    )


def test_a_page_needs_more_queries_only_if_the_segment_has_customers(client: Client) -> None:
    def count(segment: Segment) -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(page(segment))
        return len(queries)

    segment = make("A")
    client.get(page(segment))
    before = count(segment)
    assert count(make("B", add_all_customers=True)) == before
    segment.add_customers(ids(3))
    few = count(segment)
    assert before < few
    segment.add_customers(ids(300))
    assert count(segment) == few <= before + 7


def test_pasted_customers_are_added(client: Client) -> None:
    segment = make("A")
    told = post(client, path(segment, "add"), {"text": "c-1\r\n\r\n ann@example.com \nc-1\n"})
    assert told == ["2 customers added, 0 changed, 0 unchanged."]
    assert set(statuses(segment)) == {"c-1", "ann@example.com"}
    assert logged() == ["Added or changed 2 customers."]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_a_csv_file_is_added(client: Client, encoding: str, separator: str) -> None:
    segment = make("A")
    rows = [["Customer ID", "email", "first_name"], ["c-1", "A@b.c", "Ané"], ["", "x@y.z", ""]]
    text = "\n".join(separator.join(row) for row in rows)
    file = SimpleUploadedFile("c.csv", text.encode(encoding))
    assert post(client, path(segment, "add"), {"file": file})[0].startswith("2 customers added")
    member = Member.objects.get(identifier="c-1")
    assert member.profile == {"email": "a@b.c", "first_name": "Ané"}
    assert Member.objects.get(identifier="x@y.z").is_email


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Enter customers or choose a file."),
        ("a\n" + "x" * 256, "Line 2: the identifier has more than 255 characters."),
        ("customer_id,email\n,\nc-1,a@b.c,z", "Line 3: there are more values than columns."),
        ("customer_id,phone\nc", "Line 1: unknown column; the columns are customer_id, email,"),
        ("customer_id,email,Email\nc,a,b", "Line 1: the same column is named twice."),
        (
            'email,last_name\na@b.c,"two\nlines"\n,x',
            "Line 4: customer_id and email are both empty.",
        ),
        ('c-1\n"c-2\nc-3', "Line 2: not valid CSV; check the quotation marks."),
        ('c-1\n"c-2" c-3\n', "Line 2: not valid CSV; check the quotation marks."),
        ('"' + "x" * 200_000, "Line 1: not valid CSV; check the quotation marks."),
        ("\n".join(["x" * 256] * 12), "2 more lines cannot be used. Nothing was stored."),
    ],
)
def test_mistakes_are_named_by_their_line_and_nothing_is_stored(
    client: Client, text: str, expected: str
) -> None:
    segment = make("A")
    response = client.post(path(segment, "add"), {"text": text})
    assert response.status_code == 200
    assert expected in response.content.decode()
    assert not Member.objects.exists()


def test_a_file_that_is_no_text_is_refused(client: Client) -> None:
    file = SimpleUploadedFile("c.csv", b"\xff\xfe\x00")
    response = client.post(path(make("A"), "add"), {"file": file})
    assert "The file is no text in UTF-8." in response.content.decode()


def test_a_file_that_is_too_large_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunce_sync.admin.customers.MAX_BYTES", 10)
    file = SimpleUploadedFile("c.csv", b"customer_id\nc-1")
    response = client.post(path(make("A"), "add"), {"file": file})
    assert "The file is larger than 10\xa0bytes." in response.content.decode()


def test_too_many_customers_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunce_sync.admin.customers.MAX_CUSTOMERS", 2)
    response = client.post(path(make("A"), "add"), {"text": "a\nb\nc"})
    assert "These are more than 2 customers." in response.content.decode()
    assert not Member.objects.exists()


def test_the_form_says_how_much_can_be_pasted(client: Client, settings: Any) -> None:
    shown = client.get(path(make("A"), "add")).content.decode()
    assert "For more than 2.5\xa0MB use a file." in shown
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
    assert "use a file" not in client.get(path(make("B"), "add")).content.decode()


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb\r\n", "\ufeffcustomer_id\na\nb", '"a"\n\nb\n'])
def test_line_breaks_and_marks_of_other_programs_are_read(client: Client, text: str) -> None:
    segment = make("A")
    post(client, path(segment, "add"), {"file": SimpleUploadedFile("c.csv", text.encode())})
    assert set(statuses(segment)) == {"a", "b"}


def test_pasted_customers_are_removed(client: Client) -> None:
    segment = make("A")
    segment.add_customers(ids(3))
    told = post(client, path(segment, "remove"), {"text": "c-1\nother"})
    assert told == ["1 customers removed; 1 were not in the segment."]
    assert set(statuses(segment)) == {"c-0", "c-2"}


def test_refused_customers_are_shown_and_retried(bunce: Emulator, client: Client) -> None:
    segment = in_bunce(bunce)
    bunce.set(refused_customers=["c-1"])
    segment.add_customers(ids(3))
    customers.run(Budget(30))
    assert "Customers that Bunce refused: 1." in panel(client, segment)
    html = client.get(f"{MEMBERS}?segment={segment.pk}&status__exact=refused").content.decode()
    assert "is not valid: c-1" in html
    assert ">c-2<" not in html
    assert post(client, path(segment, "retry")) == ["1 refused customers are sent again."]
    assert statuses(segment)["c-1"] == "pending"
    assert logged() == ["Retried 1 refused customers."]


def test_all_are_sent_again(bunce: Emulator, client: Client) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(3))
    customers.run(Budget(30))
    assert "All 3 customers" in client.get(path(segment, "resync")).content.decode()
    assert post(client, path(segment, "resync")) == ["3 customers are sent again."]
    assert set(statuses(segment).values()) == {"pending"}


def test_nothing_is_sent_again_where_nothing_was_sent(client: Client) -> None:
    segment = make("A")
    for _ in range(2):
        assert post(client, path(segment, "resync")) == ["No customers were added here."]
        segment.add_customers(["c-1"])
        segment.remove_customers(["c-1"])
    assert logged() == []


def test_what_changes_nothing_is_not_logged(client: Client) -> None:
    segment = make("A")
    segment.add_customers(["c-1"])
    post(client, path(segment, "add"), {"text": "c-1"})
    post(client, path(segment, "remove"), {"text": "c-2"})
    post(client, path(segment, "retry"))
    assert logged() == []


@pytest.mark.parametrize("name", ["add", "remove"])
def test_a_segment_with_all_customers_gets_no_others(client: Client, name: str) -> None:
    segment = make("A", add_all_customers=True)
    told = post(client, path(segment, name), {"text": "c-1"})
    assert told == ["Bunce adds all customers to this segment, so none are added here."]
    assert not Member.objects.exists()


def test_the_panel_of_the_list_says_how_many_wait(
    client: Client, bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(3))
    assert "Due now: 3 customers to send" in client.get(LIST).content.decode()
    monkeypatch.setattr("bunce_sync.sync.customers.COUNTED", 2)
    kinds = [replace(kind, counted=2) if kind is CUSTOMERS else kind for kind in KINDS]
    monkeypatch.setattr("bunce_sync.admin.panel.KINDS", kinds)
    assert "Due now: 2+ customers to send" in client.get(LIST).content.decode()


def test_the_calls_of_a_segment_tell_how_many_customers_and_offer_no_command(
    bunce: Emulator,
) -> None:
    segment = in_bunce(bunce)
    segment.add_customers(ids(3))
    customers.run(Budget(30))
    html = person("view_segment", "view_apicall").get(page(segment)).content.decode()
    assert "<strong>Add customers: 3</strong>" in html
    assert "curl -X POST" not in html.partition("Add customers: 3")[2].partition("</li>")[0]
    call = ApiCall.objects.get(operation="add")
    html = person("view_apicall").get(f"{CALL_LOG}{call.pk}/change/").content.decode()
    assert "customers" in html
    assert "3}" in html


class TestAudience:
    def test_its_name_belongs_to_the_class(
        self, bunce: Emulator, client: Client, audience: Staff
    ) -> None:
        segment = sync(audience)
        html = client.get(page(segment)).content.decode()
        assert 'name="name"' not in html
        assert "Name and description come from the class of the audience “staff”" in html
        shown = panel(client, segment)
        assert "They come from the audience “staff”" in shown
        assert "Add customers" not in shown
        assert "Compare now" in shown
        client.post(page(segment), {"name": "Mine", "description": ""})
        assert Segment.objects.get().name == "Staff"

    def test_a_class_that_is_gone_leaves_the_fields_to_people(
        self, bunce: Emulator, client: Client, audience: Staff
    ) -> None:
        segment = sync(audience)
        audiences.unregister(Staff)
        html = client.get(page(segment)).content.decode()
        assert 'name="name"' in html
        assert "come from the class" not in html
        assert "This segment is no longer maintained." in panel(client, segment)

    def test_it_is_compared_on_demand(
        self, bunce: Emulator, client: Client, audience: Staff
    ) -> None:
        segment = sync(audience)
        assert post(client, path(segment, "compare")) == [
            "The audience is compared as soon as a worker is free."
        ]
        assert held(audience).run_requested_at is not None
        assert logged() == ["Requested a comparison of the audience."]

    @pytest.mark.parametrize("name", ["add", "remove"])
    def test_its_customers_are_not_changed_by_hand(
        self, bunce: Emulator, client: Client, audience: Staff, name: str
    ) -> None:
        segment = sync(audience)
        before = statuses(segment)
        for response in (
            client.get(path(segment, name), follow=True),
            client.post(path(segment, name), {"text": "c-1"}, follow=True),
        ):
            [told] = [str(message) for message in response.context["messages"]]
            assert told == "They come from the audience “staff” of the site's code."
        assert statuses(segment) == before

    @pytest.mark.parametrize("drop", [False, True])
    def test_held_removals_are_decided(
        self, bunce: Emulator, client: Client, audience: Staff, drop: bool
    ) -> None:
        people(12)
        segment = sync(audience)
        User.objects.update(is_active=False)
        User.objects.filter(username__startswith="person").update(is_active=True)
        User.objects.filter(username__startswith="u-").update(is_active=False)
        Staff.max_removals, before = 3, Staff.max_removals
        try:
            audience_runs.compare(audience)
            assert "12 of 13 customers would be removed: held since" in panel(client, segment)
            html = client.get(LIST).content.decode()
            assert "is held: 12 of 13 customers" in html
            assert f'href="{page(segment)}">Open the segment</a>' in html
            assert html.count("bunce-urgent") == 1
            html = client.get(path(segment, "decide")).content.decode()
            assert "<code>u-0</code>" in html
            stale = post(client, path(segment, "decide"), {"shown": "11"})
            assert stale[0].startswith("Nothing was changed")
            choice = {"drop": "1"} if drop else {"confirm": "1"}
            post(client, path(segment, "decide"), {"shown": "12", **choice})
            word = "Dropped" if drop else "Confirmed"
            assert logged() == [f"{word} the removal of 12 customers."]
            if not drop:
                sync(audience)
                assert bunce.member_ids(str(segment.bunce_id)) == usernames()
        finally:
            Staff.max_removals = before
        assert "held since" not in panel(client, segment)


class TestList:
    def test_it_is_searched_by_the_beginning(self, client: Client) -> None:
        segment = make("A")
        segment.add_customers(["ann@example.com", "anton@example.com", "bo@example.com"])
        html = client.get(f"{MEMBERS}?segment={segment.pk}&q=AN%40").content.decode()
        assert "ann@example.com" not in html
        html = client.get(f"{MEMBERS}?segment={segment.pk}&q=ann").content.decode()
        assert "ann@example.com" in html
        assert "anton@example.com" not in html
        html = client.get(f"{MEMBERS}?segment={segment.pk}&q=Ann").content.decode()
        assert "ann@example.com" in html

    def test_selected_customers_are_removed(self, client: Client) -> None:
        segment = make("A")
        segment.add_customers(ids(3))
        chosen = Member.objects.filter(identifier__in=["c-0", "c-1"]).values_list("pk", flat=True)
        form = {"action": "remove_selected", "_selected_action": [*chosen]}
        assert post(client, f"{MEMBERS}?segment={segment.pk}", form) == [
            "2 customers removed; 0 were not in the segment."
        ]
        assert set(statuses(segment)) == {"c-2"}

    def test_those_of_an_audience_are_left_alone(
        self,
        bunce: Emulator,
        client: Client,
        audience: Staff,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        people(2)
        segment = sync(audience)
        chosen = Member.objects.values_list("pk", flat=True)
        form = {"action": "remove_selected", "_selected_action": [*chosen]}
        address = f"{MEMBERS}?segment={segment.pk}"
        html = client.get(address).content.decode()
        assert 'value="retry_selected"' in html
        assert 'value="remove_selected"' not in html
        assert client.post(address, form).status_code in (200, 302)
        # It may have become an audience's since the page was shown.
        monkeypatch.setattr(MemberAdmin, "_has_audience", lambda *args: False)
        told = post(client, address, form)
        assert "were left alone" in told[-1]
        assert Member.objects.filter(wanted=True).count() == len(chosen)

    def test_more_than_one_action_can_take_are_left_for_the_next(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bunce_sync.admin.members.MAX_SELECTED", 2)
        segment = make("A")
        segment.add_customers(ids(3))
        chosen = Member.objects.values_list("pk", flat=True)
        form = {"action": "remove_selected", "_selected_action": [*chosen]}
        told = post(client, f"{MEMBERS}?segment={segment.pk}", form)
        assert told[0].startswith("These were the first 2.")
        assert set(statuses(segment)) == {"c-2"}

    def test_refused_ones_are_retried(self, client: Client) -> None:
        segment = make("A")
        segment.add_customers(ids(3))
        Member.objects.exclude(identifier="c-0").update(status="refused", last_error="no")
        chosen = Member.objects.exclude(identifier="c-2").values_list("pk", flat=True)
        form = {"action": "retry_selected", "_selected_action": [*chosen]}
        told = post(client, f"{MEMBERS}?segment={segment.pk}", form)
        assert told == ["1 refused customers are sent again."]
        assert statuses(segment) == {"c-0": "pending", "c-1": "pending", "c-2": "refused"}
        assert logged() == ["Retried 1 refused customers."]

    def test_those_who_leave_are_told_apart(self, client: Client) -> None:
        segment = make("A")
        segment.add_customers(ids(2))
        Member.objects.update(status="in_bunce", in_bunce=True)
        segment.remove_customers(["c-1"])
        html = client.get(f"{MEMBERS}?segment={segment.pk}").content.decode()
        assert "In Bunce" in html
        assert "Waiting (to be removed)" in html

    def test_it_shows_one_segment_and_asks_for_it(self, client: Client) -> None:
        segment, other = make("VIP"), make("Other")
        segment.add_customers(["c-1"])
        other.add_customers(["c-2"])
        html = client.get(f"{MEMBERS}?segment={segment.pk}").content.decode()
        assert "Customers of “VIP”" in html
        assert page(segment) in html
        assert ">c-1<" in html
        assert ">c-2<" not in html
        for query in ("", "?q=c", "?status__exact=pending", "?segment=", "?segment=none"):
            with CaptureQueriesContext(connection) as queries:
                html = client.get(MEMBERS + query, follow=True).content.decode()
            assert "Choose a segment" in html
            assert ">c-1<" not in html
            assert not [one for one in queries if 'FROM "bunce_sync_member"' in one["sql"]]

    def test_search_and_filters_stay_within_the_segment(self, client: Client) -> None:
        segment = make("A")
        segment.add_customers(ids(3))
        html = client.get(f"{MEMBERS}?segment={segment.pk}&q=c-1").content.decode()
        assert f'<a href="?segment={segment.pk}">Clear search</a>' in html
        assert f'<input type="hidden" name="segment" value="{segment.pk}">' in html
        assert f"segment={segment.pk}&amp;q=c-1&amp;status__exact=refused" in html.replace(
            f"q=c-1&amp;segment={segment.pk}", f"segment={segment.pk}&amp;q=c-1"
        )

    def test_the_number_of_queries_does_not_grow(
        self, client: Client, django_assert_max_num_queries: Any
    ) -> None:
        segment = make("A")
        segment.add_customers(ids(60))
        with django_assert_max_num_queries(9):
            client.get(f"{MEMBERS}?segment={segment.pk}")

    def test_it_says_that_there_are_more_than_it_shows(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        segment = make("A")
        segment.add_customers(ids(3))
        address = f"{MEMBERS}?segment={segment.pk}"
        assert "Search or filter" not in client.get(address).content.decode()
        monkeypatch.setattr("bunce_sync.admin.call_log.MAX_ROWS", 2)
        html = client.get(f"{MEMBERS}?segment={segment.pk}").content.decode()
        assert "These are the first 2. Search or filter to see others." in html

    def test_it_is_read_only(self, client: Client) -> None:
        segment = make("A")
        segment.add_customers(ids(1))
        pk = Member.objects.get().pk
        assert client.get(f"{MEMBERS}add/").status_code == 403
        assert client.post(f"{MEMBERS}{pk}/delete/", {"post": "yes"}).status_code == 403
        assert "c-0" in client.get(f"{MEMBERS}{pk}/change/").content.decode()


class TestPermissions:
    @pytest.mark.parametrize("name", PAGES)
    def test_each_page_needs_its_permission(self, name: str) -> None:
        segment = make("A")
        segment.add_customers(ids(1))
        viewer = person("view_segment", "change_segment", "push_segment")
        assert viewer.post(path(segment, name)).status_code == 403
        assert viewer.get(path(segment, name)).status_code in (403, 405)
        blind = person("change_customers", "confirm_removals")
        assert blind.post(path(segment, name)).status_code == 403

    def test_the_panel_offers_only_what_is_allowed(self, bunce: Emulator) -> None:
        segment = in_bunce(bunce)
        segment.add_customers(ids(1))
        shown = panel(person("view_segment"), segment)
        assert shown == "In this segment 1 In Bunce 0 Waiting to be sent 1"
