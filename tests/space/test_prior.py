"""The section prior: what a person expects, its mistakes, and values drawn around it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from segtune.report.dry_run import space_tree
from segtune.space.prior import Belief
from segtune.space.reader import load_space

SPACE = """\
run: {model: unet, epochs: 9, encoder_weights: none}
space:
  encoder: [resnet18, resnet34]
  optimizer:
    adamw: {lr: {low: 1e-4, high: 1e-2, log: true}, weight_decay: {low: 1e-6, high: 1e-1, log: true}}
    sgd: {lr: {low: 1e-2, high: 1.0, log: true}, momentum: {low: 0.8, high: 0.99}}
  batch_size: {low: 4, high: 16, step: 4}
  channels: [[], [nir]]
"""
GIVEN = "prior: {lr: 3e-4, encoder: {value: resnet34, confidence: High}, optimizer: adamw, channels: [nir]}\n"


def test_a_value_alone_has_medium_confidence(space_of) -> None:
    assert space_of(SPACE + GIVEN).prior.beliefs == {
        "lr": Belief(3e-4, "medium"),
        "encoder": Belief("resnet34", "high"),
        "optimizer": Belief("adamw", "medium"),
        "channels": Belief(["nir"], "medium"),
    }


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("{lr: 0.7}", None),
        ("{lr: 3e-5}", "prior.lr: must be from 0.0001 to 0.01 or from 0.01 to 1, as under space:, but got 3e-05"),
        ("{lr: fast}", "prior.lr: must be a valid number, but got 'fast'"),
        (
            "{encoder: resnet43}",
            "prior.encoder: must be one of resnet18, resnet34, as under space:, but got 'resnet43'; did you mean "
            "'resnet34'?",
        ),
        ("{batch_size: 6}", "prior.batch_size: must be from 4 to 16 in steps of 4, as under space:, but got 6"),
        ("{learning_rate: 0.1}", "prior.learning_rate: unknown setting 'learning_rate'"),
        ("{epochs: 9}", "prior.epochs: is fixed by run.epochs (line 1); only what is searched can have a prior"),
        ("{loss: dice}", "prior.loss: is not searched; list it under space:, or fix it under run:"),
        ("{seed: 3}", "prior.seed: is the same in all trials, so that there is nothing to expect"),
        (
            "{momentum: 0.9, optimizer: adamw}",
            "prior.momentum: only runs with optimizer sgd can have 0.9, but prior: has optimizer adamw",
        ),
        (
            "{lr: 3e-4, optimizer: sgd}",
            "prior.lr: only runs with optimizer adamw can have 0.0003, but prior: has optimizer sgd",
        ),
        (
            "{encoder: {value: resnet18, confidence: hihg}}",
            "prior.encoder.confidence: must be one of low, medium, high, but got 'hihg'; did you mean 'high'?",
        ),
        (
            "{encoder: {confidence: high}}",
            "prior.encoder: has no value; give it alone, or as {value: ..., confidence: low | medium | high}",
        ),
        (
            "{encoder: {value: resnet18, sure: high}}",
            "prior.encoder.sure: unknown key 'sure' (known: value, confidence)",
        ),
        ("[lr]", "prior: expected a mapping of settings, but got ['lr']"),
    ],
)
def test_each_mistake_has_one_line(given: str, line: str | None, space_of, mistakes_of) -> None:
    text = f"{SPACE}prior: {given}\n"
    if line is None:
        space_of(text)
    else:
        assert mistakes_of(text) == [f"s.yaml:9: {line}"]


def test_a_grid_draws_nothing_around_a_prior(mistakes_of) -> None:
    text = "space: {encoder: [resnet18, resnet34]}\nprior: {encoder: resnet18}\nsearch: {sampler: grid}\n"
    assert mistakes_of(text) == ["s.yaml:2: prior: needs sampler tpe or random: a grid tries every combination"]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            "forbid:\n- {optimizer: adamw, encoder: resnet34}\n",
            "prior.encoder: forbid: {optimizer: adamw, encoder: resnet34} excludes it",
        ),
        ("forbid:\n- {optimizer: adamw, batch_size: 4}\n", None),  # another batch size can be tried
    ],
)
def test_values_that_may_not_be_together_are_refused(more: str, line: str | None, space_of, mistakes_of) -> None:
    if line is None:
        space_of(SPACE + GIVEN + more)
    else:
        assert mistakes_of(SPACE + GIVEN + more) == [f"s.yaml:9: {line}"]


def test_a_mistake_of_the_space_is_not_told_twice(mistakes_of) -> None:
    text = SPACE.replace("{low: 4, high: 16, step: 4}", "[0, 4]") + "prior: {batch_size: 4}\n"
    assert len(mistakes_of(text)) == 1


def test_what_the_command_line_fixes_has_no_prior(space_of) -> None:
    beliefs = space_of(SPACE + GIVEN, overrides={"optimizer": "sgd", "encoder": "resnet18"}).prior.beliefs
    assert list(beliefs) == ["channels"]  # and sgd has no lr of 3e-4


@pytest.mark.parametrize(
    ("given", "point"),
    [
        (
            "{lr: 3e-4, channels: [nir]}",  # only adamw has this lr; the other values are those of the baseline
            {
                "optimizer": "adamw",
                "optimizer.adamw.lr": 3e-4,
                "optimizer.adamw.weight_decay": 1e-4,
                "channels": ["nir"],
            },
        ),
        (
            "{momentum: 0.9}",  # the baseline's lr is no lr of sgd: the middle
            {"optimizer": "sgd", "optimizer.sgd.lr": pytest.approx(0.1), "optimizer.sgd.momentum": 0.9, "channels": []},
        ),
    ],
)
def test_the_point_has_the_expected_values_and_else_the_usual_ones(given: str, point: dict, space_of) -> None:
    space = space_of(f"{SPACE}baseline: {{batch_size: 12, encoder: resnet34}}\nprior: {given}\n")
    assert space.prior_point() == {"encoder": "resnet34", "batch_size": 12, **point}


def test_a_search_keeps_its_prior_and_cannot_change_it(space_of, tmp_path: Path) -> None:
    space = space_of(SPACE + GIVEN)
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(space.dump(), sort_keys=False))
    stored = load_space(tmp_path / "search.yaml")
    assert stored.prior == space.prior
    assert space.changes_from(stored) == []
    other = space_of(SPACE + GIVEN.replace("3e-4", "4e-4").replace("High", "low"))
    assert other.changes_from(stored) == ["prior: lr", "prior: encoder"]


def test_dry_run_shows_the_prior(space_of) -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(space_tree(space_of(SPACE + GIVEN)))
    assert "encoder: resnet34, confidence high" in captured.get()


@pytest.mark.parametrize("confidence", ["low", "medium", "high"])
def test_values_are_drawn_around_the_expected_ones_and_within_bounds(confidence, space_of) -> None:
    space = space_of(SPACE)
    encoder, optimizer, batch_size, channels = space.parameters
    lr, _ = optimizer.branches[0]
    generator = random.Random(0)
    near = {"low": 0.35, "medium": 0.55, "high": 0.85}[confidence]
    rates = [Belief(1e-3, confidence).draw(lr, generator) for _ in range(400)]
    assert all(rate in lr for rate in rates)
    assert near - 0.1 < sum(4e-4 < rate < 2.5e-3 for rate in rates) / 400 < near + 0.2
    drawn = Counter(Belief(16, confidence).draw(batch_size, generator) for _ in range(400))
    assert sorted(drawn) == {"low": [4, 8, 12, 16], "medium": [8, 12, 16], "high": [12, 16]}[confidence]
    assert drawn.most_common(1)[0][0] == 16
    assert Counter(Belief("resnet34", confidence).draw(encoder, generator) for _ in range(200))["resnet34"] > 120
    assert Belief(["nir"], confidence).draw(channels, generator) in ([], ["nir"])
