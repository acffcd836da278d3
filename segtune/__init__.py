"""Hyperparameter search for semantic segmentation of satellite and aerial tiles.

The five names of `__all__` are the public API, which docs/api.md describes. Everything else is private: it may change
in any release.
"""

__version__ = "0.1.0"

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segtune.api import Model, evaluate, load, search, train

__all__ = ["Model", "evaluate", "load", "search", "train"]

# Threads of OpenMP that wait for each other actively take the cores that a loader or another program needs: beside
# other work, a training step then takes several times as long. torch reads this when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _after_pythons_own() -> None:
    """Look for modules in this checkout only after Python's own: a user's file named profile.py may lie beside it."""
    here = str(Path(__file__).parent.parent)
    if here in sys.path[:1]:
        sys.path.remove(here)
        installed = (place for place, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages")))
        sys.path.insert(next(installed, len(sys.path)), here)


_after_pythons_own()


if not TYPE_CHECKING:  # a type checker would take any name for one of this module

    def __getattr__(name: str) -> object:
        """Import the public API when one of its names is used: torch takes seconds to import."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from segtune import api

        return getattr(api, name)
