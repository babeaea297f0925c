"""The settings of the unit tests behind pgbouncer in transaction mode."""

from tests.settings import *  # noqa: F403 - the settings of the tests, with one change
from tests.settings import DATABASES as _DATABASES

DATABASES = {"default": {**_DATABASES["default"], "DISABLE_SERVER_SIDE_CURSORS": True}}
