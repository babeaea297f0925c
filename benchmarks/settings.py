"""The sample project's settings, and the plain task that ours is measured beside."""

from project.settings import *  # noqa: F403 - a variation of them
from project.settings import CELERY_TASK_QUEUES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.plain"]
CELERY_TASK_QUEUES = {
    **CELERY_TASK_QUEUES,
    "plain": {"record": "plain", "routing_key": "plain"},
}
