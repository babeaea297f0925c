"""Another service of the company, as a caller of the running site's REST API."""

from typing import Any

import requests

from tests.site import Site

#: Seconds for one answer of a busy site.
PATIENCE = 60


class Service:
    """Calls the API with a token that may do everything; from several threads at once, too."""

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
