"""Helix: an HPC batch scheduler.  `from helix import Client` is the Python interface.

Nothing heavy is imported here: `Client` and `AsyncClient` are loaded when first named.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from helix.aio import AsyncClient
    from helix.client import Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Client":
        from helix.client import Client

        return Client
    if name == "AsyncClient":
        from helix.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module 'helix' has no attribute '{name}'")
