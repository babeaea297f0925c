"""Rows that are linked to segments which Bunce has already: by an import, by hand, or by code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext

from bunce_sync import services
from bunce_sync.client import RemoteSegment
from bunce_sync.models import ImportRun, Segment
from bunce_sync.status.plan import Kind, make_plan
from bunce_sync.sync import importer, push, shared_state
from bunce_sync.sync.budget import Budget
from bunce_sync.testing.emulator import Emulator
from bunce_sync.testing.local_bunce import LocalBunce

from .core import Status, calls, drain, fresh, now

pytestmark = pytest.mark.django_db(transaction=True)


def import_all(bunce: LocalBunce, *, adopt: bool = False) -> ImportRun:
    """Import with the workers; return the import, which has ended."""
    services.request_import(adopt=adopt)
    bunce.work()
    run = ImportRun.objects.latest("pk")
    assert run.finished_at is not None
    return run


# The same content


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("VIP ", "VIP"),
        (" VIP", "VIP"),
        ("VIP", " VIP "),
        ("a\r\nb", "a\nb"),
    ],
)
@pytest.mark.parametrize("how", ["import", "by hand"])
def test_spaces_line_breaks_and_the_form_of_accents_keep_no_row_from_its_segment(
    bunce: LocalBunce, how: str, here: str, there: str
) -> None:
    bunce.add_segment(there)
    if how == "import":
        Segment.objects.bulk_create([Segment(name=here)])
        import_all(bunce, adopt=True)
    else:
        import_all(bunce)
        services.pause(reason="a test", by="ada")
        Segment.objects.bulk_create([Segment(name=here)])
        pairs = services.adoptable(Segment.objects.filter(status=Status.PENDING))
        assert len(services.adopt([(row.pk, imported.pk) for row, imported in pairs])) == 1
        services.resume()
    bunce.work()
    [row] = Segment.objects.all()
    assert row.name == here
    assert len(bunce.segments) == 1


def test_a_row_is_found_among_any_number_with_the_same_name(bunce: LocalBunce) -> None:
    Segment.objects.bulk_create(Segment(name="VIP", description=str(n)) for n in range(60))
    stored = bunce.add_segment("VIP", "59")
    assert import_all(bunce, adopt=True).counts["adopted"] == 1
    assert Segment.objects.get(bunce_id=stored.id).description == "59"
    assert Segment.objects.count() == 60


@pytest.fixture
def refuse_deletes() -> Any:
    """A receiver of the site that lets no segment be deleted."""

    def refuse(**_kwargs: Any) -> None:
        raise RuntimeError("not this one")

    pre_delete.connect(refuse, sender=Segment)
    yield
    pre_delete.disconnect(refuse, sender=Segment)


@pytest.mark.usefixtures("refuse_deletes")
def test_an_imported_row_that_cannot_be_deleted_stops_neither_import_nor_creates(
    bunce: LocalBunce, caplog: pytest.LogCaptureFixture
) -> None:
    bunce.add_segment("VIP")
    import_all(bunce)
    Segment.objects.bulk_create([Segment(name="VIP"), Segment(name="New")])
    import_all(bunce, adopt=True)
    assert "could not be deleted to give way" in caplog.text
    bunce.work()
    assert "New" in {one.name for one in bunce.segments}


# The queries and ids of a page


def test_one_row_in_which_more_changes_does_not_add_queries_for_all_others(
    bunce: LocalBunce,
) -> None:
    bunce.add_segments(100)
    import_all(bunce)
    edited = Segment.objects.earliest("pk")
    edited.name = "edited"
    edited.save()
    bunce.script(["lost_answer"], "PATCH")
    push.push(edited.pk)
    assert fresh(edited).status == Status.PENDING
    for one in bunce.segments:
        if one.id != edited.bunce_id:
            bunce.change_segment(one.id, description="changed there")
    services.request_import()
    with CaptureQueriesContext(connection) as made:
        importer.run(Budget(30))
    assert ImportRun.objects.latest("pk").counts["changed"] == 100
    assert len(made) < 100, "not one for each row"
    assert fresh(edited).status == Status.SYNCED


UPPER = "9DA67CAA-0000-4000-8000-ABCDEFABCDEF"


@pytest.mark.parametrize("deleted", [False, True])
def test_a_uuid_is_the_same_in_upper_and_lower_case(bunce: LocalBunce, deleted: bool) -> None:
    row = Segment.objects.link(UPPER, name="VIP")
    assert Segment.objects.link(UPPER.lower(), name="VIP").pk == row.pk
    if deleted:
        row.delete()
    bunce.add_segment("VIP", id=UPPER.lower())
    import_all(bunce)
    assert [one.pk for one in Segment.objects.all()] == ([] if deleted else [row.pk])


@pytest.mark.parametrize("left", ["row", "tombstone", "second segment"])
def test_ids_that_only_some_databases_tell_apart_do_not_stop_an_import(
    bunce: LocalBunce, left: str
) -> None:
    row = Segment.objects.link("ABCDEF", name="VIP")
    if left == "tombstone":
        row.delete()
    elif left == "second segment":
        values = {"bunce_id": "other", "bunce_duplicate_id": "ABCDEF"}
        Segment.objects.filter(pk=row.pk).update_sync_fields(**values)
    listed = RemoteSegment(id="abcdef", name="VIP")
    page = importer.ImportPage({listed.id: listed}, now(), importer.Acts(now()))
    importer.use_page(page, adopt=False, include_deleted=False)
    assert not page.remotes
    assert page.decided["abcdef"] in ("imported", "unchanged")


# Links by code


@pytest.fixture
def linked(bunce: LocalBunce) -> Callable[..., Segment]:
    def link(bunce_id: str, name: str = "VIP") -> Segment:
        row = Segment.objects.link(bunce_id, name=name)
        bunce.work()
        return fresh(row)

    return link


@pytest.mark.parametrize("bunce_id", ["not-a-uuid", "00000000-0000-4000-8000-000000000000"])
@pytest.mark.parametrize("reads_before", [False, True])
def test_a_linked_row_that_bunce_does_not_show_needs_attention(
    bunce: LocalBunce, linked: Callable[..., Segment], bunce_id: str, reads_before: bool
) -> None:
    """Bunce refuses to read an id that is no UUID, and does not find one that it never gave."""
    if reads_before:
        linked(bunce.add_segment("Read before").id, "Read before")
    else:
        shared_state.read()
        shared_state.accept_key()
    row = linked(bunce_id)
    assert (row.status, row.last_code) == (Status.REJECTED, "not_found")
    assert make_plan(now=now(), limit=5).counts[Kind.ATTENTION] == 1
    assert services.CREATE_AGAIN.applies(row)


def test_a_linked_row_with_the_content_of_bunce_shows_no_difference(
    bunce: LocalBunce, linked: Callable[..., Segment]
) -> None:
    row = linked(bunce.add_segment("VIP").id)
    assert (row.status, row.last_code, row.bunce_name) == (Status.SYNCED, "", "VIP")


# Segments that are gone


def test_retry_of_a_segment_that_a_read_did_not_find_reads_it_again(
    bunce: LocalBunce,
) -> None:
    """There is nothing to send: without a request it must not look synced."""
    row = Segment.objects.create(name="VIP")
    other = Segment.objects.create(name="Other")
    bunce.work()
    stored = fresh(row)
    bunce.remove_segment(str(stored.bunce_id))
    services.refresh(Segment.objects.filter(pk__in=[row.pk, other.pk]))
    bunce.work()
    services.refresh(Segment.objects.filter(pk=row.pk))
    bunce.work()
    assert (fresh(row).status, fresh(row).last_code) == (Status.REJECTED, "not_found")
    made = len(calls(row))
    assert services.retry(Segment.objects.filter(pk=row.pk)) == 1
    bunce.work()
    assert len(calls(row)) == made + 1
    assert (fresh(row).status, fresh(row).last_code) == (Status.REJECTED, "not_found")
    bunce.add_segment("VIP", id=stored.bunce_id)
    services.retry(Segment.objects.filter(pk=row.pk))
    bunce.work()
    assert (fresh(row).status, fresh(row).last_code) == (Status.SYNCED, "")


def test_retry_of_an_edited_segment_that_is_gone_sends_the_edit(bunce: Emulator) -> None:
    row = Segment.objects.create(name="VIP")
    drain()
    bunce.remove_segment(str(fresh(row).bunce_id))
    Segment.objects.filter(pk=row.pk).update(name="VIP 2")
    drain()
    assert fresh(row).status == Status.REJECTED
    services.retry(Segment.objects.filter(pk=row.pk))
    drain()
    assert calls(row)[-2:] == [("update", "rejected")] * 2
