"""Packages and where they live; metadata, entry points and tool settings are in pyproject.toml."""

import os
import subprocess
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext

SHEPHERD_SOURCES = ("server", "step", "child", "procs", "cgroup", "record", "spec", "identity", "as_user")
SHEPHERD_FLAGS = [
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion"),
    *("-fstack-protector-strong", "-D_GNU_SOURCE", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"),
]


class BuildNative(build_ext):
    """The compiled Python modules, then helix-shepherd beside helixd's modules (in the checkout if editable)."""

    def run(self) -> None:
        super().run()
        here = self.inplace or getattr(self, "editable_mode", False)
        target = (Path() if here else Path(self.build_lib)) / "helixd" / "libexec" / "helix-shepherd"
        sources = [f"native/csrc/{name}.c" for name in SHEPHERD_SOURCES]
        newest = max(Path(path).stat().st_mtime for path in [*sources, "native/csrc/shepherd.h", "setup.py"])
        if target.exists() and target.stat().st_mtime > newest:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".new")  # a shepherd may be running from the old file
        command = [os.environ.get("CC", "gcc"), *SHEPHERD_FLAGS, *sources, "-o", str(fresh)]
        if subprocess.run([*command, "-static"], check=False, stderr=subprocess.DEVNULL).returncode:  # no libc.a
            subprocess.run(command, check=True)
        fresh.replace(target)


def installed_data() -> list[tuple[str, list[str]]]:
    """(directory under the prefix, files): man pages, bash completion, systemd units and example configurations."""
    places = {
        "share/man/man1": "man/man1/*.1",
        "share/man/man5": "man/man5/*.5",
        "share/man/man7": "man/man7/*.7",
        "share/man/man8": "man/man8/*.8",
        "share/bash-completion/completions": "etc/completion/*",
        "share/helix/systemd": "etc/systemd/*.service",
        "share/helix/examples": "etc/*.conf",
        "share/helix/examples/clusters": "etc/examples/*.conf",
    }
    found = {place: sorted(str(path) for path in Path().glob(pattern)) for place, pattern in places.items()}
    return [(place, files) for place, files in found.items() if files]


setup(
    packages=[
        *find_packages(include=["helix", "helix.*", "helixctld", "helixctld.*", "helixd", "helixd.*"]),
        *find_packages("plugins"),
        *find_packages("native"),
    ],
    package_dir={"helix_plugins": "plugins/helix_plugins", "helix_native": "native/helix_native"},
    data_files=installed_data(),
    cffi_modules=["native/build_ckernels.py:ffibuilder"],
    cmdclass={"build_ext": BuildNative},
)
