"""The sample project's settings for the tests, without the developer's environment variables.

Only DATABASE_URL is kept, so that the tests can run on another database server.
"""

import os

for _name in list(os.environ):
    if _name.startswith(("BUNCE_", "CELERY_", "DJANGO_")) and _name != "DJANGO_SETTINGS_MODULE":
        del os.environ[_name]
os.environ["CELERY_BROKER_URL"] = "memory://"

from project.settings import *  # noqa: E402, F403 - after the environment is clean

INSTALLED_APPS = [*INSTALLED_APPS, "reversion", "simple_history", "tests.neighbours"]  # noqa: F405
