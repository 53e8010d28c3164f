"""Run every generator: man pages, state tables, completion, example configurations.

python tools/generate.py [--check]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GENERATORS = ("gen_config.py", "gen_states.py", "gen_man.py", "gen_completion.py")


def main() -> int:
    """The program; exit status 1 when something is stale (--check) or a generator failed."""
    here = Path(__file__).resolve().parent
    status = 0
    for name in GENERATORS:
        done = subprocess.run([sys.executable, str(here / name), *sys.argv[1:]], check=False)  # noqa: S603
        status = status or done.returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
