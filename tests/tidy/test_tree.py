"""The tree is tidy: nothing stray, nothing unfinished, nothing of one machine, nothing that no program uses."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = {
    ".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "docs",
    "etc", "helix", "helixctld", "helixd", "man", "native", "plugins", "pyproject.toml", "setup.py", "spool", "tests",
    "tools",
}  # fmt: skip
PACKAGES = ("helix", "helixctld", "helixd", "helix_plugins", "helix_native")
LINES_MAX = 700
_TEXT = {".py", ".md", ".c", ".h", ".sh", ".toml", ".conf", ".service", ".in", ""}


def files() -> list[Path]:
    """What git tracks; outside a repository (an unpacked sdist), everything that is not built."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        paths = [ROOT / name for name in listed.decode().split("\0") if name]
        return [path for path in paths if path.exists()]
    skip = re.compile(r"(^|/)(\.venv|build|dist|__pycache__|\.\w+_cache|\.hypothesis|[\w.]+\.egg-info)(/|$)")
    return [p for p in ROOT.rglob("*") if p.is_file() and not skip.search(str(p.relative_to(ROOT)))]


def texts() -> Iterator[tuple[Path, str]]:
    """The text files that people write, with their contents."""
    for path in files():
        if path.suffix in _TEXT and path.name != "LICENSE":
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


def test_nothing_stray_at_the_top() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in files()} - TOP == set()


def test_spool_holds_only_its_readme() -> None:
    assert [str(p.relative_to(ROOT)) for p in files() if p.relative_to(ROOT).parts[0] == "spool"] == ["spool/README.md"]


def test_no_file_is_longer_than_a_person_can_hold() -> None:
    long = {
        str(name): text.count("\n")
        for name, text in texts()
        if name.suffix in (".py", ".c", ".h") and text.count("\n") > LINES_MAX
    }
    assert long == {}


def test_nothing_unfinished() -> None:
    words = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
    found = [f"{name}: {match[0]}" for name, text in texts() for match in words.finditer(text)]
    assert found == []


def test_nothing_of_one_machine() -> None:
    # A home directory, a workplace: right on one machine, wrong on every other.
    place = re.compile(r"(?<![\w./])/(home|work|Users|mnt|root/[a-z])/?[\w.-]*")
    allowed = {"/root/helixctld.damaged", "/home/user", "/home/ada"}
    found = [
        f"{name}: {match[0]}"
        for name, text in texts()
        for match in place.finditer(text)
        if not any(word in text[match.start() : match.start() + 40] for word in allowed)
        and str(name) != "tests/tidy/test_tree.py"
        and name.parts[0] != "tests"
    ]
    assert found == []


def test_no_vague_module_names() -> None:
    vague = {"utils", "util", "common", "helpers", "misc"}
    assert [str(p) for p in files() if p.suffix == ".py" and p.stem in vague] == []


def test_tests_have_unique_names_and_no_packages() -> None:
    names = [path.name for path in files() if path.parts[len(ROOT.parts)] == "tests" and path.suffix == ".py"]
    assert "__init__.py" not in names
    doubles = {name for name in names if names.count(name) > 1 and name != "conftest.py"}
    assert doubles == set()


def imported_by_tools() -> set[str]:
    """Modules that the generators import."""
    found: set[str] = set()
    for path in (ROOT / "tools").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helix"):
                found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def named_in(module: str, modules: set[str]) -> list[str]:
    """Modules that a module names in a text `module:attribute`, its own siblings by their last name."""
    spec = find_spec(module)
    if spec is None or not spec.origin:
        return []
    package = module if spec.submodule_search_locations else module.rpartition(".")[0]
    texts = [
        node.value.partition(":")[0]
        for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.]+:\w+", node.value)
    ]
    return [name for text in texts for name in (text, f"{package}.{text}") if name in modules]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports whom."""
    return grimp.build_graph(*PACKAGES, include_external_packages=False, cache_dir=None)


def test_every_module_is_reachable_from_a_program(graph: grimp.ImportGraph) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = [*project["scripts"].values()]
    for group in project["entry-points"].values():
        points += group.values()
    roots = {point.split(":")[0] for point in points} | {"helix"} | imported_by_tools()
    reached: set[str] = set()
    queue = sorted(roots)
    while queue:
        # Importing a module imports the packages above it.
        parts = queue.pop().split(".")
        for name in (".".join(parts[:n]) for n in range(1, len(parts) + 1)):
            if name not in reached and name in graph.modules:
                reached.add(name)
                queue += graph.find_modules_directly_imported_by(name)
                queue += named_in(name, graph.modules)
    lonely = sorted(name for name in graph.modules if name not in reached and name not in PACKAGES)
    assert not lonely, lonely


def test_every_entry_point_is_installed_and_loads() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = {point.name: point for point in entry_points(group="console_scripts")}
    for name, target in project["scripts"].items():
        assert name in installed, f"{name} is not installed: make setup"
        assert installed[name].value == target
        assert callable(installed[name].load())
