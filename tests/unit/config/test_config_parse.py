"""The grammar: pairs, quotes, comments, continuation, includes, bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helix.config import parse
from helix.config.parse import Parsed, parse_text, read_entries
from helix.config.read import read_file


def pairs(text: str) -> list[tuple[tuple[str, str], ...]]:
    """The pairs of each line of a text without faults."""
    parsed = parse_text(text, "t.conf")
    assert parsed.problems == []
    return [entry.pairs for entry in parsed.entries]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", [(("A", "1"),)]),
        ("A=1 B=2\n\n C = 3", [(("A", "1"), ("B", "2")), (("C", "3"),)]),
        ('A="x y" B=z', [(("A", "x y"), ("B", "z"))]),
        ("A=1 # B=2", [(("A", "1"),)]),
        ("# only", []),
        ('A="x # y"', [(("A", "x # y"),)]),
        (r"A=x\#y", [(("A", "x#y"),)]),
        ('A="#', None),
        ("A=1 \\\nB=2", [(("A", "1"), ("B", "2"))]),
        ("A=1\\\n2", [(("A", "12"),)]),
        ("A=1 \\", [(("A", "1"),)]),
        ("A=", [(("A", ""),)]),
        ("A=\nB=2", [(("A", ""),), (("B", "2"),)]),
        ("A=1\r\nB=2\r\n", [(("A", "1"),), (("B", "2"),)]),
        ("A=gpu:a100:4(S:0-1),x=y", [(("A", "gpu:a100:4(S:0-1),x=y"),)]),
        ("Included=1", [(("Included", "1"),)]),
    ],
)
def test_pairs(text: str, expected: list[tuple[tuple[str, str], ...]] | None) -> None:
    if expected is None:
        assert parse_text(text, "t").problems
    else:
        assert pairs(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("word", "'word' is not Key=Value"),
        ("A=1 word", "'word' is not Key=Value"),
        ('A="x', "'A=\"x' is not Key=Value"),
        ('A="x"y', "is not Key=Value"),
        ("=1", "'=1' is not Key=Value"),
        ("A+=1", "'A+=' is not supported"),
        ("Include other.conf", "cannot include 'other.conf' here"),
    ],
)
def test_faults_have_file_and_line(text: str, message: str) -> None:
    problems = parse_text(f"\nOk=1\n{text}\nOk=2", "t.conf").problems
    assert [(p.file, p.line) for p in problems] == [("t.conf", 3)]
    assert message in problems[0].message


def test_a_continued_line_has_the_number_of_its_first() -> None:
    assert [(e.line, e.pairs[0][0]) for e in parse_text("\nA=1 \\\n B=2\nC=3", "t").entries] == [(2, "A"), (4, "C")]


def write(directory: Path, **files: str) -> Parsed:
    """Write the files (name without .conf) and read main.conf."""
    for name, text in files.items():
        (directory / f"{name}.conf").write_text(text)
    return read_entries(str(directory / "main.conf"), read_file)


def test_includes_are_read_in_place_relative_to_the_including_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.conf").write_text("A=1\nInclude b.conf\n")
    (tmp_path / "sub" / "b.conf").write_text("B=2\n")
    parsed = write(tmp_path, main="ClusterName=x\nInclude sub/a.conf\ninclude  'no'\nC=3", x="X=1")
    assert [(Path(e.file).name, e.line, e.pairs[0][0]) for e in parsed.entries] == [
        ("main.conf", 1, "ClusterName"),
        ("a.conf", 1, "A"),
        ("b.conf", 1, "B"),
        ("main.conf", 4, "C"),
    ]
    assert [(p.line, "cannot read" in p.message) for p in parsed.problems] == [(3, True)]


def test_include_knows_the_cluster_name(tmp_path: Path) -> None:
    parsed = write(tmp_path, main='ClusterName=blue\nInclude "%c.conf"', blue="A=1")
    assert [e.pairs[0][0] for e in parsed.entries] == ["ClusterName", "A"]


def test_a_circle_of_includes_is_refused(tmp_path: Path) -> None:
    parsed = write(tmp_path, main="Include a.conf\nB=1", a="Include main.conf")
    assert ["includes itself" in p.message for p in parsed.problems] == [True]
    assert len(parsed.entries) == 1


def test_depth_number_and_size_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = {f"f{i}": f"Include f{i + 1}.conf" for i in range(20)}
    assert "includes inside one another" in write(tmp_path, main="Include f0.conf", **deep).problems[0].message
    many = "Include leaf.conf\n" * (parse.MAX_FILES + 5)
    assert len(write(tmp_path, main=many, leaf="A=1").entries) == parse.MAX_FILES - 1
    monkeypatch.setattr(parse, "MAX_FILE_CHARS", 100)
    assert "longer than" in write(tmp_path, main="A=1\n" * 100).problems[0].message
    monkeypatch.setattr(parse, "MAX_LINE_CHARS", 50)
    parsed = parse_text("A=" + "x" * 60 + "\nB=1", "t")
    assert ("longer than" in parsed.problems[0].message, len(parsed.entries)) == (True, 1)


def test_files_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "main.conf").write_bytes(b"\x7fELF\xff\xfe")
    assert "UTF-8" in read_entries(str(tmp_path / "main.conf"), read_file).problems[0].message
    (tmp_path / "main.conf").write_bytes(b"A=\0")
    assert "NUL" in read_entries(str(tmp_path / "main.conf"), read_file).problems[0].message
    assert read_entries(str(tmp_path), read_file).problems
    os.mkfifo(tmp_path / "pipe")
    assert "regular" in read_entries(str(tmp_path / "pipe"), read_file).problems[0].message


def test_faults_are_counted_not_collected_without_end() -> None:
    assert len(parse_text("junk\n" * 5000, "t").problems) == parse.MAX_PROBLEMS
