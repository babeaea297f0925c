"""What ``no_push()`` holds, in synchronous code and in coroutines, and when it is released."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import transaction

import bunce_sync
from bunce_sync import services
from bunce_sync.models import PushHold, Segment
from bunce_sync.testing.local_bunce import LocalBunce
from tests.neighbours.models import Numbered, Tracked, Vip

from .core import fresh

pytestmark = pytest.mark.django_db(transaction=True)


def names(bunce: LocalBunce) -> list[str]:
    return sorted(one.name for one in bunce.segments)


def test_all_paths_of_django_are_held_and_released_at_the_end(
    bunce: LocalBunce, tmp_path: Path
) -> None:
    old = Segment.objects.create(name="Old")
    bunce.work()
    fixture = tmp_path / "rows.json"
    fixture.write_text(
        f"""[
            {{"model": "bunce_sync.segment", "pk": 9001, "fields": {{"name": "loaded"}}}},
            {{"model": "bunce_sync.segment", "pk": {old.pk}, "fields": {{"name": "Changed"}}}}
        ]"""
    )
    served = bunce.served
    with bunce_sync.no_push("a data load"):
        Segment.objects.create(name="created")
        Segment.objects.bulk_create([Segment(name="in bulk")])
        Segment.objects.get_or_create(name="got")
        Segment.objects.update_or_create(name="got", defaults={"description": "d"})
        Vip.objects.create(name="subclass", owner="ada")
        Numbered.objects.create(name="own key", number=5)
        Tracked.objects.create(name="tracked")
        call_command("loaddata", str(fixture), verbosity=0)
        services.push_now(Segment.objects.all())
        services.retry(Segment.objects.all())
        bunce.work()
        assert bunce.served == served
        assert not Segment.objects.filter(hold=None).exists()
    bunce.work()
    assert names(bunce) == sorted(
        ["Changed", "created", "got", "in bulk", "loaded", "own key", "subclass", "tracked"]
    )
    assert not PushHold.objects.exists()


def test_a_block_inside_another_one_belongs_to_it(bunce: LocalBunce) -> None:
    with bunce_sync.no_push():
        with bunce_sync.no_push():
            row = Segment.objects.create(name="VIP")
        bunce.work()
        assert fresh(row).hold_id is not None
        assert bunce.served == 0
    bunce.work()
    assert names(bunce) == ["VIP"]


def test_a_transaction_that_is_rolled_back_in_a_block_leaves_nothing_held(
    bunce: LocalBunce,
) -> None:
    with bunce_sync.no_push():
        with transaction.atomic():
            Segment.objects.create(name="Rolled back")
            transaction.set_rollback(True)
        Segment.objects.create(name="Kept")
    bunce.work()
    assert names(bunce) == ["Kept"]
    assert not PushHold.objects.exists()


def test_a_block_that_a_person_released_meanwhile_ends_quietly(bunce: LocalBunce) -> None:
    with bunce_sync.no_push():
        Segment.objects.create(name="Before")
        services.release_hold(PushHold.objects.get().pk)
        bunce.work()
        assert names(bunce) == ["Before"]
    assert not PushHold.objects.exists()


# Coroutines


def test_a_coroutine_holds_with_async_with(bunce: LocalBunce) -> None:
    async def load() -> Segment:
        async with bunce_sync.no_push("a data load"):
            row = await Segment.objects.acreate(name="VIP")
            hold = await PushHold.objects.aget()
            await row.arefresh_from_db()
            assert (row.hold_id, hold.reason) == (hold.pk, "a data load")
        return row

    row = async_to_sync(load)()
    assert fresh(row).hold_id is None
    assert not PushHold.objects.exists()
    bunce.work()
    assert names(bunce) == ["VIP"]


def test_a_coroutine_that_raises_releases_its_block(bunce: LocalBunce) -> None:
    async def load() -> None:
        async with bunce_sync.no_push():
            await Segment.objects.acreate(name="VIP")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async_to_sync(load)()
    bunce.work()
    assert names(bunce) == ["VIP"]


def test_the_block_of_one_task_holds_nothing_of_another(bunce: LocalBunce) -> None:
    async def held(entered: asyncio.Event, leave: asyncio.Event) -> int | None:
        async with bunce_sync.no_push():
            entered.set()
            await leave.wait()
            row = await Segment.objects.acreate(name="Held")
            await row.arefresh_from_db()
            return row.hold_id

    async def both() -> tuple[int | None, int | None]:
        entered, leave = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(held(entered, leave))
        await entered.wait()
        row = await Segment.objects.acreate(name="Sent")
        await row.arefresh_from_db()
        leave.set()
        return row.hold_id, await task

    sent, hold = async_to_sync(asyncio.wait_for)(both(), 30)
    assert sent is None
    assert hold is not None
