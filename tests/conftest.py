"""Every process of the tests uses the kernels that `make test` compiled first."""

from __future__ import annotations

import os

from helix.cluster.layout import kernel_cache

os.environ.setdefault("NUMBA_CACHE_DIR", str(kernel_cache()))
