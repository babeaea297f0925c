"""A client of the running site's REST API, as another service would use it."""

from typing import Any

import requests

from tests.site import Site

#: Seconds to wait for a response from a busy site.
PATIENCE = 60
#: In one process, because each takes a second to start.
NEW_TOKEN = """
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
print(Token.objects.create(user=User.objects.create_superuser("admin")).key)
"""


class Service:
    """A client whose token has all permissions; several threads can use it at once."""

    def __init__(self, site: Site) -> None:
        self.root = f"{site.url}/api/"
        self.token = site.shell(NEW_TOKEN).strip()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.token}"}

    def call(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, json: Any = None
    ) -> requests.Response:
        return requests.request(
            method,
            self.root + path,
            headers={**self.headers, **(headers or {})},
            json=json,
            timeout=PATIENCE,
        )
