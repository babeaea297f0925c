"""The sample site with time limits for its tasks that are shorter than a slow response."""

from typing import Any

from project.settings import *  # noqa: F403 - the sample site's settings, unchanged

CELERY_TASK_SOFT_TIME_LIMIT = 1
CELERY_TASK_TIME_LIMIT = 2
CELERY_TASK_ANNOTATIONS: dict[str, dict[str, Any]] = {"*": {"time_limit": 1, "rate_limit": "5/s"}}
