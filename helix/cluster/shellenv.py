"""Environment variables as commands of a shell, quoted so that any value survives `eval`."""

from __future__ import annotations

import shlex

#: Shells `hcluster env` can print for.
SHELLS = ("bash", "zsh", "fish")


def guess_shell(path: str) -> str:
    """The kind of shell `$SHELL` names; bash's form, which is sh's, for any other."""
    name = path.rsplit("/", 1)[-1]
    return name if name in SHELLS else "bash"


def format_env(variables: dict[str, str], shell: str) -> str:
    """One command a variable."""
    if shell == "fish":
        return "\n".join(f"set -gx {name} {_fish(name, value)};" for name, value in variables.items())
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _fish(name: str, value: str) -> str:
    # In fish PATH is a list; in single quotes only the backslash and the quote are special.
    items = value.split(":") if name == "PATH" else [value]
    return " ".join("'" + item.replace("\\", "\\\\").replace("'", "\\'") + "'" for item in items)
