"""The one exception for mistakes that a user can mend: one line saying where, what, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what came from outside: settings, files, downloads. Its text is one line, shown without a traceback."""


class NumericalError(Exception):
    """A number that must not be: NaN, lost rank, a violated bound. Its text holds the numbers."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known word, or with all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(names)}." if names else "None is known."
