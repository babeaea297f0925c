"""``manage.py shop_open``: fill the shop with customers, then let some come, buy and leave."""

import random
import time
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError
from django.utils import timezone

from project.shop.models import Customer, Order

FIRST_NAMES = ("Ada", "Alan", "Barbara", "Edsger", "Grace", "Ken", "Margaret", "Niklaus")
LAST_NAMES = ("Ali", "Berg", "Costa", "Dubois", "Eze", "Fischer", "Garcia", "Hansen")
#: Seconds between two events.
PAUSE = 2.0


class Command(BaseCommand):
    """Simulate the shop until it is stopped."""

    help = "Fill the shop with customers and orders; with --loop, let some come, buy and leave."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--customers", type=int, default=400)
        parser.add_argument("--loop", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Fill the shop, and keep it open."""
        now = timezone.now()
        for _ in range(options["customers"] - Customer.objects.count()):
            joined_at = now - timedelta(days=random.randrange(700))
            customer = join(joined_at)
            if random.random() < 0.6:
                buy(customer, joined_at + (now - joined_at) * random.random())
        while options["loop"]:
            time.sleep(PAUSE)
            # The database may be busy, or someone may edit the same customer in the admin.
            with suppress(DatabaseError):
                let_something_happen()


def let_something_happen() -> None:
    """Let a customer join, buy or leave."""
    now, someone = timezone.now(), Customer.objects.order_by("?").first()
    chance = random.random()
    if someone is None or chance < 0.4:
        join(now)
    elif chance < 0.9:
        buy(someone, now)
    else:
        someone.delete()


def join(joined_at: datetime) -> Customer:
    """Return a new customer."""
    first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
    newest = Customer.objects.order_by("pk").last()
    number = newest.pk + 1 if newest else 1
    return Customer.objects.create(
        email=f"{first}.{last}.{number}@example.com".lower(),
        first_name=first,
        last_name=last,
        joined_at=joined_at,
    )


def buy(customer: Customer, paid_at: datetime) -> None:
    """Let a customer buy something."""
    amount = Decimal(random.randrange(500, 20_000)) / 100
    Order.objects.create(customer=customer, amount=amount, paid_at=paid_at)
