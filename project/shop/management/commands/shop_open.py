"""``manage.py shop_open``: fill the shop with customers, then let them buy something."""

import random
import time
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from project.shop.models import Customer, Order

FIRST_NAMES = ("Ada", "Alan", "Barbara", "Edsger", "Grace", "Ken", "Margaret", "Niklaus")
LAST_NAMES = ("Ali", "Berg", "Costa", "Dubois", "Eze", "Fischer", "Garcia", "Hansen")
#: Seconds between two customers who buy something.
PAUSE = 2.0


class Command(BaseCommand):
    """Simulate the shop until it is stopped."""

    help = "Fill the shop with customers and orders; with --loop, more come and buy every second."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--customers", type=int, default=400)
        parser.add_argument("--loop", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Fill the shop, and keep it open."""
        now = timezone.now()
        for _ in range(options["customers"] - Customer.objects.count()):
            joined = now - timedelta(days=random.randrange(700))
            customer = _join(joined)
            if random.random() < 0.6:
                paid = joined + (now - joined) * random.random()
                Order.objects.create(customer=customer, amount=_amount(), paid_at=paid)
        while options["loop"]:
            time.sleep(PAUSE)
            customer = _join(timezone.now())
            Order.objects.create(customer=customer, amount=_amount(), paid_at=timezone.now())


def _join(joined_at: Any) -> Customer:
    number = Customer.objects.count() + 1
    return Customer.objects.create(
        email=f"customer-{number}@example.com",
        first_name=random.choice(FIRST_NAMES),
        last_name=random.choice(LAST_NAMES),
        joined_at=joined_at,
    )


def _amount() -> float:
    return random.randrange(500, 20_000) / 100
