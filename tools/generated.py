"""What all generators share: write the files, or with `--check` say which are stale.  Exit status 1 when stale."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Generated:
    """A file and what it must contain."""

    path: Path
    text: str


class TableError(Exception):
    """Code and prose disagree; the message says where."""


def settle(files: Sequence[Generated], owned: Sequence[str], *, check: bool) -> list[str]:
    """Write what differs and remove what is not generated any more (`owned`: patterns of generated files).

    Gives the paths that differed, relative to the checkout; with `check` nothing is touched.
    """
    stale: list[str] = []
    wanted = {file.path for file in files}
    for file in files:
        if not file.path.exists() or file.path.read_text(encoding="utf-8") != file.text:
            stale.append(str(file.path.relative_to(ROOT)))
            if not check:
                file.path.parent.mkdir(parents=True, exist_ok=True)
                file.path.write_text(file.text, encoding="utf-8")
    for pattern in owned:
        for path in sorted(ROOT.glob(pattern)):
            if path not in wanted:
                stale.append(f"{path.relative_to(ROOT)} (has no source)")
                if not check:
                    path.unlink()
    return stale


def main_for(make: Callable[[], Sequence[Generated]], *, owned: Sequence[str] = ()) -> int:
    """The program of a generator."""
    check = "--check" in sys.argv[1:]
    try:
        files = make()
    except TableError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 1
    stale = settle(files, owned, check=check)
    for path in stale:
        print(f"{'stale' if check else 'wrote'}: {path}")
    if check and stale:
        print("run: make man", file=sys.stderr)
        return 1
    return 0
