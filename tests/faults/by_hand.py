"""Adds and removes customers of a segment at random, and prints what it did.

    python -m tests.faults.by_hand SEGMENT_ID SEED SECONDS

Each line is one call, as JSON: whether it added, its identifiers, when it began and when it ended.
"""

import json
import random
import sys
import time

import django
from django.db import OperationalError, connection

django.setup()

from bunce_sync.models import Segment  # noqa: E402 - the models have to be ready

ER_LOCK_DEADLOCK = 1213
IDENTIFIERS = [f"c-{number}" for number in range(60)]


def change(segment: Segment, chance: random.Random) -> None:
    """Add or remove some customers."""
    some = chance.sample(IDENTIFIERS, chance.randint(1, 30))
    adds = chance.random() < 0.5
    name = chance.choice([None, "Ann", "Bo"])
    while True:
        began = time.monotonic()
        try:
            if adds:
                segment.add_customers([{"customer_id": one, "first_name": name} for one in some])
            else:
                segment.remove_customers(some)
            break
        except OperationalError as error:
            # An INSERT IGNORE locks an entry of the unique index before any row, so that MySQL may
            # have to roll a call back. Nothing of it is stored, and it can be made again.
            if connection.vendor != "mysql" or error.args[0] != ER_LOCK_DEADLOCK:
                raise
    sys.stdout.write(f"{json.dumps([adds, some, began, time.monotonic()])}\n")


def main(segment_id: str, seed: str, seconds: str) -> None:
    """Make changes for so many seconds."""
    segment = Segment.objects.get(pk=segment_id)
    chance = random.Random(seed)
    ends = time.monotonic() + float(seconds)
    while time.monotonic() < ends:
        change(segment, chance)
        time.sleep(chance.uniform(0, 0.05))


if __name__ == "__main__":
    main(*sys.argv[1:])
