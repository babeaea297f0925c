"""A local Bunce for the tests of a site; it needs the extra ``[testing]``.

docs/testing.md has examples. Importing this package loads neither Django, pytest nor the emulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bunce_sync.testing.local_bunce import LocalBunce

__all__ = ["running_bunce"]


@contextmanager
def running_bunce(**options: Any) -> Iterator[LocalBunce]:
    """Run an empty local Bunce to which ``BUNCE_SYNC`` points; restore the setting at the end.

    The other keys of ``BUNCE_SYNC`` stay as they are, except that requests are not limited. In a
    test case of ``unittest`` or Django::

        def setUp(self):
            self.bunce = self.enterContext(running_bunce())

    Args:
        options: as for ``Emulator``.

    Raises:
        MissingExtraError: the extra ``[testing]`` is not installed.
    """
    from django.test import override_settings

    from bunce_sync.testing.local_bunce import LocalBunce

    with LocalBunce(**options) as bunce, override_settings(BUNCE_SYNC=bunce.settings()):
        yield bunce
