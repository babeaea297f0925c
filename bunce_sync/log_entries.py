"""Entries of the admin's log that are not made by the admin's own views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import Model
from django.utils import translation

from bunce_sync.models import PushHold, Segment
from bunce_sync.status import messages
from bunce_sync.status.messages import Text


def log_for_all(user: Any, text: Text, **values: Any) -> None:
    """Add an entry about all pushes, such as that they were paused.

    Without a user, or on a site without the admin, nothing is done.

    Args:
        user: the user who did it; None or one of another kind if the site does not know it.
        text: what was done. It is not translated: readers of the log may use another language.
        values: for the placeholders of the text.
    """
    _log(user, PushHold, None, messages.PUSHES_TO_BUNCE, text, values)


def log_for_segment(user: Any, segment: Segment, text: Text, **values: Any) -> None:
    """Add an entry about a segment, such as that removals of its customers were confirmed.

    Args and exceptions: as for ``log_for_all``.
    """
    _log(user, type(segment), segment.pk, str(segment), text, values)


def _log(
    user: Any,
    model: type[Model],
    pk: int | None,
    name: Text,
    text: Text,
    values: Mapping[str, Any],
) -> None:
    if not apps.is_installed("django.contrib.admin") or not isinstance(user, get_user_model()):
        return
    # These can be imported only where the admin is installed.
    from django.contrib.admin.models import CHANGE, LogEntry
    from django.contrib.contenttypes.models import ContentType

    with translation.override(None):
        LogEntry.objects.create(
            user_id=user.pk,
            content_type=ContentType.objects.get_for_model(model),
            object_id=None if pk is None else str(pk),
            object_repr=str(name)[:200],
            action_flag=CHANGE,
            change_message=str(text) % values,
        )
