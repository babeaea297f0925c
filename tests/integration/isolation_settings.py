"""The settings of the unit tests, with transactions that keep the snapshot they began with."""

from tests.settings import *  # noqa: F403 - the settings of the tests, unchanged
from tests.settings import DATABASES as _DATABASES

_default = _DATABASES["default"]
# 4: psycopg's SERIALIZABLE. None: MariaDB's own default, REPEATABLE READ.
_level = 4 if "postgresql" in _default["ENGINE"] else None
DATABASES = {
    "default": {**_default, "OPTIONS": {**_default.get("OPTIONS", {}), "isolation_level": _level}}
}
