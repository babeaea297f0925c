"""Entries of the admin's log that are about all pushes, not about a segment."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.utils import translation

from bunce_sync.models import PushHold
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
    if not apps.is_installed("django.contrib.admin") or not isinstance(user, get_user_model()):
        return
    # These can be imported only where the admin is installed.
    from django.contrib.admin.models import CHANGE, LogEntry
    from django.contrib.contenttypes.models import ContentType

    with translation.override(None):
        LogEntry.objects.create(
            user_id=user.pk,
            content_type=ContentType.objects.get_for_model(PushHold),
            object_repr=str(messages.PUSHES_TO_BUNCE),
            action_flag=CHANGE,
            change_message=str(text) % values,
        )
