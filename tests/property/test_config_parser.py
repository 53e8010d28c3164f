"""Properties of the configuration parser: any text is read or refused cleanly; what is written reads back."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from helix.config.keys import NODE_KEYS, PARTITION_KEYS, SETTINGS, Kind, names_of
from helix.config.load import diff_config, parse_config, render_config
from helix.config.parse import parse_text
from helix.config.resolve import resolve
from helix.config.values import format_value, parse_value
from helix.errors import ConfigError

NAMES = st.sampled_from(names_of(SETTINGS) + names_of(NODE_KEYS) + names_of(PARTITION_KEYS) + ["DownNodes", "NodeSet"])
VALUES = st.one_of(
    st.sampled_from(["ALL", "DEFAULT", "UNLIMITED", "YES", "n[1-3]", "n1", "0", "-1", "1-0", "4G", "/x", "", "a,b=1",
                     "NONE"]),
    st.text(string.printable, max_size=12),
    st.text(max_size=6),
)  # fmt: skip
LINE = st.lists(st.tuples(NAMES, VALUES, st.booleans()), min_size=1, max_size=5).map(
    lambda pairs: " ".join(f'{name}="{value}"' if quoted else f"{name}={value}" for name, value, quoted in pairs)
)
TEXT = st.one_of(
    st.lists(LINE, max_size=8).map("\n".join),
    st.text(max_size=60),
    st.text('A=1"# \\\n\r\tInclude', max_size=60),
)


@given(TEXT)
def test_any_text_is_read_or_refused_and_what_is_read_reads_back(text: str) -> None:
    try:
        config = parse_config(text, "t.conf")
    except ConfigError as refusal:
        message = refusal.msg
    else:
        back = parse_config(render_config(config), "t.conf")
        assert back.hash == config.hash
        assert diff_config(config, back) == []
        return
    assert message.isprintable()


@given(TEXT)
def test_findings_point_into_the_text(text: str) -> None:
    lines = text.count("\n") + 1
    for finding in resolve(parse_text(text, "t.conf")).findings.items:
        assert 0 <= finding.line <= lines
        assert finding.message.isprintable()


@given(st.sampled_from([key for key in SETTINGS if key.kind is not Kind.HOSTLIST]), VALUES)
def test_values_read_back(key: object, text: str) -> None:
    assert hasattr(key, "kind")
    try:
        value = parse_value(key, text)  # type: ignore[arg-type]
    except ValueError:
        return
    assert parse_value(key, format_value(key, value)) == value  # type: ignore[arg-type]


PREFIX = st.text(string.ascii_lowercase, min_size=1, max_size=3)


@given(
    st.lists(
        st.tuples(PREFIX, st.integers(0, 30), st.integers(0, 6), st.integers(1, 3), st.integers(1, 5)),
        min_size=1,
        max_size=6,
        unique_by=lambda line: line[0],
    )
)
def test_nodes_survive_rendering_in_order(lines: list[tuple[str, int, int, int, int]]) -> None:
    text = "\n".join(
        f"NodeName={name}[{low}-{low + extra}] CPUs={cpus} Weight={weight}" for name, low, extra, cpus, weight in lines
    )
    config = parse_config(text)
    assert len(config.nodes) == sum(extra + 1 for _, _, extra, _, _ in lines)
    assert parse_config(render_config(config)).nodes == config.nodes
