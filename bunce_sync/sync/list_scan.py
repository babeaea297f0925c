"""A reading of Bunce's list, page by page: how far it is, and what it shows of the list's order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Self, get_args

from bunce_sync.client import Page, Position

FIRST_PAGE = Position()

#: How the times of creation went from one segment to the next so far.
Order = Literal["unknown", "falling", "rising", "none"]


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan under way.

    Attributes:
        started_at: the database's time; rows that were ready by then are considered.
        kept_at: when progress was last written down.
        environment: whose list is read, and at which address.
        position: the page to read next.
        pages: pages read so far.
        order: of the times of creation; ``none`` once they went both ways, one was missing, or the
            same segment came twice in a row, so that rows have moved.
        last_created: the creation time of the last segment read.
        last_id: its id.
    """

    started_at: datetime
    kept_at: datetime
    environment: str
    position: Position = FIRST_PAGE
    pages: int = 0
    order: Order = "unknown"
    last_created: datetime | None = None
    last_id: str = ""

    @property
    def by_creation(self) -> bool:
        """Whether all that was read came in the order of creation, which no update changes."""
        return self.order in ("falling", "rising")

    def after(self, page: Page) -> Scan:
        """Return the scan with one page more."""
        order, last, last_id = self.order, self.last_created, self.last_id
        for segment in page.segments:
            created = segment.created_at
            if created is None or segment.id == last_id:
                order = "none"
            elif last is not None and created != last:
                step: Order = "rising" if created > last else "falling"
                order = step if order in ("unknown", step) else "none"
            last, last_id = created or last, segment.id
        return replace(
            self,
            position=page.next or self.position,
            pages=self.pages + 1,
            order=order,
            last_created=last,
            last_id=last_id,
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object to store, for ``from_json``."""
        return {
            "started_at": self.started_at.isoformat(),
            "kept_at": self.kept_at.isoformat(),
            "environment": self.environment,
            "position": self.position.to_json(),
            "pages": self.pages,
            "order": self.order,
            "last_created": self.last_created and self.last_created.isoformat(),
            "last_id": self.last_id,
        }

    @classmethod
    def from_json(cls, value: Any) -> Self | None:
        """Return the scan that was kept; None when another release kept it in its own way."""
        try:
            last = value["last_created"]
            scan = cls(
                started_at=datetime.fromisoformat(value["started_at"]),
                kept_at=datetime.fromisoformat(value["kept_at"]),
                environment=value["environment"],
                position=Position.from_json(value["position"]),
                pages=value["pages"],
                order=value["order"],
                last_created=datetime.fromisoformat(last) if last else None,
                last_id=value["last_id"],
            )
        except (KeyError, TypeError, ValueError):
            return None
        return scan if scan.order in get_args(Order) else None
