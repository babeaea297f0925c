"""The sample project's settings for the suite: the developer's own environment stays out.

DATABASE_URL alone is let through, so that the suite can run on another database; Django makes
a test database of its own there.
"""

import os

for _name in list(os.environ):
    if _name.startswith(("BUNCE_", "CELERY_", "DJANGO_")) and _name != "DJANGO_SETTINGS_MODULE":
        del os.environ[_name]
os.environ["CELERY_BROKER_URL"] = "memory://"

from project.settings import *  # noqa: E402, F403 - the environment has to be clean before

INSTALLED_APPS = [*INSTALLED_APPS, "reversion", "simple_history", "tests.neighbours"]  # noqa: F405 - from the project
