"""A check for django-health-check 4. Add its path to the checks of your ``HealthCheckView``."""

from __future__ import annotations

from dataclasses import dataclass

from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

from bunce_sync import database
from bunce_sync.monitoring.health import find_problems


@dataclass
class BunceSync(HealthCheck):
    """Whether segments are being sent to Bunce."""

    def run(self) -> None:
        """Raise ServiceUnavailable with the problems, if there are any."""
        with database.closed_after():
            problems = find_problems()
        if problems:
            raise ServiceUnavailable(" ".join(one.summary for one in problems))
