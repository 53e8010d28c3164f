"""Where numba keeps compiled kernels: a folder for this very text of the sources.

numba looks at the file of the function it loads, not at those of the functions that were compiled into it, and would
go on with old code after a change to one of these.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def folder(base: str) -> str:
    """The folder below `base`; below the sources' own cache if `base` is empty."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(here.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return str((Path(base) if base else here / "__pycache__") / f"kernels-{digest.hexdigest()[:16]}")
