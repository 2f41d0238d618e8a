"""Stillhouse: dataset distillation, every important method under one protocol, beside what the papers published."""

from stillhouse.sets import DistilledSet, RealSet

__version__ = "0.1.0"
__all__ = ["DistilledSet", "RealSet", "__version__"]
