"""The sample project's settings, with the plain task that the app is compared with."""

from project.settings import *  # noqa: F403 - a variation of them
from project.settings import CELERY_TASK_QUEUES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.plain"]
CELERY_TASK_QUEUES = {
    **CELERY_TASK_QUEUES,
    "plain": {"exchange": "plain", "routing_key": "plain"},
}
