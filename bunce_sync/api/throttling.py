"""The throttle of this API, which is off until the site sets a rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from rest_framework.settings import api_settings
from rest_framework.throttling import UserRateThrottle


class BunceThrottle(UserRateThrottle):
    """The limit of requests per user, counted over all views of this API.

    Every view has it in addition to the site's own throttles. Set a rate to turn it on::

        REST_FRAMEWORK = {"DEFAULT_THROTTLE_RATES": {"bunce_sync": "120/min"}}
    """

    scope = "bunce_sync"

    def get_rate(self) -> str | None:
        """Return the site's current rate; None for no limit."""
        rates = cast("Mapping[str, str | None]", api_settings.DEFAULT_THROTTLE_RATES)
        return rates.get(self.scope)
