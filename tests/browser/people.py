"""Users of the admin, each with a browser."""

import uuid
from datetime import timedelta

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect

from tests.site import Site

#: Milliseconds to wait for an element, on a busy machine.
TIMEOUT = 60_000
LIST = "/admin/bunce_sync/segment/"
CALL_LOG = "/admin/bunce_sync/apicall/"

expect.set_options(timeout=TIMEOUT)


class Person:
    """One browser window of one user. ``errors`` collects the errors in its console."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        context.set_default_timeout(TIMEOUT)
        self.context = context
        self.site = site
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        # The sample site has no favicon, which Chromium requests.
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            self.errors.append(message.text)

    def log_in(self, name: str, password: str) -> "Person":
        """Log in through the login page."""
        self.open("/admin/login/?next=/admin/")
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("heading", name="Site administration")).to_be_visible()
        return self

    def arrive_as_admin(self) -> "Person":
        """Start a session as a superuser."""
        return self._arrive_as(self._new_user(is_superuser=True))

    def arrive_with(self, *permissions: str) -> "Person":
        """Start a session as a user with these permissions."""
        user = self._new_user()
        user.user_permissions.set(
            Permission.objects.using(self.site.alias).filter(codename__in=permissions)
        )
        return self._arrive_as(user)

    def _new_user(self, **values: bool) -> User:
        users = User.objects.using(self.site.alias)
        return users.create(username=f"person-{uuid.uuid4().hex[:8]}", is_staff=True, **values)

    def _arrive_as(self, user: User) -> "Person":
        store = SessionStore()
        session = Session.objects.using(self.site.alias).create(
            session_key=uuid.uuid4().hex,
            session_data=store.encode(
                {
                    SESSION_KEY: str(user.pk),
                    BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
                    HASH_SESSION_KEY: user.get_session_auth_hash(),
                }
            ),
            expire_date=timezone.now() + timedelta(hours=1),
        )
        self.context.add_cookies(
            [{"name": "sessionid", "value": session.session_key, "url": self.site.url}]
        )
        return self

    def open(self, path: str) -> None:
        self.page.goto(self.site.url + path)

    def open_list(self) -> None:
        self.open(LIST)

    def open_segment(self, name: str) -> None:
        self.open(f"{LIST}{self.site.segments.get(name=name).pk}/change/")

    def add_segment(self, name: str, description: str = "") -> None:
        """Fill in the form and save it, which leads to the list."""
        self.open(f"{LIST}add/")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Description").fill(description)
        self.page.get_by_role("button", name="Save", exact=True).click()
        expect(self.panel).to_be_visible()

    def press(self, label: str) -> None:
        self.page.get_by_role("button", name=label, exact=True).click()

    @property
    def panel(self) -> Locator:
        return self.page.get_by_role("region", name="Sync status")

    @property
    def state(self) -> Locator:
        """The status message on the change page."""
        return self.page.get_by_role("region", name="Status", exact=True)

    def row(self, name: str) -> Locator:
        """A line of the list."""
        return self.page.get_by_role("row").filter(has_text=name)

    def mark(self) -> None:
        """Set a mark that a reload of the page removes."""
        self.page.evaluate("window.notReloaded = true")

    def assert_not_reloaded(self) -> None:
        assert self.page.evaluate("window.notReloaded === true"), "the page was reloaded"
