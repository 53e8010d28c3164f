"""`python -m helix_native.warm`: compile every kernel into NUMBA_CACHE_DIR, and note there that it is done.

Compiling takes a minute or two and holds the interpreter's lock for much of it, so a daemon leaves it to a process of
its own (`compile_apart`) and then only loads.  Of several processes that share a cache one compiles, the others wait
for it.  The note names the sources and versions it was made from: with other ones the cache counts as cold.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import helix_native
from helix_native.kernel_cache import folder

VERSIONS_KEPT = 3
NICE = 10  #: of the compiling process: jobs and the daemon come first


def note_of(cache: Path) -> Path:
    """The file that says that `cache` holds everything these sources need, compiled by these versions."""
    digest = hashlib.sha256(str(Path(__file__).parent).encode())  # numba's index goes by the place of the sources
    for word in (version("numba"), version("numpy"), version("llvmlite"), sys.version, platform.machine()):
        digest.update(word.encode() + b"\0")
    return Path(folder(str(cache))) / f"complete-{digest.hexdigest()[:16]}"


def is_cached(cache: Path) -> bool:
    """True if `warm_up` would only load."""
    return note_of(cache).exists()


def compile_apart(cache: Path, started: Callable[[subprocess.Popen[bytes]], None]) -> None:
    """Compile into `cache` in a process of its own; blocks until that has ended.

    `started` is given the process, so that it can be killed.  Raises OSError if it cannot be started and
    RuntimeError, with the last line it wrote, if it fails.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "helix_native.warm"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    started(process)
    _, said = process.communicate()
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise RuntimeError(f"compiling the kernels ended with {process.returncode}: {last[:200]}")


def _drop_old(cache: Path) -> None:
    """Leave the folders of the latest few versions of the sources."""
    folders = sorted(cache.glob("kernels-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in folders[VERSIONS_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def main() -> int:
    """Compile unless it is done; 0, or 1 without NUMBA_CACHE_DIR."""
    place = os.environ.get("NUMBA_CACHE_DIR", "")
    if not place:
        print("helix_native.warm: set NUMBA_CACHE_DIR to the directory for the compiled kernels", file=sys.stderr)
        return 1
    cache = Path(place)
    cache.mkdir(parents=True, exist_ok=True)
    os.nice(NICE)
    with (cache / "compiling").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = note_of(cache)
        if note.exists():
            return 0
        began = time.perf_counter()
        print("compiling the scheduling kernels, once (a minute or two)", flush=True)
        helix_native.warm_up()
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
        _drop_old(cache)
        print(f"compiled in {time.perf_counter() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
