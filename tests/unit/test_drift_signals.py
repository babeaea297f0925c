"""When ``segment_changed_in_bunce`` is sent: once for each difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bunce_sync import services
from bunce_sync.models import Segment
from bunce_sync.signals import segment_changed_in_bunce
from bunce_sync.testing.local_bunce import LocalBunce

from .core import fresh

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The names in Bunce of which the signal has told."""
    names: list[str] = []

    def hear(segment: Segment, **_kwargs: Any) -> None:
        names.append(segment.bunce_name)

    segment_changed_in_bunce.connect(hear, sender=Segment)
    yield names
    segment_changed_in_bunce.disconnect(hear, sender=Segment)


def read(bunce: LocalBunce, how: str) -> None:
    if how == "import":
        services.request_import()
    else:
        services.refresh(Segment.objects.all())
    bunce.work()


@pytest.fixture
def drifted(bunce: LocalBunce, heard: list[str]) -> Segment:
    """A segment whose name was changed in Bunce, which an import has shown."""
    row = Segment.objects.create(name="VIP")
    bunce.work()
    bunce.change_segment(str(fresh(row).bunce_id), name="Theirs")
    read(bunce, "import")
    assert heard == ["Theirs"]
    return fresh(row)


@pytest.mark.parametrize("how", ["import", "refresh"])
def test_the_same_difference_is_not_told_again(
    bunce: LocalBunce, drifted: Segment, heard: list[str], how: str
) -> None:
    for description in ("x", "y", "z"):
        row = fresh(drifted)
        row.description = description
        row.save()
        bunce.work()
        assert fresh(row).last_code == "drift"
        read(bunce, how)
    row.description = "undone"
    row.save()
    row.description = "z"
    row.save()
    bunce.work()
    assert heard == ["Theirs"]


@pytest.mark.parametrize("how", ["import", "refresh"])
def test_another_change_of_a_row_that_differs_is_told(
    bunce: LocalBunce, drifted: Segment, heard: list[str], how: str
) -> None:
    bunce.change_segment(str(drifted.bunce_id), name="Theirs again")
    read(bunce, how)
    read(bunce, how)
    assert heard == ["Theirs", "Theirs again"]


@pytest.mark.parametrize("how", ["import", "refresh"])
def test_a_change_that_made_both_sides_equal_is_not_told(
    bunce: LocalBunce, drifted: Segment, heard: list[str], how: str
) -> None:
    bunce.change_segment(str(drifted.bunce_id), name="VIP")
    read(bunce, how)
    assert fresh(drifted).last_code == ""
    assert heard == ["Theirs"]


def test_a_row_that_is_linked_to_other_content_is_told_once(
    bunce: LocalBunce, heard: list[str]
) -> None:
    row = Segment.objects.link(bunce.add_segment("Theirs").id, name="Ours")
    bunce.work()
    read(bunce, "import")
    assert fresh(row).last_code == "drift"
    assert heard == ["Theirs"]
