#!/bin/bash
# Make a virtual environment in $VENV (default .venv) with Helix, its native parts and its test tools in it.
# Does nothing, in well under a second, while the files that the environment was made from are unchanged.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
stamp=$venv/.helix-stamp

die() {
    echo "setup: $1" >&2
    exit 1
}

fingerprint() {
    {
        echo "$PWD"
        find pyproject.toml setup.py tools/setup.sh native helixd -type f \
            \( -name '*.c' -o -name '*.h' -o -name 'build_*.py' -o -name setup.sh -o -name setup.py -o -name pyproject.toml \) \
            -print0 | sort -z | xargs -0 sha256sum
    } | sha256sum
}

now=$(fingerprint)
if [[ -f $stamp && $(<"$stamp") == "$now" && -x $venv/bin/python ]]; then
    exit 0
fi

if [[ ! -x $venv/bin/python ]]; then
    python=${PYTHON:-}
    if [[ -z $python ]]; then
        for candidate in python3.11 python3.12 python3.13 python3; do
            if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
                python=$candidate
                break
            fi
        done
    fi
    [[ -n $python ]] || die "no Python 3.11 or newer: apt-get install python3 python3-venv"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python cannot make virtual environments: apt-get install python3-venv"
    echo "setup: making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
command -v "${CC:-gcc}" >/dev/null || die "no C compiler for the shepherd: apt-get install gcc libc6-dev"
headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[[ -f $headers/Python.h ]] || die "no C headers of Python ($headers/Python.h): apt-get install python3-dev"

(
    # Two makes in one checkout take turns.
    flock 9
    if [[ -f $stamp && $(<"$stamp") == "$now" ]]; then
        exit 0
    fi
    echo "setup: installing Helix and its tools (once, and again when the build changes)"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable '.[dev]'
    # The scheduling kernels take a while to compile; clusters of this checkout find them in spool/kernels.
    NUMBA_CACHE_DIR=$PWD/spool/kernels "$venv/bin/python" -m helix_native.warm
    echo "$now" >"$stamp"
) 9>"$venv/.helix-lock"
