"""Which settings may change when a run goes on."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from segtune.cli.given import kept_threads, settings_in
from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import CHANGEABLE_IN_RUN
from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.models.run_yaml import settings_of
from segtune.training.resume import check_same_settings
from segtune.vocabulary import yaml_text
from tests.training.runs import (
    Whole,
    left,
    other,
    refusal,
    run,
    steps_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def test_settings_that_changed_are_named_all_of_them_and_no_others(config: RunConfig, begun: Path) -> None:
    changed = other(config, lr=3e-3, seed=7, augmentation="safe", image_size=64, workers=2, epochs=9, worst=3)
    mistake = refusal(changed, begun)
    assert mistake.startswith(f"{begun}: ")
    assert set(re.findall(r"(\w+) \(([^()]*) -> ([^()]*)\)", mistake)) == {
        ("lr", "0.01", "0.003"),
        ("seed", str(config.seed), "7"),
        ("augmentation", "hard", "safe"),
        ("image_size", "32", "64"),
    }


OTHERS: dict[str, Any] = {
    "use_only_add_val": True,
    "adv_freq": 2,
    "images_dir": "pictures",
    "masks_dir": "masks",
    "image_suffix": "_a",
    "mask_suffix": "_b",
    "classes": [7],
    "ignore": [9],
    "channels": ["nir"],
    "rgb": [3, 2, 1],
    "nodata": 0.0,
    "alpha": "band",
    "limit_tiles": 3,
    "model": "unet",
    "encoder": "resnet18",
    "encoder_weights": "imagenet",
    "normalization": "encoder",
    "decoder_channels": 64,
    "decoder_attention": "scse",
    "dropout": 0.5,
    "drop_path": 0.1,
    "image_size": 64,
    "fit": "crop",
    "batch_size": 3,
    "samples_per_epoch": None,
    "val_samples": 2,
    "optimizer": "sgd",
    "lr": 1e-3,
    "encoder_lr_factor": 0.1,
    "freeze_encoder_epochs": 1,
    "weight_decay": 0.0,
    "momentum": 0.5,
    "lr_schedule": "poly",
    "lr_decay": 0.5,
    "lr_patience": 3,
    "ema": 0.99,
    "warmup_epochs": 0,
    "grad_clip": 0.0,
    "loss": "dice",
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "oversample": "rare",
    "augmentation": "none",
    "mix": "cutmix",
    "mix_probability": 0.3,
    "objective": "f1",
    "precision": "bf16",
    "sync_batchnorm": False,
    "seed": 1,
}


def test_every_setting_that_a_number_depends_on_must_stay(config: RunConfig, whole: Whole) -> None:
    assert set(OTHERS) | CHANGEABLE_IN_RUN == set(RunConfig.model_fields)
    for name, value in OTHERS.items():
        before = yaml_text(config.settings()[name])
        with pytest.raises(InputError, match=re.escape(f"other settings: {name} ({before} -> {yaml_text(value)});")):
            check_same_settings(RunFolder(whole.folder), config.model_copy(update={name: value}))


def test_a_slip_of_the_pen_is_no_other_setting(config: RunConfig, whole: Whole, tmp_path: Path) -> None:
    weights, transforms = tmp_path / "imagnet", tmp_path / "gone.yaml"
    slips = {
        "encoder": ("resnt18", "did you mean 'resnet18'?"),
        "encoder_weights": (str(weights), "is neither auto, none, imagenet, nor a file; did you mean 'imagenet'?"),
        "augmentation": (str(transforms), f"augmentation: {transforms}: no such file"),
    }
    for name, (value, told) in slips.items():
        with pytest.raises(InputError) as caught:
            check_same_settings(RunFolder(whole.folder), config.model_copy(update={name: value, "lr": 0.5}))
        (mistake,) = caught.value.mistakes
        assert told in mistake
        assert "other settings" not in mistake


def test_what_no_number_depends_on_may_change(config: RunConfig, tmp_path: Path, begun: Path, whole: Whole) -> None:
    others = {"workers": 1, "cache_dir": str(tmp_path / "cache"), "cache_gb": 1.0, "worst": 1}
    device = {} if torch.cuda.is_available() else {"device": "auto"}
    assert steps_of(other(config, **others, **device), begun) == 6
    now = left(begun)
    assert [len(tiles) for tiles in now["state"].pop("worst").values()] == [1]
    assert now == whole.left | {"state": {name: part for name, part in whole.left["state"].items() if name != "worst"}}
    assert RunFolder(begun).worst.is_file()


def test_the_number_of_threads_is_a_setting_that_a_run_keeps(config: RunConfig, tmp_path: Path) -> None:
    seen: list[int] = []
    config = other(config, samples_per_epoch=2)  # one step: threads wait for each other on a busy machine

    def go_on(config: RunConfig, **others: Any) -> RunConfig:
        def note(*_: object) -> None:
            seen.append(torch.get_num_threads())

        run(config, tmp_path / "run", go_on=True, epochs=1, on_batch=note, **others)
        return settings_in(RunFolder(tmp_path / "run").run_yaml)["threads"]

    assert [go_on(config, threads=2), go_on(other(config, threads=2)), go_on(other(config, threads=3))] == [2, 2, 3]
    assert seen == [2, 2, 3]
    assert Manifest.read(RunFolder(tmp_path / "run").run_yaml).threads == 3


def test_a_run_of_an_earlier_release_has_its_threads_in_another_place() -> None:
    old: dict[str, Any] = {"model": "unet", "evaluation": {"threads": 2}}
    assert settings_of(old) == {"model": "unet", "threads": 2}
    assert settings_of({**old, "threads": 4})["threads"] == 4
    assert settings_of({}) == {}


@pytest.mark.parametrize(
    ("typed", "threads", "said"),
    [
        ([], 2, "threads stays 2"),
        ([], 4, ""),
        ([], None, ""),
        (["--threads", "2"], 2, ""),
        (["--set", "threads=2"], 2, ""),
        (["--config", "run.yaml"], 2, ""),
    ],
)
def test_threads_that_stay_are_told_of(
    typed: list[str], threads: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import run_single

    monkeypatch.setattr(sys, "argv", ["run_single.py", "--exp-name", "x", *typed])
    line = kept_threads(run_single.parse(), RunConfig(threads=threads), 4) or ""
    assert line.startswith(said)
    assert bool(line) == bool(said)


def test_a_finished_run_trains_nothing_and_with_more_epochs_only_those(config: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(other(config, lr_schedule="constant", epochs=2), folder)
    before = left(folder)
    assert run(other(config, lr_schedule="constant", epochs=2), folder, go_on=True) == []
    assert left(folder) == before
    (third,) = run(other(config, lr_schedule="constant"), folder, go_on=True)
    assert (third.epoch, third.epochs) == (3, 3)
    run(other(config, lr_schedule="constant"), tmp_path / "whole")
    assert left(folder) == left(tmp_path / "whole")


def test_with_more_epochs_the_learning_rate_follows_the_longer_schedule(config: RunConfig, tmp_path: Path) -> None:
    short = other(config, samples_per_epoch=2, warmup_epochs=0, epochs=2)  # an epoch is one step
    run(short, tmp_path / "run")
    longer = run(other(short, epochs=4), tmp_path / "run", go_on=True)
    whole = run(other(short, epochs=4), tmp_path / "whole")
    assert [result.lr for result in longer] == [result.lr for result in whole[2:]]
    assert longer[0].lr == pytest.approx(config.lr / 2)
