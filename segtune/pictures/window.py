"""Show a picture in a window, where there is a screen."""

from __future__ import annotations

import os
import sys

from matplotlib.backends.registry import BackendFilter, backend_registry

from segtune.errors import InputError
from segtune.pictures.render import Picture


def check_screen() -> None:
    """Raise InputError if no window can be opened here."""
    try:
        from matplotlib import pyplot  # imported late: it chooses a way to open windows at once

        backend = pyplot.get_backend().lower()
        pyplot.switch_backend(backend)  # one that MPLBACKEND names was not tried yet
    except ImportError:
        backend = "agg"
    if backend in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE):
        screen = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        reason = "matplotlib cannot open windows (pip install pyqt6)" if screen else "there is no screen"
        raise InputError(f"--vis: {reason}; --plots writes the pictures as files instead")


def show(picture: Picture, title: str) -> None:
    """Show a picture, pixel by pixel, in a window with this title, and return when people close it.

    Call `check_screen` first.
    """
    from matplotlib import pyplot

    height, width = picture.shape[:2]
    figure = pyplot.figure(title, figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture)
    axes.set_axis_off()
    try:
        pyplot.show(block=True)
    finally:
        pyplot.close(figure)
