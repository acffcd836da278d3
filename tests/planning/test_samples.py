"""Runs that a search would draw."""

from __future__ import annotations

from pathlib import Path

from segtune.data.scan import scan
from segtune.models import compatibility
from segtune.planning.samples import draw_samples, measured_runs
from segtune.space.reader import load_space
from segtune.training.resolve import resolve


def test_samples_depend_on_the_seed_and_are_possible_runs(tmp_path: Path, tiles: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"dataset: {tiles}\nclasses: [3, 7, 255]\nspace:\n"
        "  model: [unet, linknet, fpn]\n  encoder: [resnet18, mit_b0]\n"
        "  warmup_epochs: [0, 60]\n  epochs: [50, 70]\n  image_size: [32, 40]\n"
        "forbid: [{model: unet, warmup_epochs: 60}]\nbaseline: {model: unet, encoder: resnet18}\n"
    )
    space = load_space(tmp_path / "s.yaml")
    info = scan(space.baseline)
    samples = draw_samples(space, info)
    assert samples == draw_samples(space, info)
    assert len(samples.runs) == len(samples.searched) == 10
    for run, searched in zip(samples.runs, samples.searched, strict=True):
        assert space.forbidden(run.settings()) is None
        assert compatibility.incompatibility(run.model, run.encoder, run.image_size) is None
        assert run.warmup_epochs < run.epochs
        assert {name: getattr(run, name) for name in searched} == searched


def test_no_run_is_sampled_or_measured_twice(tmp_path: Path, tiles: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"dataset: {tiles}\nclasses: [3, 7, 255]\nspace: {{lr: [1e-3, 1e-2], batch_size: [2, 6]}}\n"
    )
    space = load_space(tmp_path / "s.yaml")
    info = scan(space.baseline)
    first, samples = resolve(space.baseline, info), draw_samples(space, info).runs
    assert len(samples) == 4 == len({(run.lr, run.batch_size) for run in samples})
    runs = measured_runs(first, samples)
    assert runs.pop("baseline") == first
    assert len(runs) == 3
    assert {(run.lr, run.batch_size) for run in (first, *runs.values())} == {
        (run.lr, run.batch_size) for run in samples
    }
    assert all(samples[int(name.split()[1]) - 1] is run for name, run in runs.items())


def test_samples_of_a_grid_are_its_first_possible_runs(tmp_path: Path, tiles: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"dataset: {tiles}\nclasses: [3, 7, 255]\nsearch: {{sampler: grid}}\n"
        "space: {warmup_epochs: [0, 50], epochs: [50, 70], loss: [dice, ce, lovasz, mcc]}\n"
    )
    space = load_space(tmp_path / "s.yaml")
    samples = draw_samples(space, scan(space.baseline))
    wanted = [(0, 50)] * 4 + [(0, 70)] * 4 + [(50, 70)] * 2
    assert [(run.warmup_epochs, run.epochs) for run in samples.runs] == wanted
    assert len(samples.refused) == 4
