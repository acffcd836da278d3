"""One picture in a window: refused where there is no screen, and shown where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CHECK = """
from segtune.errors import InputError
from segtune.pictures.window import check_screen
try:
    check_screen()
except InputError as error:
    print(error)
"""
# The window closes itself; the picture is what stands in its axes.
SHOW = """
import matplotlib
from segtune.pictures.window import check_screen, show
from tests.pictures.sheets import grey_picture
def close_soon(figure):
    timer = figure.canvas.new_timer(interval=300)
    timer.add_callback(seen, figure, timer)
    timer.start()
def seen(figure, timer):
    from matplotlib import pyplot
    (image,) = figure.axes[0].images
    width, height = figure.canvas.get_width_height()
    print(type(figure.canvas).__name__, figure.get_label() or figure.canvas.manager.get_window_title())
    print(width, height, int(image.get_array().min()))
    pyplot.close(figure)
import __main__
matplotlib.rcParams["figure.hooks"] = ["__main__:close_soon"]
check_screen()
show(grey_picture(300, 400), "0.734_tile")
print("closed")
"""


def run(code: str, *before: str, **extra: str) -> str:
    """Run code in a new process without a screen, and return what it prints."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | extra
    command = [*before, sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a screen")
@pytest.mark.parametrize("backend", ["", "TkAgg"])
def test_without_a_screen_one_line_names_what_to_use_instead(backend: str) -> None:
    given = {"MPLBACKEND": backend} if backend else {}
    assert run(CHECK, **given) == "--vis: there is no screen; --plots writes the pictures as files instead"


@pytest.mark.skipif(sys.platform != "linux", reason="DISPLAY is a matter of Linux")
def test_a_screen_on_which_no_window_opens_is_told_apart() -> None:
    said = run(CHECK, DISPLAY=":987", MPLBACKEND="agg")
    assert (
        said
        == "--vis: matplotlib cannot open windows (pip install pyqt6); --plots writes the pictures as files instead"
    )


def test_a_script_that_a_notebook_starts_draws_without_the_notebook() -> None:
    """The variable of the notebook is passed on, also to another environment, which may lack what it names."""
    code = (
        "from segtune.cli.exits import run_script\n"
        "def main():\n"
        "    import segtune.pictures.charts\n"
        "    print('imported')\n"
        "    return 0\n"
        "run_script(main)\n"
    )
    assert run(code, MPLBACKEND="module://some_inline.backend_inline") == "imported"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("xvfb-run"), reason="needs xvfb-run, a screen in memory")
def test_a_picture_is_shown_until_its_window_is_closed() -> None:
    canvas, size, closed = run(SHOW, "xvfb-run", "-a").splitlines()
    assert canvas.startswith("FigureCanvas")
    assert canvas.endswith("0.734_tile")
    width, height, value = map(int, size.split())
    assert (width, height) == pytest.approx((400, 300), abs=2)
    assert value == 100
    assert closed == "closed"
