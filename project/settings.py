"""Settings of the sample project, read from environment variables.

Without any variable the site runs in debug mode, with SQLite and a message broker of files in a
folder. README.md lists the variables.
"""

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from bunce_sync.conf import SETTINGS
from project import env

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = env.flag("DJANGO_DEBUG", default=True)
SECRET_KEY = env.text("DJANGO_SECRET_KEY", "only-for-development" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "DJANGO_SECRET_KEY is not set. It is required when DJANGO_DEBUG is off. Set it to a long"
        " random value, the same for all web servers and workers."
    )
ALLOWED_HOSTS = env.words("DJANGO_ALLOWED_HOSTS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "import_export",
    "bunce_sync",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": env.database(env.text("DATABASE_URL", "sqlite:///db.sqlite3"), base=BASE_DIR)
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static"
LOGIN_REDIRECT_URL = "admin:index"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    # A separate level, so that `celery worker -l WARNING` still logs the result for each segment.
    # Without its own handlers, Django's messages appear once.
    "loggers": {"bunce_sync": {"level": "INFO"}, "django": {"handlers": []}},
}

# Other services send a token (`manage.py drf_create_token <user>`); browsers have a session.
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}

# Each setting of the app is read from BUNCE_<KEY>. The app's system checks validate the values.
BUNCE_SYNC: dict[str, Any] = {
    key: value if isinstance(setting.default, str) else env.number(value)
    for key, setting in SETTINGS.items()
    if (value := env.text(f"BUNCE_{key}"))
}


CELERY_BROKER_URL, CELERY_BROKER_TRANSPORT, CELERY_BROKER_TRANSPORT_OPTIONS = env.broker(
    env.text("CELERY_BROKER_URL", "filesystem://localhost"), folder=BASE_DIR / ".celery"
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TIMEZONE = "UTC"
CELERY_TASK_IGNORE_RESULT = True
# A message may be lost with its worker: the row is the queue, and the sweep finds it.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
if _queue := BUNCE_SYNC.get("QUEUE"):
    # A worker started without -Q consumes all queues listed here.
    CELERY_TASK_QUEUES = {
        name: {"exchange": name, "routing_key": name} for name in ("celery", _queue)
    }
# An interval needs no state between runs, so beat keeps no file that a crash could corrupt.
CELERY_BEAT_SCHEDULER = "celery.beat.Scheduler"
