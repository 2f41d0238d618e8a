"""Stillhouse: dataset distillation, every important method under one protocol, beside what the papers published."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillhouse.sets import DistilledSet, RealSet

__version__ = "0.1.0"
__all__ = ["DistilledSet", "RealSet", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the sets when they are asked for: they need torch, and `stillhouse list` does not."""
    if name in ("DistilledSet", "RealSet"):
        from stillhouse import sets

        return getattr(sets, name)
    raise AttributeError(f"module 'stillhouse' has no attribute '{name}'")
