"""getopt_long's rules, and what a command line that cannot be read is answered with."""

from __future__ import annotations

import pytest

from helix.cli.commands import COMMANDS, load
from helix.cli.options import (
    LATER,
    Command,
    Option,
    Parser,
    count,
    format_help,
    given_in_environment,
    integer,
    read_values,
    signal_number,
)
from helix.errors import UsageError

TABLE = (
    Option("-n --ntasks", "tasks", metavar="N", field="tasks", parse=count),
    Option("-h --hold", "hold"),
    Option("-l --long", "long"),
    Option("--nodelist", "nodes", metavar="HOSTS"),
    Option("--nice", "nice", metavar="N", optional=True, const=100, parse=integer(-5, 5)),
    Option("--gres", "later", metavar="X", status=LATER),
    Option("-o --open", "old", metavar="X", optional=True, const="none"),
)


def read(*words: str, permute: bool = True) -> tuple[dict[str, object], list[str]]:
    given, rest = Parser("cmd", TABLE).split(words, permute=permute)
    return read_values(given), rest


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["-n4"], {"tasks": 4}),
        (["-n", "4"], {"tasks": 4}),
        (["--ntasks=4"], {"tasks": 4}),
        (["--ntasks", "4"], {"tasks": 4}),
        (["--nt", "4"], {"tasks": 4}),
        (["-hl"], {"hold": True, "long": True}),
        (["-hn4"], {"hold": True, "tasks": 4}),
        (["--nice"], {"nice": 100}),
        (["--nice=-3"], {"nice": -3}),
        (["-o"], {"open": "none"}),
        (["-ox"], {"open": "x"}),
        (["-n", "2", "-n", "3"], {"tasks": 3}),
        (["-n2k"], {"tasks": 2048}),
    ],
)
def test_spellings(words: list[str], values: dict[str, object]) -> None:
    assert read(*words) == (values, [])


def test_optional_value_is_taken_only_after_equals() -> None:
    assert read("--nice", "3") == ({"nice": 100}, ["3"])


def test_operands_and_options_mix_unless_told_otherwise() -> None:
    assert read("a", "-h", "b") == ({"hold": True}, ["a", "b"])
    assert read("a", "-h", "b", permute=False) == ({}, ["a", "-h", "b"])


def test_two_dashes_end_the_options() -> None:
    assert read("--", "-h") == ({}, ["-h"])
    assert read("-") == ({}, ["-"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--ntask=x"], "--ntasks: 'x' is not a number"),
        (["--n=1"], "ambiguous"),
        (["-z"], "no option -z"),
        (["--hold=1"], "takes no value"),
        (["-n"], "needs a value"),
        (["--ntasks"], "needs a value"),
        (["--gres=gpu"], "--gres is not supported yet"),
        (["--nice=9"], "not between -5 and 5"),
        (["-n0"], "not between 1"),
    ],
)
def test_refusals_name_the_option(words: list[str], part: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert part in caught.value.msg


def test_unknown_option_hints_at_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        read("--nodelits=n1")
    assert caught.value.hint == "did you mean '--nodelist'?"


def test_environment_flags_follow_sbatch() -> None:
    rows = (Option("--requeue", "x", env="REQUEUE"), Option("-t --time", "x", metavar="T", env="TIMELIMIT"))

    def on(**environ: str) -> dict[str, object]:
        return read_values(given_in_environment(rows, ("HBATCH_", "SBATCH_"), environ))

    assert on(SBATCH_REQUEUE="") == {"requeue": True}
    assert on(SBATCH_REQUEUE="1") == {"requeue": True}
    assert on(SBATCH_REQUEUE="0") == {}
    assert on(SBATCH_REQUEUE="no") == {}
    assert on(SBATCH_TIMELIMIT="5", HBATCH_TIMELIMIT="6") == {"time": "6"}


def test_error_from_the_environment_names_the_variable() -> None:
    given = given_in_environment(TABLE[:1], ("X_",), {})
    assert given == []
    rows = (Option("-n --ntasks", "x", metavar="N", parse=count, env="N"),)
    with pytest.raises(UsageError, match="SBATCH_N: 'q' is not a number"):
        read_values(given_in_environment(rows, ("SBATCH_",), {"SBATCH_N": "q"}))


def test_signals_by_name_and_number() -> None:
    assert [signal_number(text) for text in ("10", "USR1", "sigusr1", "0")] == [10, 10, 10, 0]
    for bad in ("SIGNOPE", "99", "_DFL", "", "-1"):
        with pytest.raises(ValueError, match="there is no signal"):
            signal_number(bad)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_sound_table(name: str) -> None:
    command = load(name)
    assert isinstance(command, Command)
    assert command.name == name
    flags = [flag for option in command.options for flag in option.flags]
    assert len(flags) == len(set(flags)), "a flag is declared twice"
    for option in command.options:
        assert option.help
        if not option.metavar:
            assert not option.optional
    text = format_help(command)
    assert all(line == line.rstrip() for line in text.splitlines())
    assert all(option.name in text for option in command.options)
    assert all(name in line for line in command.synopsis)
