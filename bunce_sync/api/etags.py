"""ETags of segments, so that nobody overwrites an edit that he has not seen.

The tag is strong: a digest of the whole representation, so that it changes whenever anything in it
does, a status that a worker recorded included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.utils.http import parse_etags
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

from bunce_sync.api.problems import PreconditionFailed


def etag_of(representation: Mapping[str, Any]) -> str:
    """The tag of what is about to be answered, in its quotes."""
    text = json.dumps(representation, cls=JSONEncoder, sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def check_if_match(request: Request, etag: str) -> None:
    """Let a write through when it was made in view of what is there now.

    To be called with the row locked: else two writers could both find their tag unchanged.

    Raises:
        PreconditionFailed: ``If-Match`` names other tags.
    """
    header = request.headers.get("If-Match")
    if header is None:
        return
    tags = parse_etags(header)
    if "*" in tags or etag in tags:
        return
    if f"W/{etag}" in tags:
        # RFC 9110, 13.1.1: If-Match compares strongly, and a weak tag never is the same.
        raise PreconditionFailed(
            _(
                "The tag is right but weak (W/): something on the way, such as compression,"
                " weakened it. Send it without the W/."
            )
        )
    raise PreconditionFailed(
        _("The segment has changed since you read it. Read it again, then decide.")
    )


def is_known(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` says that the client has this representation already."""
    tags = parse_etags(request.headers.get("If-None-Match", ""))
    return "*" in tags or any(tag.removeprefix("W/") == etag for tag in tags)
