"""An audience of users that is compared every second."""

from datetime import timedelta

from django.contrib.auth.models import User
from django.db.models import QuerySet

from bunce_sync.audiences import Audience, register


@register
class Colleagues(Audience):
    name = "Colleagues"
    interval = timedelta(seconds=1)
    customer_id = "username"

    def get_queryset(self) -> QuerySet[User]:
        return User.objects.filter(username__startswith="c-", is_active=True)
