"""Hyperparameter search for semantic segmentation of satellite and aerial tiles."""

__version__ = "0.1.0"

import os
import sys
from pathlib import Path

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
