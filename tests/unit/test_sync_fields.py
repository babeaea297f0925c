"""Only the sync writes its columns, whichever way Django or another app writes a row."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import reversion
from django.core import serializers
from django.db import connection, models
from django.db.models import F, Value
from django.db.models.functions import Concat, Upper
from django.db.models.signals import post_save
from pytest_django import Settings
from reversion.models import Version

from bunce_sync.models import ApiCall, Segment
from bunce_sync.sync.budget import Budget
from bunce_sync.sync.push import Push, push
from bunce_sync.sync.sweep import prune_call_log, run_once
from bunce_sync.testing.emulator import Emulator
from tests.neighbours.models import Numbered, Tracked, Vip

from .core import Status, ago, configure, digests_of, fresh, let_time_pass, make

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def unlimited(bunce: Emulator, settings: Settings) -> None:
    configure(settings, RATE_LIMIT=None, PAGE_SIZE=10)


def sync(times: int = 1) -> None:
    """Do all work that is due."""
    for _ in range(times):
        run_once(seconds=10)


def synced(name: str = "VIP", **fields: Any) -> Segment:
    row = Segment.objects.create(name=name, **fields)
    sync()
    row.refresh_from_db()
    assert row.status == Status.SYNCED
    return row


def values(row: Segment) -> dict[str, Any]:
    """Return the columns of a row that only the sync writes."""
    return dict(Segment.objects.filter(pk=row.pk).values(*Segment.SYNC_FIELDS).get())


def load(fields: dict[str, Any], pk: int, model: str = "bunce_sync.segment") -> None:
    """Load a row as ``loaddata`` does."""
    for loaded in serializers.deserialize("python", [{"model": model, "pk": pk, "fields": fields}]):
        loaded.save()


def stale_instance(row: Segment) -> Segment:
    """Return an instance that was read before the row was ever sent."""
    fresh_row = Segment(pk=row.pk, name=row.name, description=row.description)
    fresh_row._state.adding, fresh_row._state.db = False, "default"
    fresh_row.created_at = fresh_row.updated_at = fresh_row.due_at = row.created_at
    return fresh_row


EVERY_FIELD = [field.name for field in Segment._meta.concrete_fields if not field.primary_key]


def test_every_column_is_the_sites_or_the_syncs() -> None:
    own = {*Segment.CREATE_FIELDS, "updated_at"}
    assert not own & Segment.SYNC_FIELDS
    assert own | Segment.SYNC_FIELDS == {*EVERY_FIELD}


# Whatever writes a synced row


def save(row: Segment) -> None:
    stale_instance(row).save()


def save_the_key_of_a_row_that_exists(row: Segment) -> None:
    Segment(pk=row.pk, name=row.name, description=row.description).save()


def save_some_fields(row: Segment) -> None:
    stale_instance(row).save(update_fields=EVERY_FIELD)


def bulk_update(row: Segment) -> None:
    Segment.objects.bulk_update([stale_instance(row)], EVERY_FIELD)


def bulk_update_of_the_base_manager(row: Segment) -> None:
    Segment._base_manager.bulk_update([stale_instance(row)], EVERY_FIELD)


def update(row: Segment) -> None:
    stale = stale_instance(row)
    Segment.objects.filter(pk=row.pk).update(**{name: getattr(stale, name) for name in EVERY_FIELD})


def update_or_create(row: Segment) -> None:
    stale = stale_instance(row)
    kept = {name: getattr(stale, name) for name in EVERY_FIELD}
    Segment.objects.update_or_create(pk=row.pk, defaults=kept)


def upsert(row: Segment) -> None:
    Segment.objects.bulk_create(
        [stale_instance(row)],
        update_conflicts=True,
        update_fields=EVERY_FIELD,
        unique_fields=["id"] if connection.features.supports_update_conflicts_with_target else None,
    )


def load_fixture(row: Segment) -> None:
    load({"name": row.name, "description": row.description}, row.pk)


def load_dump(row: Segment) -> None:
    [old] = serializers.serialize("python", [stale_instance(row)])
    load(old["fields"], row.pk)


def save_a_proxy(row: Segment) -> None:
    stale = stale_instance(row)
    Tracked(**{name: getattr(stale, name) for name in ["id", *EVERY_FIELD]}).save()


WRITES = [
    *(save, save_the_key_of_a_row_that_exists, save_some_fields),
    *(bulk_update, bulk_update_of_the_base_manager, update, update_or_create, upsert),
    *(load_fixture, load_dump, save_a_proxy),
]


@pytest.mark.parametrize("write", WRITES)
def test_writing_a_stale_row_changes_none_of_the_syncs_columns(
    bunce: Emulator, write: Callable[[Segment], object]
) -> None:
    row = synced()
    before = values(row)
    write(row)
    assert values(row) == before
    sync()
    assert [segment.id for segment in bunce.segments] == [row.bunce_id]
    assert bunce.served == 1, "the same content is not sent again"


@pytest.mark.parametrize("write", WRITES)
def test_an_edit_of_a_synced_row_is_pushed_however_it_is_written(
    bunce: Emulator, write: Callable[[Segment], object]
) -> None:
    row = synced()
    row.name = "Edited"
    write(row)
    assert fresh(row).status == Status.PENDING
    sync()
    assert fresh(row).status == Status.SYNCED
    assert [(one.id, one.name) for one in bunce.segments] == [(row.bunce_id, "Edited")]


@pytest.mark.parametrize("status", [Status.SENDING, Status.IN_DOUBT])
@pytest.mark.parametrize("write", WRITES)
def test_writing_a_row_in_progress_does_not_change_its_state(
    write: Callable[[Segment], object], status: Status
) -> None:
    row = make(status=status)
    before = values(row)
    row.name = "Edited"
    write(row)
    assert values(row) == before
    assert fresh(row).name == "Edited"


def test_a_fixture_can_be_loaded_repeatedly(bunce: Emulator) -> None:
    for _ in range(3):
        load({"name": "VIP"}, 1)
        sync()
    assert Segment.objects.get().bunce_id == bunce.segments[0].id
    assert len(bunce.segments) == 1


def test_an_import_that_writes_stale_rows_back_creates_no_duplicates(bunce: Emulator) -> None:
    Segment.objects.bulk_create(Segment(name=f"Segment {number}") for number in range(5))
    rows = list(Segment.objects.all())
    sync()
    for row in rows:
        row.description = "Imported"
    Segment.objects.bulk_update(rows, EVERY_FIELD)
    sync()
    assert len(bunce.segments) == 5
    assert {segment.description for segment in bunce.segments} == {"Imported"}
    assert set(Segment.objects.values_list("status", flat=True)) == {Status.SYNCED}


def test_a_write_of_only_the_syncs_fields_is_refused() -> None:
    row = make()
    for write in (
        lambda: Segment.objects.update(status=Status.SYNCED, bunce_id="abc"),
        lambda: Segment.objects.bulk_update([row], ["status"]),
        lambda: row.save(update_fields=["status"]),
        lambda: Segment.objects.bulk_create(
            [row], update_conflicts=True, update_fields=["status"], unique_fields=["id"]
        ),
    ):
        with pytest.raises(ValueError, match="only the sync writes"):
            write()


def test_an_update_of_nothing_writes_nothing() -> None:
    before = make().updated_at
    assert Segment.objects.update() == 0
    assert Segment.objects.get().updated_at == before


def test_rows_cannot_be_matched_by_a_field_of_the_sync() -> None:
    with pytest.raises(ValueError, match="cannot find rows by bunce_id"):
        Segment.objects.bulk_create(
            [Segment(name="VIP")],
            update_conflicts=True,
            update_fields=["name"],
            unique_fields=["bunce_id"],
        )


# New rows


@pytest.mark.parametrize(
    "create",
    [
        lambda **fields: Segment.objects.create(**fields),
        lambda **fields: Segment.objects.bulk_create([Segment(**fields)])[0],
        lambda **fields: Segment.objects.get_or_create(**fields)[0],
        lambda **fields: Tracked.objects.create(**fields),
        lambda **fields: Vip.objects.create(**fields),
    ],
)
def test_a_new_row_starts_with_the_defaults_whatever_values_are_given(
    bunce: Emulator, create: Callable[..., Segment]
) -> None:
    row = create(name="VIP", bunce_id="", status=Status.REJECTED, attempts=9, last_code="conflict")
    stored = Segment.objects.get()
    assert (stored.bunce_id, stored.status, stored.attempts) == (None, Status.PENDING, 0)
    assert stored.last_code == ""
    sync()
    row.refresh_from_db()
    assert row.bunce_id == bunce.segments[0].id


@pytest.mark.parametrize(
    "create",
    [
        lambda **fields: Segment.objects.create(**fields),
        lambda **fields: Segment(**fields).save(),
        lambda **fields: Segment.objects.bulk_create([Segment(**fields)]),
        lambda **fields: Segment.objects.get_or_create(bunce_id="abc", defaults={"name": "VIP"}),
    ],
)
def test_an_id_from_the_caller_is_refused_since_dropping_it_would_create_a_duplicate(
    create: Callable[..., object],
) -> None:
    with pytest.raises(ValueError, match="do not set bunce_id"):
        create(name="VIP", bunce_id="abc")
    assert not Segment.objects.exists()


def copy_by_the_key(row: Segment) -> Segment:
    row.pk = None
    row.save()
    return row


def copy_as_django_documents(row: Segment) -> Segment:
    row.pk = None
    row._state.adding = True
    row.save()
    return row


def copy_the_instance(row: Segment) -> Segment:
    other = copy.copy(row)
    other.id = None
    other.save()
    return other


def copy_in_bulk(row: Segment) -> Segment:
    row.pk = None
    return Segment.objects.bulk_create([row])[0]


@pytest.mark.parametrize("status", [Status.SYNCED, Status.SENDING, Status.IN_DOUBT])
@pytest.mark.parametrize(
    "duplicate", [copy_by_the_key, copy_as_django_documents, copy_the_instance, copy_in_bulk]
)
def test_a_copy_of_a_row_is_a_new_segment(
    duplicate: Callable[[Segment], Segment], status: Status
) -> None:
    row = make(status=status, attempts=3, last_code="cut")
    duplicate(fresh(row))
    copied = Segment.objects.latest("pk")
    assert copied.pk != row.pk
    assert (copied.status, copied.bunce_id, copied.attempts) == (Status.PENDING, None, 0)
    assert (copied.lease_token, copied.sent_at, copied.last_code) == (None, None, "")
    assert copied.updated_at >= row.updated_at


def test_a_dump_that_is_restored_keeps_its_ids(bunce: Emulator) -> None:
    row = synced()
    text = serializers.serialize("json", [row])
    Segment.objects.all().delete()
    ApiCall.objects.all().delete()
    for loaded in serializers.deserialize("json", text):
        loaded.save()
    sync()
    assert fresh(row).bunce_id == row.bunce_id
    assert len(bunce.segments) == 1


# Other apps


class TestReversion:
    """django-reversion: revert and recover save raw, past ``Segment.save()``."""

    @pytest.fixture(autouse=True)
    def registered(self) -> Any:
        if reversion.is_registered(Segment):  # by the admin of another test
            reversion.unregister(Segment)
        reversion.register(Segment)
        yield
        reversion.unregister(Segment)

    def test_a_reverted_row_keeps_its_id_and_is_pushed(self, bunce: Emulator) -> None:
        with reversion.create_revision():
            row = Segment.objects.create(name="First")
        sync()
        with reversion.create_revision():
            row = fresh(row)
            row.name = "Second"
            row.save()
        sync()
        bunce_id = fresh(row).bunce_id
        oldest = Version.objects.get_for_object(row).last()
        assert oldest is not None
        oldest.revert()
        sync()
        assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, bunce_id)
        assert [segment.name for segment in bunce.segments] == ["First"]

    def test_a_recovered_row_is_linked_to_its_segment_again(self, bunce: Emulator) -> None:
        with reversion.create_revision():
            row = Segment.objects.create(name="VIP")  # a version from before it was sent
        sync()
        bunce_id = fresh(row).bunce_id
        Segment.objects.all().delete()
        recovered = Version.objects.get_deleted(Segment).get()
        recovered.revert()
        sync(2)
        assert Segment.objects.get().bunce_id == bunce_id
        assert len(bunce.segments) == 1


class TestSimpleHistory:
    """django-simple-history: a version is an instance that is saved again."""

    def test_every_save_is_kept_with_values(self) -> None:
        row = Tracked.objects.create(name="First")
        row.name = "Second"
        row.save()
        versions = Tracked.history.order_by("history_id")
        assert [version.name for version in versions] == ["First", "Second"]
        assert [version.status for version in versions] == ["pending", "pending"]

    def test_saving_an_old_version_changes_only_the_editable_fields(self, bunce: Emulator) -> None:
        row = Tracked.objects.create(name="First")
        sync()
        row = Tracked.objects.get(pk=row.pk)
        bunce_id, row.name = row.bunce_id, "Second"
        row.save()
        sync()
        Tracked.history.earliest("history_id").instance.save()
        sync()
        stored = Segment.objects.get()
        assert (stored.status, stored.bunce_id, stored.name) == (Status.SYNCED, bunce_id, "First")
        assert [segment.name for segment in bunce.segments] == ["First"]

    def test_a_deleted_row_that_is_saved_again_is_linked_to_its_segment(
        self, bunce: Emulator
    ) -> None:
        row = Tracked.objects.create(name="VIP")
        sync()
        bunce_id = Segment.objects.get().bunce_id
        Tracked.objects.get(pk=row.pk).delete()
        Tracked.history.earliest("history_id").instance.save()
        sync(2)
        assert Segment.objects.get().bunce_id == bunce_id
        assert len(bunce.segments) == 1


# Subclasses


def test_a_field_of_a_subclass_is_saved_and_pushes_nothing(bunce: Emulator) -> None:
    row = Vip.objects.create(name="VIP", owner="Ada")
    sync()
    row = Vip.objects.get()
    row.owner = "Grace"
    row.save()
    assert (Vip.objects.get().owner, Vip.objects.get().status) == ("Grace", Status.SYNCED)
    row.owner, row.name = "Edsger", "Edited"
    row.save()
    stored = Vip.objects.get()
    assert (stored.owner, stored.name, stored.status) == ("Edsger", "Edited", Status.PENDING)
    row.owner = "Barbara"
    row.save(update_fields=["owner"])
    assert Vip.objects.get().owner == "Barbara"
    sync()
    assert [segment.name for segment in bunce.segments] == ["Edited"]


def test_an_update_of_a_subclass_reaches_both_tables(bunce: Emulator) -> None:
    row = Vip.objects.create(name="VIP", owner="Ada")
    sync()
    Vip.objects.update(owner="Grace")
    assert Vip.objects.get().status == Status.SYNCED
    Vip.objects.update(owner="Edsger", name="Edited", status=Status.REJECTED)
    stored = Vip.objects.get()
    assert (stored.owner, stored.name, stored.status) == ("Edsger", "Edited", Status.PENDING)
    Vip.objects.bulk_update([Vip(pk=row.pk, name="Again", owner="Alan")], ["name", "owner"])
    sync()
    assert [segment.name for segment in bunce.segments] == ["Again"]
    assert Vip.objects.get().owner == "Alan"


def test_a_subclass_with_its_own_primary_key_is_pushed(bunce: Emulator) -> None:
    for number in range(3):
        make(f"Before {number}", status=Status.SYNCED)  # so that the two keys differ
    Numbered.objects.create(name="VIP", number=1)
    sync()
    Numbered.objects.update(name="Edited")
    sync()
    assert [segment.name for segment in bunce.segments] == ["Edited"]
    row = Numbered.objects.get()
    row.name = "Again"
    row.save()
    sync()
    assert [segment.name for segment in bunce.segments] == ["Again"]


def test_a_subclass_is_loaded_from_a_fixture(bunce: Emulator) -> None:
    for name in ("VIP", "Edited"):
        load({"name": name}, 7)
        load({"owner": "Ada"}, 7, "neighbours.vip")
        sync()
    assert (Vip.objects.get().owner, Vip.objects.get().name) == ("Ada", "Edited")
    assert [segment.name for segment in bunce.segments] == ["Edited"]


def test_a_copy_of_a_subclass_is_a_new_segment() -> None:
    row = Vip.objects.create(name="VIP", owner="Ada")
    sync()
    row = Vip.objects.get(pk=row.pk)
    row.pk = row.id = None
    row._state.adding = True
    row.save()
    assert Vip.objects.count() == 2
    assert row.bunce_id is None


# What receivers of signals see


class Audit:
    """A receiver that serializes what was saved, as audit apps do."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, instance: models.Model, **kwargs: Any) -> None:
        if isinstance(instance, Segment):
            [whole] = serializers.serialize("python", [instance])
            serializers.serialize("json", [instance])
            self.seen.append(whole["fields"])


@pytest.fixture
def audit() -> Any:
    receiver = Audit()
    post_save.connect(receiver)
    yield receiver
    post_save.disconnect(receiver)


def test_a_receiver_that_serializes_sees_the_row_as_it_is_stored(audit: Audit) -> None:
    row = Segment.objects.create(name="VIP")
    row.name = "Edited"
    row.save()
    row.save(update_fields=["name"])
    row.name = Concat(F("name"), Value("!"))
    row.save()
    assert [seen["name"] for seen in audit.seen] == ["VIP", "Edited", "Edited", "Edited!"]
    assert all(seen["status"] == Status.PENDING for seen in audit.seen)
    assert audit.seen[-1]["updated_at"] == fresh(row).updated_at


def test_expressions_in_the_fields_of_a_subclass_are_loaded_too(audit: Audit) -> None:
    row = Vip.objects.create(name="VIP", owner=Upper(Value("ada")))
    row.owner = Concat(F("owner"), Value("!"))
    row.save()
    assert [seen["owner"] for seen in audit.seen] == ["ADA", "ADA!"]


def test_a_receiver_sees_that_an_edit_requeued_the_row(audit: Audit) -> None:
    row = synced()
    stale = stale_instance(row)
    stale.name = "Edited"
    stale.save()
    assert audit.seen[-1]["status"] == Status.PENDING
    assert audit.seen[-1]["bunce_id"] == row.bunce_id
    assert stale.bunce_id == row.bunce_id


# The second safeguard: the call log


def lose_the_id(row: Segment, **fields: Any) -> None:
    """Remove the id, bypassing everything that protects it."""
    blank = {"bunce_id": None, "status": Status.PENDING, "due_at": ago(0)}
    Segment.objects.filter(pk=row.pk).update_sync_fields(**blank | fields)


def test_a_row_that_lost_its_id_gets_it_back_from_the_call_log(
    bunce: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    row = synced()
    lose_the_id(row)
    sync(2)
    assert (fresh(row).bunce_id, fresh(row).status) == (row.bunce_id, Status.SYNCED)
    assert len(bunce.segments) == 1
    assert "was sent before" in caplog.text


def test_a_row_whose_create_was_found_in_the_list_gets_its_id_back_too(bunce: Emulator) -> None:
    bunce.script(["lost_answer"])
    row = Segment.objects.create(name="VIP")
    sync()
    let_time_pass(500)
    sync()
    bunce_id = fresh(row).bunce_id
    assert bunce_id is not None
    lose_the_id(row)
    sync(2)
    assert fresh(row).bunce_id == bunce_id
    assert len(bunce.segments) == 1


def test_a_new_row_with_the_key_of_a_deleted_one_is_a_new_segment(
    bunce: Emulator,
) -> None:
    row = synced()
    Segment.objects.all().delete()
    let_time_pass(60)
    load({"name": "Another"}, row.pk)
    sync(2)
    assert [segment.name for segment in bunce.segments] == ["VIP", "Another"]
    assert fresh(row).bunce_id == bunce.segments[1].id


def test_an_id_that_another_row_now_has_is_not_taken_from_it(bunce: Emulator) -> None:
    row = synced()
    lose_the_id(row)
    other = make("Other", status=Status.SYNCED, bunce_id=row.bunce_id)
    sync(2)
    assert fresh(other).bunce_id == row.bunce_id
    assert fresh(row).bunce_id == bunce.segments[1].id


def test_calls_that_gave_a_row_its_id_are_kept_while_the_row_exists(
    bunce: Emulator, settings: Settings
) -> None:
    configure(settings, LEDGER_DAYS=1)
    kept, gone = synced("Kept"), synced("Gone")
    Segment.objects.filter(pk=kept.pk).update(name="Edited")
    sync()
    ApiCall.objects.update(started_at=F("started_at") - timedelta(days=2))
    Segment.objects.filter(pk=gone.pk).delete()
    prune_call_log()
    [call] = ApiCall.objects.all()
    assert (call.segment_id, call.operation) == (kept.pk, "create")
    Segment.objects.filter(pk=kept.pk).delete()
    prune_call_log()
    assert not ApiCall.objects.exists()


def test_calls_that_are_kept_do_not_prevent_the_deletion_of_others(
    bunce: Emulator, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(settings, LEDGER_DAYS=1)
    monkeypatch.setattr("bunce_sync.sync.sweep.PRUNE_BATCH", 3)
    for number in range(7):
        synced(f"Kept {number}")
    row = Segment.objects.earliest("pk")
    Segment.objects.filter(pk=row.pk).update(name="Edited")
    sync()
    ApiCall.objects.update(started_at=F("started_at") - timedelta(days=2))
    for _ in range(3):
        prune_call_log()
    assert set(ApiCall.objects.values_list("operation", flat=True)) == {"create"}
    assert ApiCall.objects.count() == 7


def put_back(text: str) -> None:
    for loaded in serializers.deserialize("json", text):
        loaded.save()


def test_a_row_restored_from_before_an_unknown_create_is_in_doubt_again(bunce: Emulator) -> None:
    row = Segment.objects.create(name="VIP")
    old = serializers.serialize("json", [fresh(row)])
    bunce.script(["lost_answer"])
    sync()
    Segment.objects.all().delete()
    put_back(old)
    sync(2)
    assert fresh(row).status == Status.IN_DOUBT
    let_time_pass(500)
    sync(2)
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, bunce.segments[0].id)
    assert len(bunce.segments) == 1


def test_a_row_restored_while_its_create_is_under_way_is_not_sent_again(bunce: Emulator) -> None:
    row = Segment.objects.create(name="VIP")
    old = serializers.serialize("json", [fresh(row)])
    attempt = Push(fresh(row))
    assert attempt.reserve(Budget(30))
    Segment.objects.all().delete()
    put_back(old)
    sync(2)
    assert fresh(row).status == Status.IN_DOUBT
    attempt.record(attempt.perform(Budget(30)))
    assert (fresh(row).status, fresh(row).bunce_id) == (Status.SYNCED, bunce.segments[0].id)
    assert len(bunce.segments) == 1


def test_a_synced_row_restored_with_older_content_is_pushed(bunce: Emulator) -> None:
    row = synced("First")
    old = serializers.serialize("json", [fresh(row)])
    row.name = "Second"
    row.save()
    sync()
    Segment.objects.all().delete()
    put_back(old)
    sync(2)
    assert (fresh(row).status, fresh(row).name) == (Status.SYNCED, "First")
    assert [(one.id, one.name) for one in bunce.segments] == [(row.bunce_id, "First")]


def test_a_row_loaded_as_synced_without_an_id_is_sent(bunce: Emulator) -> None:
    load({"name": "VIP", "status": Status.SYNCED}, 7)
    sync()
    assert fresh(Segment(pk=7)).bunce_id == bunce.segments[0].id


# All customers


@pytest.mark.parametrize("how", ["save", "update"])
def test_a_refused_row_whose_all_customers_changed_is_sent_again(bunce: Emulator, how: str) -> None:
    row = Segment.objects.create(name="VIP", add_all_customers=True)
    bunce.script(["bad_request"])
    sync()
    assert fresh(row).status == Status.REJECTED
    row = fresh(row)
    row.full_clean()
    row.save()
    assert fresh(row).status == Status.REJECTED, "nothing changed"
    row.add_all_customers = False
    row.full_clean()
    if how == "save":
        row.save()
    else:
        Segment.objects.update(add_all_customers=False)
    sync()
    assert fresh(row).status == Status.SYNCED
    assert bunce.segments[0].all_customers is False


def test_all_customers_requested_too_late_is_shown(bunce: Emulator) -> None:
    row = synced()
    row.add_all_customers = True
    row.save()
    assert (fresh(row).status, fresh(row).problem_code) == (Status.SYNCED, "all_customers")
    row.add_all_customers = False
    row.save()
    assert fresh(row).problem_code == ""


# Content that changes in transit


@pytest.mark.parametrize(
    ("here", "there"),
    [("a\0b", "ab"), ("a\r\nb", "a\nb"), ("a\rb", "a\nb"), ("Cafe\u0301", "Café"), (" x ", "x")],
)
def test_content_that_changes_in_transit_has_the_same_fingerprints(here: str, there: str) -> None:
    assert digests_of(here, here) == digests_of(there, there)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the others refuse NUL, or keep it")
def test_a_name_with_nul_whose_response_was_lost_is_recognized(bunce: Emulator) -> None:
    bunce.script(["lost_answer"])
    row = Segment.objects.create(name="a\0b")
    sync()
    let_time_pass(500)
    sync()
    assert fresh(row).bunce_id == bunce.segments[0].id
    assert len(bunce.segments) == 1


def test_a_key_that_is_part_of_a_name_does_not_hide_it(bunce: Emulator, settings: Settings) -> None:
    bunce.set(key="test")
    configure(settings, API_KEY="test")
    bunce.script(["lost_answer"])
    row = Segment.objects.create(name="best testers", description="a test")
    sync()
    let_time_pass(500)
    sync()
    row = fresh(row)
    assert (row.bunce_id, row.bunce_name) == (bunce.segments[0].id, "best testers")
    assert len(bunce.segments) == 1


# Rows that cannot be read


IMPOSSIBLE = {
    "postgresql": ["-infinity", "infinity", "0044-03-15 00:00:00+00 BC", "20000-01-01 00:00:00+00"],
    "sqlite": ["", "never", "20000-01-01 00:00:00", "0000-00-00 00:00:00"],
    "mysql": ["0000-00-00 00:00:00", "9999-12-31 23:59:59"],
}


@pytest.mark.parametrize("column", ["updated_at", "synced_at", "bunce_created_at"])
@pytest.mark.skipif(connection.vendor == "sqlite", reason="its times are read as text")
def test_a_row_in_doubt_with_an_impossible_time_does_not_keep_others_in_doubt(
    bunce: Emulator, column: str
) -> None:
    bunce.script(["lost_answer", "lost_answer"])
    rows = [Segment.objects.create(name=f"Lost {number}") for number in range(2)]
    sync()
    let_time_pass(500)
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SET SESSION sql_mode = ''")
        cursor.execute(
            f"UPDATE bunce_sync_segment SET {column} = %s WHERE id = %s",  # noqa: S608 - a column
            [IMPOSSIBLE[connection.vendor][0], rows[0].pk],
        )
    sync()
    statuses = Segment.objects.values_list("status", flat=True)
    assert set(statuses) == {Status.SYNCED}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the others keep text that can be read")
@pytest.mark.parametrize("column", ["name", "description"])
def test_a_row_whose_text_cannot_be_read_does_not_block_others(
    bunce: Emulator, column: str
) -> None:
    bad, good = make("Bad"), make("Good")
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE bunce_sync_segment SET {column} = CAST(X'ff41' AS TEXT)"  # noqa: S608 - a column
            f" WHERE id = {bad.pk}"
        )
    sync(2)
    assert fresh(good).status == Status.SYNCED


def test_a_row_that_failed_more_often_than_can_be_counted_is_sent(bunce: Emulator) -> None:
    row = make(attempts=2**31 - 1)
    sync()
    assert fresh(row).status == Status.SYNCED


@pytest.mark.parametrize("number", range(4))
def test_a_row_with_an_impossible_time_is_sent_and_does_not_block_others(
    bunce: Emulator, number: int
) -> None:
    times = IMPOSSIBLE[connection.vendor]
    row, other = make("Impossible"), make("Other")
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SET SESSION sql_mode = ''")
        cursor.execute(
            "UPDATE bunce_sync_segment SET due_at = %s WHERE id = %s",
            [times[number % len(times)], row.pk],
        )
    sync(2)
    assert {segment.name for segment in bunce.segments} == {"Impossible", "Other"}
    assert {fresh(one).status for one in (row, other)} == {Status.SYNCED}


def test_a_lease_that_is_impossibly_long_is_freed(bunce: Emulator) -> None:
    row = make(status=Status.SENDING, lease_until=ago(-400 * 86400))
    sync()
    assert fresh(row).status == Status.IN_DOUBT


def test_an_internal_error_postpones_its_row_and_does_not_block_others(
    bunce: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = make("Bad"), make("Good")
    lease = Push.lease

    def lease_or_fail(attempt: Push) -> bool:
        if attempt.row.pk == bad.pk:
            raise TypeError("sk_live_secret")
        return lease(attempt)

    monkeypatch.setattr(Push, "lease", lease_or_fail)
    sync()
    assert fresh(good).status == Status.SYNCED
    row = fresh(bad)
    assert (row.status, row.last_code, row.last_error) == (Status.PENDING, "internal", "TypeError")
    assert row.due_at > ago(0)


def test_an_invalid_id_affects_no_other_row(bunce: Emulator) -> None:
    rows = [make(f"Bad {number}", bunce_id=f"not an id {number}") for number in range(6)]
    good = make("Good")
    sync()
    assert {fresh(row).last_code for row in rows} == {"internal"}
    assert fresh(good).status == Status.SYNCED
    assert push(good.pk) is False
