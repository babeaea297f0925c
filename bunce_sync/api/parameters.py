"""Query parameters: those that nobody reads are refused rather than ignored."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

#: Unknown parameters told of one request; more of them are no help.
MAX_UNKNOWN = 20


def check_parameters(request: Request, known: Mapping[str, bool]) -> None:
    """Refuse parameters that are unknown, empty, or given more than once.

    A slip in a filter's name, or a variable that was never set, would list everything; and of a
    filter given twice, all values but one would be forgotten.

    Args:
        known: the parameters, and whether each may be repeated.

    Raises:
        ValidationError: there is one; it names all of them.
    """
    given = request.query_params
    errors = {}
    for name in sorted(given.keys() - known.keys())[:MAX_UNKNOWN]:
        shown = name.encode("utf-8", "backslashreplace").decode()[:60]
        errors[shown] = [_unknown(name, known)]
    for name in given.keys() & known.keys():
        values = given.getlist(name)
        if not all(value.strip() for value in values):
            errors[name] = [_("Send a value, or leave the parameter out.")]
        elif len(values) > 1 and not known[name]:
            errors[name] = [_("Send it once: it takes one value.")]
    if errors:
        raise ValidationError(errors)


def _unknown(name: str, known: Mapping[str, bool]) -> str:
    if not known:
        return _("There is no such parameter: this address takes none.")
    near = difflib.get_close_matches(name, known, 1) or sorted(known)
    return _("There is no such parameter. Perhaps %(near)s?") % {"near": ", ".join(near)}
