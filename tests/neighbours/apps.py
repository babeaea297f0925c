"""A site's own app, installed in the unit tests."""

from django.apps import AppConfig


class NeighboursConfig(AppConfig):
    name = "tests.neighbours"
    label = "neighbours"
    default_auto_field = "django.db.models.BigAutoField"
