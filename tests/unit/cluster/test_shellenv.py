"""Environments as shell commands."""

import shutil
import subprocess

import pytest

from helix.cluster.shellenv import format_env, guess_shell

_NASTY = {"HELIX_SOCKET": "/tmp/a b/'q'/$HOME/`x`\\n", "PATH": "/one dir:/two"}


@pytest.mark.parametrize(
    ("path", "shell"),
    [("/bin/bash", "bash"), ("/usr/bin/fish", "fish"), ("zsh", "zsh"), ("/bin/dash", "bash"), ("", "bash")],
)
def test_shell_is_guessed_from_its_path(path: str, shell: str) -> None:
    assert guess_shell(path) == shell


@pytest.mark.parametrize("shell", [s for s in ("bash", "zsh", "fish") if shutil.which(s)])
def test_any_value_survives_the_shell(shell: str) -> None:
    show = '; /usr/bin/printf "%s" "$HELIX_SOCKET"'
    script = format_env({"HELIX_SOCKET": _NASTY["HELIX_SOCKET"]}, shell) + show
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == _NASTY["HELIX_SOCKET"]


def test_bash_form() -> None:
    assert format_env({"A": "x y"}, "bash") == "export A='x y'"


def test_fish_form_splits_path_and_quotes() -> None:
    assert format_env(_NASTY, "fish").splitlines() == [
        "set -gx HELIX_SOCKET '/tmp/a b/\\'q\\'/$HOME/`x`\\\\n';",
        "set -gx PATH '/one dir' '/two';",
    ]
