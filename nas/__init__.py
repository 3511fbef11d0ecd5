"""The engine: from images to a found, trained network. JAX is imported only when something that needs it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.model.network import build_network, build_supernet

__all__ = ["build_network", "build_supernet"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from nas.model import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
