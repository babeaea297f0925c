"""Keeps Django and Bunce in step: exactly one Bunce segment for each local row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bunce_sync.services import no_push as no_push

__version__ = "1.0.0rc1"


def __getattr__(name: str) -> Any:
    """Return ``no_push``, which cannot be imported before Django has loaded the models."""
    if name == "no_push":
        from bunce_sync.services import no_push

        return no_push
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
