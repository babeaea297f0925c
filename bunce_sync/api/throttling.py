"""A throttle that waits for a rate: it acts as soon as the site's settings name one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from rest_framework.settings import api_settings
from rest_framework.throttling import UserRateThrottle


class BunceThrottle(UserRateThrottle):
    """Requests a user may make to this API, all views together.

    Every view has it beside the site's own throttles. Without a rate it lets all pass::

        REST_FRAMEWORK = {"DEFAULT_THROTTLE_RATES": {"bunce_sync": "120/min"}}
    """

    scope = "bunce_sync"

    def get_rate(self) -> str | None:
        """Return the site's rate, read anew at each request; None for no limit."""
        rates = cast("Mapping[str, str | None]", api_settings.DEFAULT_THROTTLE_RATES)
        return rates.get(self.scope)
