"""The shop of the demo, and the audiences that the documentation writes for one like it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest

from .test_docs import ROOT, code

#: Runs in a site of its own, since the shop is only in the settings of the demo.
BEFORE = """
    import json, sys
    import django
    django.setup()
    from django.core import checks
    from django.core.management import call_command
    from project import shop
    from project.shop.management.commands import shop_open
    from project.shop.models import Customer
    from bunce_sync import audiences
    call_command("migrate", verbosity=0)
    call_command("shop_open", customers=50)
    sys.modules |= {"shop": shop, "shop.models": sys.modules["project.shop.models"]}
"""


def in_the_shop(script: str) -> Any:
    """Run a script in the site of the demo, in memory; return what it prints as JSON."""
    own = ("BUNCE_", "CELERY_", "DATABASE_", "DJANGO_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment |= {
        "DATABASE_URL": "sqlite://:memory:",
        "DJANGO_SETTINGS_MODULE": "project.demo_settings",
        "BUNCE_API_KEY": "sk_test_shop",
        "BUNCE_ENV": "sandbox",
    }
    ran = subprocess.run(
        [sys.executable, "-c", dedent(BEFORE) + dedent(script)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_audiences_of_the_demo_have_customers() -> None:
    found = in_the_shop("""
        errors = [str(error) for error in checks.run_checks() if error.is_serious()]
        read = {}
        for audience in audiences.all_audiences():
            read[audience.get_key()] = sum(len(part) for part in audience.read())
        print(json.dumps([errors, read]))
    """)
    errors, read = found
    assert errors == []
    assert read.keys() == {"new_customers", "paying_customers"}
    assert 0 < read["paying_customers"] < 50


def test_customers_join_buy_and_leave() -> None:
    joined, left, last = in_the_shop("""
        numbers = set()
        for _ in range(200):
            shop_open.let_something_happen()
            numbers.add(Customer.objects.count())
        left = Customer.objects.filter(pk__lte=50).count() < 50
        Customer.objects.filter(pk__lte=20).delete()  # by someone in the admin
        shop_open.join(shop_open.timezone.now())
        last = Customer.objects.order_by("pk").last().email
        print(json.dumps([max(numbers) > 50, left, last]))
    """)
    assert joined
    assert left
    assert last.endswith("@example.com")


@pytest.mark.parametrize("page", ["README.md", "docs/audiences.md"])
def test_the_audience_of_the_documentation_can_be_read(page: str) -> None:
    [example] = [one for one in code(ROOT / page, "python") if "class PayingCustomers" in one]
    found = in_the_shop(f"""
        for one in audiences.registered():
            audiences.unregister(one)
        exec({example!r}, {{"__name__": "shop.audiences"}})
        errors = [str(error) for error in checks.run_checks() if error.is_serious()]
        [audience] = audiences.all_audiences()
        read = [entry.identifier for part in audience.read() for entry in part.values()]
        print(json.dumps([errors, audience.get_key(), len(read)]))
    """)
    errors, key, number = found
    assert (errors, key) == ([], "paying_customers")
    assert 0 < number < 50
