"""The one exception that is the user's to mend, and how to word it."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["UserError", "check_seed", "unknown"]


class UserError(Exception):
    """What the user gave cannot be used: one sentence that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is in no table, with the nearest names and then all of them."""
    known = list(known)
    near = get_close_matches(str(name).lower(), known, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    these = f"Known: {', '.join(known)}" if known else "There is none here"
    return UserError(f"unknown {kind} {str(name)!r}.{hint} {these}.")


def check_seed(seed: int) -> None:
    """Raise a `UserError` for a seed that random number generators cannot take."""
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"--seed must be a whole number between 0 and 2^63 - 1, and is {seed!r}")
