"""The sample project: a plain Django site with `bunce_sync` in it."""

from project.celery import app as celery_app

__all__ = ["celery_app"]
