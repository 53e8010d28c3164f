"""Node features and `--constraint`: names joined by `&` (or `,`) and `|`, each with an optional `!`.

`&` binds tighter than `|`.  Slurm's brackets, counts and parentheses are refused by name, never ignored.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from helix.errors import UsageError

Term = tuple[str, bool]  #: feature name, wanted (False for `!name`)
Constraint = tuple[tuple[Term, ...], ...]  #: any of these alternatives, all terms of it; () = no constraint

_NAME = re.compile(r"[A-Za-z0-9_.=+:/\-]{1,255}", re.ASCII)
CONSTRAINT_CHARS_MAX = 4096
_UNSUPPORTED = {
    "[": "'[...]' (one set for all nodes) in a constraint",
    "]": "'[...]' (one set for all nodes) in a constraint",
    "(": "'(...)' in a constraint",
    ")": "'(...)' in a constraint",
    "*": "'*N' (node counts) in a constraint",
}


def parse_constraint(text: str) -> Constraint:
    """The alternatives of `text`; raises UsageError (CONSTRAINT_INVALID, CONSTRAINT_UNSUPPORTED) with the column."""
    if not text.strip():
        return ()
    if len(text) > CONSTRAINT_CHARS_MAX:
        raise UsageError(f"constraint is longer than {CONSTRAINT_CHARS_MAX} characters", code="CONSTRAINT_INVALID")
    for column, char in enumerate(text, 1):
        if char in _UNSUPPORTED:
            raise UsageError(
                f"constraint '{text}': {_UNSUPPORTED[char]} is not supported yet (column {column})",
                code="CONSTRAINT_UNSUPPORTED",
                hint="use feature names joined by '&' and '|', with '!' for not",
            )
    alternatives = []
    column = 1
    for alternative in text.split("|"):
        terms = []
        for word in re.split("[&,]", alternative):
            name = word.strip()
            wanted = not name.startswith("!")
            name = name.removeprefix("!").strip()
            if not _NAME.fullmatch(name):
                said = f"'{name}' is not a feature name" if name else "a feature name is missing"
                raise UsageError(f"constraint '{text}': {said} (column {column})", code="CONSTRAINT_INVALID")
            terms.append((name, wanted))
            column += len(word) + 1
        alternatives.append(tuple(dict.fromkeys(terms)))
    return tuple(alternatives)


def satisfies(features: Collection[str], constraint: Constraint) -> bool:
    """True if a node with these features meets the constraint."""
    return not constraint or any(all((name in features) is wanted for name, wanted in terms) for terms in constraint)
