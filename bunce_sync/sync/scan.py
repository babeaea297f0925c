"""A reading of Bunce's list, page by page: how far it is, and what it shows of the list's order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from bunce_sync.client import Page, Position

FIRST_PAGE = Position()
#: How many falls are taken as proof that the list comes newest first.
ENOUGH_FALLS = 10


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan under way.

    Attributes:
        started_at: the database's time; rows that were ready by then are considered.
        kept_at: when progress was last written down.
        environment: whose list is read, as in ``conf.environment``.
        position: the page to read next.
        pages: pages read so far.
        falls: how often the time of creation fell from one segment to the next; None once it
            rose or was missing, so that the list is known not to come newest first.
        rises: the same the other way round.
        last_created: the creation time of the last segment read.
    """

    started_at: datetime
    kept_at: datetime
    environment: str
    position: Position = FIRST_PAGE
    pages: int = 0
    falls: int | None = 0
    rises: int | None = 0
    last_created: datetime | None = None

    @property
    def newest_first(self) -> bool:
        """Whether the list was seen to come newest first."""
        return self.falls is not None and self.falls >= ENOUGH_FALLS

    @property
    def by_creation(self) -> bool:
        """Whether all that was read came in the order of creation, which no update changes."""
        return self.falls is not None or self.rises is not None

    def after(self, page: Page) -> Scan:
        """The scan with one page more."""
        falls, rises, last = self.falls, self.rises, self.last_created
        for segment in page.segments:
            created = segment.created_at
            if created is None:
                falls = rises = None
            elif last is not None and created > last:
                falls, rises = None, rises if rises is None else rises + 1
            elif last is not None and created < last:
                falls, rises = falls if falls is None else falls + 1, None
            last = created or last
        return replace(
            self,
            position=page.next or self.position,
            pages=self.pages + 1,
            falls=falls,
            rises=rises,
            last_created=last,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object to store, for ``from_json``."""
        return {
            "started_at": self.started_at.isoformat(),
            "kept_at": self.kept_at.isoformat(),
            "environment": self.environment,
            "position": self.position.to_json(),
            "pages": self.pages,
            "falls": self.falls,
            "rises": self.rises,
            "last_created": self.last_created and self.last_created.isoformat(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self | None:
        """The scan that was kept; None when another release of this app kept it in its own way."""
        try:
            last = value["last_created"]
            return cls(
                started_at=datetime.fromisoformat(value["started_at"]),
                kept_at=datetime.fromisoformat(value["kept_at"]),
                environment=value["environment"],
                position=Position.from_json(value["position"]),
                pages=value["pages"],
                falls=value["falls"],
                rises=value["rises"],
                last_created=datetime.fromisoformat(last) if last else None,
            )
        except (KeyError, TypeError, ValueError):
            return None
