"""The sample site's Celery app, with an audience of the site's active users.

    celery -A tests.faults.audience_app worker

A comparison whose worker was killed begins again after seconds instead of minutes.
"""

from datetime import timedelta

import django
from django.db.models import QuerySet

from project.celery import app as app

django.setup()

from django.contrib.auth.models import User  # noqa: E402 - the models have to be ready

from bunce_sync.audiences import Audience, register  # noqa: E402
from bunce_sync.sync import audience_runs  # noqa: E402

audience_runs.LEASE = 5.0  # type: ignore[misc]  # final everywhere else
audience_runs.HEARTBEAT = 1.0  # type: ignore[misc]


@register
class ActiveUsers(Audience):
    name = "Active users"
    interval = timedelta(seconds=2)
    customer_id = "username"
    first_name = "first_name"
    max_removals = 10**9

    def get_queryset(self) -> QuerySet[User]:
        return User.objects.filter(is_active=True)
