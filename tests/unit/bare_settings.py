"""The settings of a site that has only the app and what it needs."""

SECRET_KEY = "a key of the tests"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "bunce_sync"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
