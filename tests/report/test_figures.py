"""The charts as files: PNG and SVG with captions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from segtune.report.figures import write_figures
from segtune.report.record import Candidate, ClassRow, Confirmation
from tests.report.reports import report, trials


def test_every_figure_is_a_png_and_an_svg_with_a_caption(tmp_path: Path) -> None:
    written = write_figures(report(classes=(ClassRow("50% <$x$>", 0.5, None),)), tmp_path / "figures")
    names = {path.stem for path in written if path.suffix == ".svg"}
    assert names == {
        "best_over_trials",
        "best_over_time",
        "learning_curves",
        "importance",
        "effects",
        "classes",
        "trials",
    }
    captions = (tmp_path / "figures" / "captions.md").read_text(encoding="utf-8")
    for name in names:
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        ElementTree.parse(tmp_path / "figures" / f"{name}.svg")
        assert f"**{name}.**" in captions


def test_costs_and_fresh_seeds_have_figures(tmp_path: Path) -> None:
    seeds = tuple(Candidate(name, "", None, (0.7, 0.72, 0.74)) for name in ("trial #1 ($x$)", "the baseline"))
    found = report([replace(one, latency=10.0 + one.number) for one in trials()])
    found = replace(found, state=replace(found.state, costs=("latency",)), confirmation=Confirmation("It.", seeds))
    write_figures(found, tmp_path)
    captions = (tmp_path / "captions.md").read_text(encoding="utf-8")
    assert "**front_latency.** Best validation mIoU over a cost (" in captions
    assert "12 trials. The line joins the trials that no other one beats in both." in captions
    assert "trial #1 ($x$)" in (tmp_path / "seeds.svg").read_text(encoding="utf-8")
    text = (tmp_path / "trials.svg").read_text(encoding="utf-8")
    assert all(f">{name}<" in text for name in ("encoder", "mIoU", "resnet18"))


def test_a_search_without_scores_has_no_figures(tmp_path: Path) -> None:
    bare = report([], influences=(), classes=(), examples=None)
    assert [path.name for path in write_figures(bare, tmp_path)] == ["captions.md"]
