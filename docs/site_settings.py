"""The settings with which the documentation site reads the docstrings of the app."""

SECRET_KEY = "for the documentation only"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "bunce_sync"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
