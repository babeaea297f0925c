"""A client of the running site's REST API, as another service would use it."""

from typing import Any

import requests

from tests.site import Site

#: Seconds to wait for a response from a busy site.
PATIENCE = 60


class Service:
    """A client whose token has all permissions; several threads can use it at once."""

    def __init__(self, site: Site) -> None:
        name, _password = site.create_login()
        self.root = f"{site.url}/api/"
        self.token = site.manage("drf_create_token", name).split()[2]

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
