"""Entries in the admin's log about the sync as a whole.

The admin and the commands write them, where ``django.contrib.admin`` is installed. Changes of
single segments are logged by the admin itself.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.utils import translation

from bunce_sync.models import PushHold

#: What such an entry is about: there is no row that it could refer to.
OBJECT = "Pushes to Bunce"


def log_for_all(user: Any, message: str) -> None:
    """Log a pause, a resume or a move of segments.

    Args:
        user: who did it; None if that is no user of the site, so that nothing is logged.
        message: what was done, translated or to be translated.
    """
    if user is None or not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import CHANGE, LogEntry
    from django.contrib.contenttypes.models import ContentType

    with translation.override(None):  # readers of the log may use another language
        LogEntry.objects.create(
            user_id=user.pk,
            content_type=ContentType.objects.get_for_model(PushHold),
            object_id=None,
            object_repr=OBJECT,
            action_flag=CHANGE,
            change_message=str(message),
        )
