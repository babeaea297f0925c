"""The sample site's settings in a cell, for what its environment variables cannot express."""

from project import env
from project.settings import *  # noqa: F403 - the sample site's, with a few changes
from project.settings import DATABASES as _DATABASES

# As pgbouncer in transaction mode requires: a cursor outlives the transaction that opened it.
_pooled = env.flag("MATRIX_PGBOUNCER", default=False)
DATABASES = {"default": {**_DATABASES["default"], "DISABLE_SERVER_SIDE_CURSORS": _pooled}}

# "quorum" or "classic"; Celery 5.4 does not know the setting.
CELERY_TASK_DEFAULT_QUEUE_TYPE = env.text("MATRIX_QUEUE_TYPE", "classic")
