"""The sample project's settings, with the plain task that the app is compared with."""

from project.settings import *  # noqa: F403 - a variation of them
from project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.plain"]
CELERY_TASK_QUEUES = {name: {"exchange": name, "routing_key": name} for name in ("celery", "plain")}
