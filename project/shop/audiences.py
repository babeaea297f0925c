"""The audiences of the shop. Their segments in Bunce follow these querysets."""

from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from bunce_sync.audiences import Audience, register
from project.shop.models import Customer


@register
class PayingCustomers(Audience):
    name = "Paying customers"
    description = "Bought something in the last twelve months."
    interval = timedelta(minutes=1)
    customer_id = "pk"
    email = "email"

    def get_queryset(self) -> QuerySet[Customer]:
        year_ago = timezone.now() - timedelta(days=365)
        return Customer.objects.filter(orders__paid_at__gte=year_ago).distinct()


@register
class NewCustomers(Audience):
    name = "New customers"
    description = "Joined in the last thirty days."
    interval = timedelta(minutes=1)
    customer_id = "pk"
    email = "email"
    first_name = "first_name"
    last_name = "last_name"

    def get_queryset(self) -> QuerySet[Customer]:
        month_ago = timezone.now() - timedelta(days=30)
        return Customer.objects.filter(joined_at__gte=month_ago)
