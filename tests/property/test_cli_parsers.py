"""The parsers of the commands never fail in any way but their own, and read back what was written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix.cli import app
from helix.cli.fields import Layout, parse_long, parse_short, parse_sort
from helix.cli.hlog import split_attempt
from helix.cli.hsubmit import COMMAND
from helix.cli.options import Parser, given_in_environment, read_values
from helix.cli.queue_columns import QUEUE_FIELDS
from helix.cli.submit_components import OWN, read_components, split_components
from helix.cli.submit_env import split_export, submit_line
from helix.cli.submit_options import SUBMIT_OPTIONS
from helix.cli.submit_script import Script, read_header, split_words
from helix.cli.submit_values import dependency
from helix.errors import HelixError, UsageError

_VALUES = [o for o in SUBMIT_OPTIONS if o.parse is not None and o.name not in ("--nodefile", "--nodelist", "--exclude")]


@given(st.sampled_from(_VALUES), st.text(max_size=80))
def test_any_value_is_read_or_refused(option: object, text: str) -> None:
    with contextlib.suppress(HelixError):
        option.read(text)  # type: ignore[attr-defined]


@given(
    st.lists(st.text(max_size=20) | st.sampled_from(["-n", "--mem=1", "-", "--", "-Hv", "--no", "--nice"]), max_size=8)
)
def test_any_command_line_is_split_or_refused(words: list[str]) -> None:
    with contextlib.suppress(UsageError):
        given_options, rest = Parser("hsubmit", COMMAND.options).split(words, permute=False)
        assert len(given_options) + len(rest) <= 20 * max(1, len(words))


_COMPONENT_WORDS = [":", ":", "-n2", "-N1-2", "--mem=1G", "-C", "a*2", "-t5", "--wrap=x", "-p", "gpu", "-Q", "job.sh"]


@given(
    st.lists(st.sampled_from(_COMPONENT_WORDS), max_size=10),
    st.lists(st.sampled_from(["-n1", "--mem=2G", "hetjob", "packjob", "-t 5", "-p x"]), max_size=6),
)
def test_any_components_are_read_or_refused(words: list[str], lines: list[str]) -> None:
    parser = Parser("hsubmit", COMMAND.options)
    script = Script("x", "#!/bin/sh\n" + "".join(f"#SBATCH {line}\n" for line in lines))
    with contextlib.suppress(UsageError):
        command_line, operands = split_components(words, parser)
        header = read_header(script, parser)
        assert len(header.components) == 1 + sum(line in ("hetjob", "packjob") for line in lines)
        found = read_components(header.components, [], command_line)
        assert len(found) == max(len(header.components), len(command_line))
        assert ":" not in operands[:1]
        of_the_whole = {"-Q", "--wrap=x", "-t5"} & {*words} or "-t 5" in lines
        assert of_the_whole or all(set(values) <= OWN for values in found[1:])


@given(st.lists(st.sampled_from(["-n3", "-H", "--time=5", "-J", "--nice", "x"]), max_size=6))
def test_operands_after_two_dashes_are_untouched(words: list[str]) -> None:
    _, rest = Parser("c", COMMAND.options).split(["--", *words])
    assert rest == words


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_script_head_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        read_header(Script("x", "#!/bin/sh\n#SBATCH " + text + "\n"), Parser("hsubmit", COMMAND.options))


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n"), min_size=1), max_size=6))
def test_quoted_words_are_read_back(words: list[str]) -> None:
    line = " ".join("'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'" for word in words)
    assert split_words(line) == words


@given(st.lists(st.text(alphabet="ab \\'\"$`\n#,", max_size=6), max_size=5))
def test_submit_line_is_what_the_shell_needs(words: list[str]) -> None:
    import shlex

    assert shlex.split(submit_line(words)) == words


@given(st.text(alphabet="aA=,\\'\" 1", max_size=60))
def test_any_export_list_is_split_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert all(item.strip() for item in split_export(text))


@given(st.text(alphabet="after okny:0123_*+,?singleton", max_size=60))
def test_any_dependency_is_read_as_the_controller_reads_it(text: str) -> None:
    from helixctld.core.dependency_text import parse_dependency

    try:
        mine = dependency(text)
    except UsageError:
        return
    try:
        theirs = parse_dependency(text)
    except UsageError:
        # The command also takes sbatch's oldest form, a bare id.
        assert any(part.strip().isdigit() for part in text.replace("?", ",").split(","))
        return
    edges = [(e["kind"], e.get("job_id", 0), e.get("task_id"), e.get("delay_s", 0)) for e in mine["edges"]]
    assert edges == [(e.kind, e.job_id, e.task_id, e.delay_s) for e in theirs.edges]
    assert mine["any"] == theirs.any


@given(st.text(alphabet="%.#0123456789ijTRz |", max_size=40))
def test_any_format_makes_lines_or_is_refused(text: str) -> None:
    try:
        layout = Layout(*parse_short(text, QUEUE_FIELDS))
    except UsageError:
        return
    row = {
        "display_id": "1", "job_id": 1, "array_job_id": 0, "array_task_id": None, "name": "n",
        "state": "PENDING", "reason": "None", "reason_text": "", "nodes": "",
    }  # fmt: skip
    line = layout.render([[row.get(name, 0) for name in layout.columns]] * 3)
    assert line.count("\n") == 2
    assert "\n" not in layout.header()


@given(st.text(max_size=40))
def test_any_long_format_sort_and_id_is_read_or_refused(text: str) -> None:
    for parse in (
        lambda t: parse_long(t, QUEUE_FIELDS),
        lambda t: parse_sort(t, QUEUE_FIELDS),
        lambda t: app.split_ids([t]),
        split_attempt,
    ):
        with contextlib.suppress(UsageError):
            parse(text)


@given(st.dictionaries(st.sampled_from(["SBATCH_NO_REQUEUE", "HBATCH_TIMELIMIT", "SBATCH_MEM_PER_NODE"]), st.text()))
def test_any_environment_is_read_or_refused(environ: dict[str, str]) -> None:
    with contextlib.suppress(HelixError):
        read_values(given_in_environment(SUBMIT_OPTIONS, ("HBATCH_", "SBATCH_"), environ))


def test_value_too_long_is_refused() -> None:
    with pytest.raises(UsageError, match="longer than"):
        SUBMIT_OPTIONS[0].read("x" * (2 << 20))
