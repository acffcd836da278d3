"""What the flags and files of run_single.py stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.models.manifest import Manifest
from tests.cli.runs import (
    ConfigOf,
)
from tests.scripts import call


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["-m", "DeepLabV3+"], "model", "deeplabv3plus"),
        (["--model", "unet++"], "model", "unetplusplus"),
        (["-b", "3"], "batch_size", 3),
        (["--batch", "3"], "batch_size", 3),
        (["--batch-size", "3"], "batch_size", 3),
        (["-lr", "1e-3"], "lr", 0.001),
        (["--lr", "1"], "lr", 1.0),
        (["-e", "7"], "epochs", 7),
        (["-a", "safe"], "augmentation", "safe"),
        (["-w", "0"], "workers", 0),
        (["-d", "tiles/höhe"], "dataset", "tiles/höhe"),
        (["--class-list", "1,2"], "classes", [1, 2]),
        (["--classes", "[1, 2]"], "classes", [1, 2]),
        (["--class-list", "7"], "classes", [7]),
        (["--add-dirs", "nir"], "channels", ["nir"]),
        (["--add-dirs", "nir,dsm"], "channels", ["nir", "dsm"]),
        (["--channels", "2021,2022"], "channels", ["2021", "2022"]),
        (["--ignore", "0,3"], "ignore", [0, 3]),
        (["--set", "lr=1e-3"], "lr", 0.001),
        (["--set", "classes=1,2", "loss=dice+ce"], "loss", "dice+ce"),
        (["--set", "classes=[1, 2]"], "classes", [1, 2]),
        (["--warmup-epochs", "2"], "warmup_epochs", 2),
        (["--image-size=96"], "image_size", 96),
        (["--add-dirs", "nir kv"], "channels", ["nir", "kv"]),
        (["--class-list", "1 2 3"], "classes", [1, 2, 3]),
        (["--max-mask-val", "3"], "classes", [1, 2, 3]),
        (["--ignore", "-1"], "ignore", [-1]),
        (["--ignore", "-1,-100"], "ignore", [-1, -100]),
        (["--ignore=-1 -100"], "ignore", [-1, -100]),
        (["--set", "ignore=-1,-100"], "ignore", [-1, -100]),
        (["--classes", "-3"], "classes", [-3]),
        (["--nodata", "-3.4e+38"], "nodata", -3.4e38),
        (["--channels", "none"], "channels", []),
        (["--max-mask-val", "0"], "classes", [255]),
        (["-val", "other/val"], "val_dir", "other/val"),
        (["--val-dir", "other/val"], "val_dir", "other/val"),
        (["--add-val-dirs", "sets, and more.txt"], "add_val_dirs", ["sets, and more.txt"]),
        (["--add-val-dirs", "[a, b]"], "add_val_dirs", ["a", "b"]),
        (["--set", "adv_freq=5", "add_val_dirs=a"], "adv_freq", 5),
        (["--set", "use_only_add_val=true", "add_val_dirs=a"], "use_only_add_val", True),
        (["--cpu"], "device", "cpu"),
        (["--device", "cuda:1"], "device", "cuda:1"),
        (["--seed", "7"], "seed", 7),
        (["--optimizer", "sgd"], "optimizer", "sgd"),
        (["--lr-schedule", "poly"], "lr_schedule", "poly"),
        (["--encoder-weights", "resnet18.pth"], "encoder_weights", "resnet18.pth"),
        (["--precision", "bf16"], "precision", "bf16"),
        (["--limit-tiles", "8"], "limit_tiles", 8),
        (["--worst", "0"], "worst", 0),
        (["--rgb", "3 2 1"], "rgb", [3, 2, 1]),
        (["--fit", "crop"], "fit", "crop"),
        (["--samples-per-epoch", "100"], "samples_per_epoch", 100),
        (["--val-samples", "10"], "val_samples", 10),
        (["--cache-dir", "none"], "cache_dir", "none"),
    ],
)
def test_flags_and_assignments_set_what_they_say(
    config_of: ConfigOf, flags: list[str], name: str, value: object
) -> None:
    config = config_of(*flags)
    assert getattr(config, name) == value
    untouched = set(RunConfig.model_fields) - {name, "classes"}
    if "--set" not in flags and "--cpu" not in flags:
        assert all(getattr(config, other) == getattr(RunConfig(), other) for other in untouched)


def test_every_setting_has_a_flag_that_sets_it(config_of: ConfigOf) -> None:
    # The value of each default, as text, comes back as that value.
    given = {name: value for name, value in RunConfig().settings().items() if value is not None and value != []}
    texts = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in given.items()}
    config = config_of(*(f"--{name.replace('_', '-')}={text}" for name, text in texts.items()))
    assert {name: getattr(config, name) for name in given} == given


def test_set_wins_over_flags_and_flags_win_over_the_file(config_of: ConfigOf, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("lr: 1e-1\nepochs: 11\nmodel: Unet\nbatch_size: 2\n", encoding="utf-8")
    config = config_of("--config", path, "-lr", "1e-2", "-e", "12", "--set", "lr=1e-3")
    assert (config.lr, config.epochs, config.batch_size, config.model) == (0.001, 12, 2, "unet")


def test_flags_may_replace_what_does_not_go_together_in_a_file(config_of: ConfigOf, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("class_weights: balanced\n", encoding="utf-8")
    assert config_of("--config", path, "--loss", "dice+ce").class_weights == "balanced"
    for flags, where in (([], f"{path}: "), (["--loss", "mcc"], "")):
        with pytest.raises(InputError) as caught:
            config_of("--config", path, *flags)
        (mistake,) = caught.value.mistakes
        assert mistake.startswith(f"{where}class_weights changes focal, ce,")


@pytest.mark.parametrize(
    ("flags", "mistake"),
    [
        (["--optimizer", "lion", "--momentum", "0.8"], "momentum: has no effect without optimizer sgd, "),
        (["--adv-freq", "3"], "adv_freq: has no effect without add_val_dirs, and none is given; leave adv_freq out"),
        (["--sync-batchnorm", "false"], "sync_batchnorm: has no effect on one GPU, and gpus is 1"),
        (["--cache-dir", "none", "--cache-gb", "5"], "cache_gb: has no effect without a cache, and cache_dir is none"),
    ],
)
def test_a_flag_that_changes_nothing_is_refused(config_of: ConfigOf, flags: list[str], mistake: str) -> None:
    with pytest.raises(InputError) as caught:
        config_of(*flags)
    (told,) = caught.value.mistakes
    assert told.startswith(mistake)


def test_a_setting_without_effect_may_come_from_a_file(config_of: ConfigOf, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("optimizer: lion\nmomentum: 0.8\nadv_freq: 3\n", encoding="utf-8")
    config = config_of("--config", path, "--momentum", "0.9", "--optimizer", "adam")
    assert (config.momentum, config.adv_freq) == (0.9, 3)
    assert config_of("--optimizer", "sgd", "--momentum", "0.8").momentum == 0.8


def test_names_of_classes_are_given_once(config_of: ConfigOf, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("classes: {1: a}\nclass_names: [b]\n", encoding="utf-8")
    said = "classes: has names already; leave class_names out"
    for flags, where in ((["--config", path], f"{path}: "), (["--classes", "1:a", "--class-names", "b"], "")):
        with pytest.raises(InputError) as caught:
            config_of(*flags)
        assert caught.value.mistakes == [f"{where}{said}"]


def test_config_takes_only_the_settings_of_a_run_yaml(config_of: ConfigOf, first: Path) -> None:
    assert config_of("--config", first / "run.yaml") == Manifest.read(first / "run.yaml").config
    changed = config_of("--config", first / "run.yaml", "--set", "lr=1e-3", "epochs=5")
    assert changed == Manifest.read(first / "run.yaml").config.model_copy(update={"lr": 0.001, "epochs": 5})


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ("old/val", ["old/more"], True)),
        (["-d", "new"], (None, [], False)),
        (["-d", "new", "-val", "new/test"], ("new/test", [], False)),
        (["-d", "new", "--add-val-dirs", "new/more"], (None, ["new/more"], False)),
        (["-val", "new/test"], ("new/test", ["old/more"], True)),
    ],
)
def test_on_other_data_validation_sets_of_the_search_are_dropped(
    config_of: ConfigOf, tmp_path: Path, flags: list[str], expected: tuple[str | None, list[str], bool]
) -> None:
    (tmp_path / "best").mkdir()
    (tmp_path / "search.yaml").write_text("{}\n", encoding="utf-8")
    of_the_search = "dataset: old\nval_dir: old/val\nadd_val_dirs: [old/more]\nuse_only_add_val: true\n"
    (tmp_path / "best" / "run.yaml").write_text(of_the_search, encoding="utf-8")
    config = config_of("--from-search", tmp_path, *flags)
    assert (config.val_dir, config.add_val_dirs, config.use_only_add_val) == expected


def test_an_empty_file_means_the_defaults(config_of: ConfigOf, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("{}\n", encoding="utf-8")
    assert config_of("--config", tmp_path / "run.yaml") == RunConfig()


def test_settings_that_a_shell_left_empty_are_not_the_current_folder(config_of: ConfigOf) -> None:
    config = config_of("--val-dir", "", "--cache-dir", "")
    assert (config.val_dir, config.cache_dir) == (None, None)


def test_added_validation_sets_add_up(config_of: ConfigOf) -> None:
    assert config_of("--add-val-dirs", "a", "--add-val-dirs", "b, c").add_val_dirs == ["a", "b, c"]


def test_a_number_that_no_database_keeps_is_refused() -> None:
    ended = call("run_search", "--space", "quickstart", "--trials", 2**63)
    assert ended.mistakes == [f"trials: is too large a number; the largest is {2**63 - 1}"]
