"""The charts as files: PNG and SVG with captions."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from segtune.report.figures import write_figures
from segtune.report.record import ClassRow
from tests.report.reports import report


def test_every_figure_is_a_png_and_an_svg_with_a_caption(tmp_path: Path) -> None:
    written = write_figures(report(classes=(ClassRow("50% <$x$>", 0.5, None),)), tmp_path / "figures")
    names = {path.stem for path in written if path.suffix == ".svg"}
    assert names == {"best_over_trials", "best_over_time", "learning_curves", "importance", "effects", "classes"}
    captions = (tmp_path / "figures" / "captions.md").read_text(encoding="utf-8")
    for name in names:
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        ElementTree.parse(tmp_path / "figures" / f"{name}.svg")
        assert f"**{name}.**" in captions


def test_a_search_without_scores_has_no_figures(tmp_path: Path) -> None:
    bare = report([], influences=(), classes=(), examples=None)
    assert [path.name for path in write_figures(bare, tmp_path)] == ["captions.md"]
