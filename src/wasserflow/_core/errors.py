"""The one exception that the user can fix, and how its message is worded.

A message is one sentence: what is wrong, where, and what to do. A setting stands in backticks as Python names it,
"`lr_logit` must be above 0, not 0", with its value where that matters, "`pairing='ot'` is for fm". The command line
turns both into its flags when it prints the message, so no flag is written below `wasserflow.cli`.
"""

from collections.abc import Iterable
from itertools import takewhile

__all__ = ["UserError", "check_seed", "install", "unknown"]

ALIKE = 0.5
"""Similarity from which on a name is suggested."""

NEXT = 0.25
"""How much less similar than the nearest name a second suggestion may be."""


class UserError(Exception):
    """What the user gave cannot be used: one sentence that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is in no table, with the most similar names and then all of them."""
    known = list(known)
    similarity = {one: _similarity(str(name).lower(), one) for one in known}
    least = max(ALIKE, max(similarity.values(), default=0) - NEXT)
    near = sorted((one for one in known if similarity[one] >= least), key=lambda one: -similarity[one])[:2]
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    these = f"Known: {', '.join(known)}" if known else "There is none here"
    return UserError(f"unknown {kind} {str(name)!r}.{hint} {these}.")


def install(extra: str) -> str:
    """The command lines that install an optional group of packages; the constraints keep torch as it is."""
    return f"pip install 'wasserflow[{extra}]', or in a checkout pip install -c constraints.txt '.[{extra}]'"


def check_seed(seed: int) -> None:
    """Raise a `UserError` for a seed that random number generators cannot take."""
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"`seed` must be a whole number between 0 and 2^63 - 1, not {seed!r}")


def _similarity(a: str, b: str) -> float:
    """1 for equal words, falling with the edit distance relative to the longer one; a common start counts for more."""
    start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    return 1 - _edits(a, b) / max(len(a), len(b), 1) + 0.1 * min(start, 4)


def _edits(a: str, b: str) -> int:
    """How many letters to insert, delete, replace or swap with their neighbour (Damerau and Levenshtein)."""
    before, row = [], list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before, above, row = row, before, [i]
        for j, other in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other)))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                row[j] = min(row[j], above[j - 2] + 1)
    return row[-1]
