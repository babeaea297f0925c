"""The emulator in the tests of a site, together with the work of beat and the workers."""

from __future__ import annotations

from typing import Any

from bunce_sync.conf import conf, raw_settings
from bunce_sync.testing.emulator import Emulator

API_KEY = "sk_test_emulator"
#: How long each kind of work may take before the next one gets its turn.
TURN_SECONDS = 1.0


class LocalBunce(Emulator):
    """An ``Emulator`` without a rate limit that can also do the work of the site's workers.

    Args:
        options: as for ``Emulator``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"rate_limit": None, **options})

    def settings(self) -> dict[str, Any]:
        """Return the site's ``BUNCE_SYNC``, changed to use this Bunce without a rate limit."""
        return {
            **raw_settings(),
            "BASE_URL": self.base_url,
            "API_KEY": API_KEY,
            "RATE_LIMIT": None,
        }

    def work(self) -> None:
        """Do all work that is due, in this thread, as beat and the workers would.

        Segments that wait for a retry, and segments in doubt, are not due yet. Nothing is left to
        do where tasks run eagerly and the test's transactions commit.

        Raises:
            RuntimeError: the settings do not point to this Bunce any more.
            ConfigurationError: a setting cannot be used.
        """
        # Imported late, since the models cannot be imported before Django is set up.
        from bunce_sync.sync.sweep import run_once

        if conf.base_url != self.base_url:
            raise RuntimeError(
                f"BUNCE_SYNC does not point to the local Bunce at {self.base_url} any more,"
                " so nothing was sent. Override single keys: {**settings.BUNCE_SYNC, …}."
            )
        while run_once(seconds=TURN_SECONDS).requests:
            pass
