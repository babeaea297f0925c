"""Settings of the sample project, all of them from the environment.

With nothing set it runs as it stands: debug mode, SQLite, and messages as files in a folder.
README.md lists the variables.
"""

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from bunce_sync.conf import SETTINGS
from project import env, services

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = env.flag("DJANGO_DEBUG", default=True)
SECRET_KEY = env.text("DJANGO_SECRET_KEY", "only-for-development" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "DJANGO_DEBUG is off, so the site signs its sessions with DJANGO_SECRET_KEY, and that is"
        " not set. Set it to a long random text, the same for web servers and workers."
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
    "default": services.database(env.text("DATABASE_URL", "sqlite:///db.sqlite3"), base=BASE_DIR)
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
    # Named, so that a worker started with `-l WARNING` still says what it did for each segment.
    # Django's own handler would say a second time what the root's says.
    "loggers": {"bunce_sync": {"level": "INFO"}, "django": {"handlers": []}},
}

# Services send a token (`manage.py drf_create_token <user>`); people are logged in already.
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}

# Each setting of the app from BUNCE_<KEY>. What is not set here keeps the app's default; what is
# not a number where one is wanted goes in as it is, and the app's system check names it.
BUNCE_SYNC: dict[str, Any] = {
    key: value if isinstance(setting.default, str) else env.number(value)
    for key, setting in SETTINGS.items()
    if (value := env.text(f"BUNCE_{key}"))
}

# Celery
_QUEUE = BUNCE_SYNC.get("QUEUE", SETTINGS["QUEUE"].default)
_SWEEP_INTERVAL = env.positive(
    BUNCE_SYNC.get("SWEEP_INTERVAL"), default=SETTINGS["SWEEP_INTERVAL"].default
)

CELERY_BROKER_URL, CELERY_BROKER_TRANSPORT, CELERY_BROKER_TRANSPORT_OPTIONS = services.broker(
    env.text("CELERY_BROKER_URL", "filesystem://localhost"), folder=BASE_DIR / ".celery"
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TIMEZONE = "UTC"
CELERY_TASK_IGNORE_RESULT = True
# A message lost with its worker is no loss: the row is the queue, and the sweep finds it.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
# Named here, so that a worker started without -Q consumes both.
CELERY_TASK_QUEUES = {name: {"record": name, "routing_key": name} for name in ("celery", _QUEUE)}
CELERY_TASK_ROUTES = {"bunce_sync.*": {"queue": _QUEUE}}
CELERY_BEAT_SCHEDULE = {
    "bunce_sync.sweep": {
        "task": "bunce_sync.sweep",
        "schedule": _SWEEP_INTERVAL,
        # Sweeps that pile up while no worker runs would all do the same work.
        "options": {"expires": _SWEEP_INTERVAL},
    },
}
# Intervals need no memory between runs, so beat keeps no file that a crash could spoil.
CELERY_BEAT_SCHEDULER = "celery.beat.Scheduler"
