"""What is published works: sdist, from it a wheel, from that a clean environment, and in it a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "hsubmit",
    "hqueue",
    "hcancel",
    "hinfo",
    "hctl",
    "hdiag",
    "hwait",
    "hwhy",
    "hlog",
    "hcluster",
    "helixctld",
    "helixd",
)


def run(*argv: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """A command that must succeed; gives what it printed."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """`sdist` or `wheel` of a source tree, with this environment's tools, so that nothing is fetched."""
    call = f"from setuptools.build_meta import build_{kind}; print(build_{kind}({str(out)!r}))"
    name = run(sys.executable, "-c", call, cwd=source).strip().splitlines()[-1]
    return out / name


def tracked() -> list[str]:
    """Files of the source tree: what git tracks, or in an unpacked sdist what its list of sources says."""
    if (ROOT / ".git").exists():
        names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    else:
        names = (ROOT / "helix_scheduler.egg-info" / "SOURCES.txt").read_text(encoding="utf-8").splitlines()
    return [name for name in names if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist in a directory where nothing else is."""
    place = tmp_path_factory.mktemp("dist")
    copy = place / "copy"
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    with tarfile.open(build("sdist", copy, place)) as sdist:
        sdist.extractall(place / "unpacked", filter="data")
    (source,) = (place / "unpacked").iterdir()
    return build("wheel", source, place)


@pytest.fixture(scope="module")
def bin_dir(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a clean environment: the wheel installed, dependencies borrowed from this environment."""
    place = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    site = place / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    borrowed = site / "borrowed"
    borrowed.mkdir()
    for item in Path(sysconfig.get_path("purelib")).iterdir():
        if "helix" not in item.name and item.suffix != ".pth":
            (borrowed / item.name).symlink_to(item)
    # At the end of the path, and without its .pth files: only dependencies come from there.
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    pip = (sys.executable, "-m", "pip", "--python", place / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=place)
    return place / "bin"


def test_the_wheel_holds_programs_pages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("helix_scheduler-")} == {
        "helix", "helixctld", "helixd", "helix_plugins", "helix_native",
    }  # fmt: skip
    for wanted in (
        "share/man/man1/hsubmit.1",
        "share/man/man5/helix.conf.5",
        "share/bash-completion/completions/hsubmit",
        "share/helix/systemd/helixctld.service",
    ):
        assert any(name.endswith(wanted) for name in names), wanted
    assert any("helix-shepherd" in name for name in names)


def test_a_cluster_runs_from_the_wheel(bin_dir: Path, tmp_path: Path) -> None:
    for name in COMMANDS:
        assert (bin_dir / name).exists(), name
    tmp_path.chmod(0o755)
    env = {"PATH": f"{bin_dir}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    where = run(
        bin_dir / "python", "-c", "import helix, helixd; print(helix.__file__, helixd.__file__)", cwd=tmp_path, env=env
    )
    assert str(ROOT) not in where
    try:
        run(
            bin_dir / "hcluster",
            "up",
            "--nodes",
            "1",
            "--cpus",
            "2",
            "--memory",
            "256M",
            "--dir",
            "c",
            cwd=tmp_path,
            env=env,
        )
        env["HELIX_SOCKET"] = str(tmp_path / "c" / "run" / "helixctld.sock")
        run(bin_dir / "hsubmit", "--wait", "--output=out.txt", "--wrap", "echo from the wheel", cwd=tmp_path, env=env)
        assert (tmp_path / "out.txt").read_text() == "from the wheel\n"
    finally:
        run(bin_dir / "hcluster", "down", "--dir", "c", cwd=tmp_path, env={**env, "TERM": os.environ.get("TERM", "")})
