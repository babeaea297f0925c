"""Who runs a command, for what it leaves in the database."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser

from bunce_sync import services


def add_person(parser: CommandParser, *, by: bool = False) -> None:
    """Add the option --user, and --by if the name is shown."""
    if by:
        parser.add_argument(
            "--by", metavar="NAME", help="who does it (default: user and host of this process)"
        )
    parser.add_argument(
        "--user", metavar="NAME", help="a user of the site, in whose name it is logged in the admin"
    )


def find_person(options: dict[str, Any]) -> tuple[str, Any]:
    """Return the name to show, and the user to log for; None without --user.

    Raises:
        CommandError: there is no such user.
    """
    name = options.get("by") or ""
    if not options["user"]:
        return name or services.user_at_host(), None
    model = get_user_model()
    try:
        user = model._default_manager.get_by_natural_key(options["user"])
    except model.DoesNotExist:
        raise CommandError(f"There is no user {options['user']!r}. Nothing was changed.") from None
    return name or user.get_username(), user
