from __future__ import annotations

from django.apps import AppConfig, apps
from django.core import checks as django_checks
from django.db.models.signals import post_save, pre_delete
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class BunceSyncConfig(AppConfig):
    name = "bunce_sync"
    verbose_name = _("Bunce")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from bunce_sync import checks, receivers, signals
        from bunce_sync.models import Segment

        post_save.connect(receivers.publish_on_commit, dispatch_uid="bunce_sync.publish_on_commit")
        # Not for every model: Django deletes rows of models with a receiver one by one.
        for model in apps.get_models(include_auto_created=True):
            if issubclass(model, Segment):
                pre_delete.connect(
                    receivers.bury_on_delete, sender=model, dispatch_uid="bunce_sync.bury_on_delete"
                )
        signals.customers_changed.connect(
            receivers.publish_customers, dispatch_uid="bunce_sync.publish_customers"
        )
        autodiscover_modules("audiences")
        django_checks.register(checks.check_audiences, "bunce_sync")
        django_checks.register(checks.check_settings, "bunce_sync")
        django_checks.register(checks.check_key, "bunce_sync")
        django_checks.register(checks.check_key_for_deployment, "bunce_sync", deploy=True)
        django_checks.register(checks.check_address, "bunce_sync")
        django_checks.register(checks.check_proxy, "bunce_sync")
        django_checks.register(checks.check_times, "bunce_sync")
        django_checks.register(checks.check_minimums, "bunce_sync")
        django_checks.register(checks.check_database, "bunce_sync")
        django_checks.register(checks.check_migrations, "bunce_sync")
        django_checks.register(checks.check_managers, "bunce_sync")
        django_checks.register(checks.check_celery, "bunce_sync")
        django_checks.register(checks.check_tenants, "bunce_sync")
