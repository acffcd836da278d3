"""run_single.py as it is typed: flags and files of settings, and what each mistake ends in."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from segtune.cli.exits import Terminated, run_script
from segtune.cli.flags import ALIASES
from segtune.cli.given import given_config
from segtune.config import RunConfig
from segtune.evaluation.metrics import Scores
from segtune.fields import base_type, choices
from segtune.files.folders import RunFolder
from segtune.models.checkpoint import load_model
from segtune.models.manifest import Manifest
from segtune.report.console import epoch_line
from segtune.training.result import EpochResult

DataSet = Callable[..., Path]
SCRIPT = Path(__file__).parent.parent.parent / "run_single.py"
# Flags of a run that takes a second.
SMALL = ("-m", "unet", "--encoder", "tu-mobilenetv3_small_050", "--image-size", "32")
FAST = (*SMALL, "-b", "3", "-e", "2", "-w", "0", "--device", "cpu")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_single_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Run = Callable[..., int]


@pytest.fixture
def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """run_single.py with these arguments, in an empty folder; its exit status."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["run_single.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_script(script.main)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    yield call
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def config_of(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunConfig]:
    """The config that a command line stands for."""

    def call(*arguments: object) -> RunConfig:
        monkeypatch.setattr(sys, "argv", ["run_single.py", *map(str, arguments)])
        config = given_config(script.parse(), None)
        assert isinstance(config, RunConfig)
        return config

    return call


ConfigOf = Callable[..., RunConfig]


# A run from the command line.


@pytest.fixture(scope="module")
def first(tiles: Path, tmp_path_factory: pytest.TempPathFactory, script: ModuleType) -> Path:
    """The folder of a run with the short flags."""
    folder = tmp_path_factory.mktemp("logs")
    short = ["-lr", "1e-2", "-a", "safe", "--add-dirs", "nir", "--class-list", "255", "--loss", "dice+bce"]
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        line = ["run_single.py", "-d", tiles, *FAST, *short, "-log", folder, "--exp-name", "first"]
        patch.setattr(sys, "argv", list(map(str, line)))
        with pytest.raises(SystemExit) as ended:
            run_script(script.main)
    signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 0
    return folder / "first"


def test_a_run_leaves_its_folder_with_what_was_asked_for(first: Path, tiles: Path) -> None:
    manifest = Manifest.read(first / "run.yaml")
    wanted: dict[str, Any] = {
        "model": "unet",
        "encoder": "tu-mobilenetv3_small_050",
        "image_size": 32,
        "batch_size": 3,
        "epochs": 2,
        "workers": 0,
        "lr": 0.01,
        "augmentation": "safe",
        "channels": ["nir"],
        "classes": [255],
        "loss": "dice+bce",
        "dataset": str(tiles),
    }
    assert {name: manifest.config.settings()[name] for name in wanted} == wanted
    assert len(RunFolder(first).metrics()) == 2
    assert load_model(first / "best", torch.device("cpu"))[1].bands[-1].name == "nir"


def test_the_run_yaml_of_a_run_runs_again_with_the_same_numbers(first: Path, run: Run) -> None:
    assert run("--config", first / "run.yaml", "--exp-name", "again") == 0
    rows, again = RunFolder(first).metrics(), RunFolder(Path("logs/again")).metrics()
    assert [(row["loss"], row["miou"]) for row in again] == [(row["loss"], row["miou"]) for row in rows]


def test_what_is_odd_about_the_data_is_told_once_before_the_run(
    tmp_path: Path, data_set: DataSet, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = data_set(tmp_path / "set", labels=(0, 1, 2), channels=())
    for path in (tiles / "val" / "gt").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(mask == 2, 3, mask))
    (tiles / "train" / "images" / "more.jp2").touch()
    assert run("-d", tiles, *FAST, "-e", "1", "--classes", "1", "2", "--exp-name", "odd") == 0
    lines = capsys.readouterr().out.splitlines()
    warnings = [line for line in lines if "warning" in line]
    assert [line.partition(":")[2].split()[:2] for line in warnings] == [
        [f"{tiles}/train/images:", "not"],
        ["no", "mask"],
    ]
    assert f"no mask contains 2 (in {tiles}/val/gt); left out of the mean" in warnings[1]
    assert sum("count as background" in line for line in lines) == 1
    assert lines.index(warnings[1]) < next(i for i, line in enumerate(lines) if line.startswith("epoch 1/1"))


def test_without_a_name_runs_of_the_same_day_get_folders_of_their_own(
    tiles: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run("-d", tiles, *FAST, "-e", "1") == 0
    names = sorted(path.name for path in Path("logs").iterdir())
    assert len(names) == 2
    assert all(name.startswith("unet_tu-mobilenetv3_small_050_20") for name in names)
    printed = capsys.readouterr()
    assert printed.err == ""
    for name in names:
        assert f"python validate.py -cd {Path('logs') / name} -d {tiles}/val" in printed.out
    assert "epoch 1/1" in printed.out
    assert "6 train, 4 val tiles at 32 px" in printed.out


# What a command line means.


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
        (["--adv-freq", "5"], "adv_freq", 5),
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
    for name, value in RunConfig().settings().items():
        text = ",".join(map(str, value)) if isinstance(value, list) else value
        if value is not None and value != []:
            assert getattr(config_of(f"--{name.replace('_', '-')}={text}"), name) == value


def test_set_wins_over_flags_and_flags_win_over_the_file(config_of: ConfigOf, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("lr: 1e-1\nepochs: 11\nmodel: Unet\nbatch_size: 2\n", encoding="utf-8")
    config = config_of("--config", path, "-lr", "1e-2", "-e", "12", "--set", "lr=1e-3")
    assert (config.lr, config.epochs, config.batch_size, config.model) == (0.001, 12, 2, "unet")


def test_the_settings_of_a_run_yaml_are_taken_and_its_other_sections_are_not(config_of: ConfigOf, first: Path) -> None:
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
def test_on_other_data_a_searchs_winner_is_not_validated_on_that_of_the_search(
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


# Mistakes in the command line.


def refusal(run: Run, capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """What a wrong call says, line by line; and nothing is written."""
    capsys.readouterr()
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("error: ") for line in lines), lines
    assert list(Path.cwd().iterdir()) == []
    return [line.removeprefix("error: ") for line in lines]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--set", "encodr=resnet18"], ["'encodr'", "did you mean 'encoder'?"]),
        (["--set", "lr"], ["'lr'", "KEY=VALUE"]),
        (["--encodr", "resnet18"], ["--encodr"]),
        (["--epoch", "3"], ["--epoch"]),  # no abbreviations
        (["stray"], ["stray"]),
        (["-e"], ["expected one argument"]),
        (["-e", "three"], ["epochs", "'three'"]),
        (["-e", "0"], ["epochs", "0"]),
        (["-lr", "nan"], ["lr"]),
        (["-m", "segfromer"], ["model", "did you mean 'segformer'?"]),
        (["-a", "harder"], ["augmentation", "did you mean 'hard'?"]),
        (["--loss", "dise"], ["loss", "did you mean 'dice'?"]),
        (["--set", "optimizer=adamm"], ["optimizer", "did you mean 'adam"]),
        (["--class-list", "a,b"], ["classes"]),
        (["--class-list", "1,2", "--loss", "bce"], ["loss", "bce", "classes"]),
        (["--class-list", "1", "--ignore", "1"], ["classes", "ignore"]),
        (["-e", "3", "--warmup-epochs", "3"], ["warmup_epochs", "epochs"]),
        (["--encoder", "resnet81"], ["encoder", "did you mean 'resnet18'?"]),
        (["-m", "linknet", "--encoder", "mit_b0"], ["linknet", "mit_b0"]),
        (["-m", "deeplabv3+", "--encoder", "vgg16"], ["deeplabv3plus", "vgg16"]),
        (["-m", "fpn", "--image-size", "48"], ["image_size", "48", "fpn"]),
        (["--device", "gpu"], ["device"]),
        (["--device", "cpu", "--precision", "fp16"], ["precision", "fp16"]),
        (["--config", "missing.yaml"], ["missing.yaml"]),
    ],
)
def test_a_wrong_setting_is_told_of_in_one_line(
    tiles: Path, run: Run, capsys: pytest.CaptureFixture[str], flags: list[str], words: list[str]
) -> None:
    (line,) = refusal(run, capsys, "-d", tiles, *flags)
    for word in words:
        assert word in line


def test_all_wrong_settings_are_told_of_at_once(tiles: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lines = refusal(run, capsys, "-d", tiles, "-e", "x", "-lr", "y", "--set", "encodr=z", "batch_size=0")
    assert len(lines) == 4
    for word in ("epochs", "lr", "encodr", "batch_size"):
        assert sum(word in line for line in lines) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("encodr: resnet18\n", ["encodr", "did you mean 'encoder'?"]),
        ("lr: fast\n", ["lr", "'fast'"]),
        ("epochs: 3\nepochs: 4\n", ["epochs", "twice"]),
        ("- epochs\n", ["not a mapping"]),
        ("epochs: [3\n", ["settings.yaml:2"]),
        ("epochs: 3\nwarmup_epochs: 3\n", ["warmup_epochs"]),
    ],
)
def test_a_wrong_file_of_settings_is_named(
    tiles: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], content: str, words: list[str]
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content, encoding="utf-8")
    (line,) = refusal(run, capsys, "-d", tiles, "--config", path)
    for word in (str(path), *words):
        assert word in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told_of(tiles: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refusal(run, capsys, "-d", tiles, "--device", "cuda:1")
    assert line.startswith("device: cuda:1")


def test_weights_that_cannot_be_downloaded_are_told_of(
    tiles: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segtune.models.pretrained.getproxies", dict)
    monkeypatch.setattr("segtune.models.pretrained.hub.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("segtune.models.pretrained.hub.HF_HUB_CACHE", str(tmp_path))
    (line,) = refusal(run, capsys, "-d", tiles, *FAST, "--encoder", "resnet18", "--encoder-weights", "imagenet")
    assert "resnet18" in line


# Mistakes in the data.


@pytest.fixture
def broken(tiles: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to be spoilt."""
    return Path(shutil.copytree(tiles, tmp_path / "set"))


def images(dataset: Path) -> list[Path]:
    return sorted((dataset / "train" / "images").iterdir())


def masks(dataset: Path) -> list[Path]:
    return sorted((dataset / "train" / "gt").iterdir())


def no_data_set(dataset: Path, write: Any) -> Path:
    shutil.rmtree(dataset)
    return dataset


def no_split(dataset: Path, write: Any) -> Path:
    shutil.rmtree(dataset / "val")
    return dataset / "val"


def no_masks_folder(dataset: Path, write: Any) -> Path:
    shutil.rmtree(dataset / "train" / "gt")
    return dataset / "train" / "gt"


def no_channel_folder(dataset: Path, write: Any) -> Path:
    shutil.rmtree(dataset / "train" / "nir")
    return dataset / "train" / "nir"


def no_images(dataset: Path, write: Any) -> Path:
    for path in (dataset / "train" / "images").iterdir():
        path.rename(path.with_suffix(".txt"))
    return dataset / "train" / "images"


def image_without_mask(dataset: Path, write: Any) -> str:
    masks(dataset)[2].unlink()
    return images(dataset)[2].name


def mask_without_image(dataset: Path, write: Any) -> str:
    images(dataset)[2].unlink()
    return masks(dataset)[2].name


def channel_without_partner(dataset: Path, write: Any) -> Path:
    (dataset / "train" / "nir" / images(dataset)[1].name).unlink()
    return dataset / "train" / "nir"


def sizes_that_differ(dataset: Path, write: Any) -> Path:
    return Path(write(masks(dataset)[1], np.full((16, 32), 255, np.uint8)))


def truncated_image(dataset: Path, write: Any) -> Path:
    path = images(dataset)[3]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def empty_image(dataset: Path, write: Any) -> Path:
    images(dataset)[3].write_bytes(b"")
    return images(dataset)[3]


def truncated_mask(dataset: Path, write: Any) -> Path:
    path = masks(dataset)[3]
    path.write_bytes(path.read_bytes()[:40])
    return path


def mask_with_several_bands(dataset: Path, write: Any) -> Path:
    return Path(write(masks(dataset)[0], np.full((32, 32, 3), 255, np.uint8)))


def other_bands(dataset: Path, write: Any) -> Path:
    return Path(write(images(dataset)[0], np.full((32, 32), 9, np.uint8)))


@pytest.mark.parametrize(
    "spoil",
    [
        no_data_set,
        no_split,
        no_masks_folder,
        no_channel_folder,
        no_images,
        image_without_mask,
        mask_without_image,
        channel_without_partner,
        sizes_that_differ,
        truncated_image,
        empty_image,
        truncated_mask,
        mask_with_several_bands,
        other_bands,
    ],
)
def test_unsound_data_is_told_of_by_file(
    broken: Path,
    write_image: Callable[..., Path],
    run: Run,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path, Any], Path | str],
) -> None:
    guilty = spoil(broken, write_image)
    (line,) = refusal(run, capsys, "-d", broken, "--add-dirs", "nir", *FAST)
    assert str(guilty) in line


def test_both_splits_mistakes_are_told_of_at_once(broken: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    masks(broken)[0].unlink()
    shutil.rmtree(broken / "val" / "images")
    lines = refusal(run, capsys, "-d", broken, *FAST)
    assert len(lines) == 2
    assert str(broken / "train") in lines[0]
    assert str(broken / "val" / "images") in lines[1]


def test_a_class_that_no_mask_contains_is_told_of_with_those_that_they_hold(
    tiles: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refusal(run, capsys, "-d", tiles, "--class-list", "1,255,3", "--loss", "dice", *FAST)
    assert len(lines) == 2
    assert all(line.startswith("classes: ") and "0, 255" in line for line in lines)


# As a process.


def test_help_comes_fast_and_shows_every_setting() -> None:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert time.perf_counter() - start < 5
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for name, field in RunConfig.model_fields.items():
        value = "[VALUE]" if base_type(name) is bool else "VALUE"  # a switch needs none
        assert f"--{name.replace('_', '-')} {value}" in text
        assert field.description in text
        assert ", ".join(choices(name)) in text
    for aliases in ALIASES.values():
        assert all(re.search(rf"(?<!\S){alias}(?!\S)", text) for alias in aliases)
    assert done.stdout.index("python run_single.py -d DATASET") < done.stdout.index("options:")


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_ends_quietly_and_leaves_a_sound_folder(
    tiles: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    line = [sys.executable, str(SCRIPT), "-d", str(tiles), *FAST, "-e", "5000", "-w", "1", "--exp-name", "run"]
    run = subprocess.Popen(
        line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    folder = RunFolder(tmp_path / "logs" / "run")
    limit = time.monotonic() + 90
    while len(folder.metrics()) < 2 and run.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as a terminal does: the loader processes too
    else:
        run.send_signal(number)
    try:
        said, told = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == status, told
    assert "Traceback" not in told
    assert told == ""
    assert said.splitlines()[-1].endswith(f"python {SCRIPT} --exp-name run")
    limit = time.monotonic() + 10  # an ended process counts until somebody has taken note of it
    while _session_lives(run.pid) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not _session_lives(run.pid)  # nobody is left
    assert load_model(folder.best, torch.device("cpu"))[1].config.epochs == 5000
    assert yaml.safe_load(folder.run_yaml.read_text(encoding="utf-8"))["epochs"] == 5000
    assert not [path.name for path in folder.path.iterdir() if ".tmp-" in path.name]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_sigterm_to_a_whole_batch_job_lets_the_run_save_its_state(tiles: Path, tmp_path: Path) -> None:
    line = [sys.executable, str(SCRIPT), "-d", str(tiles), *FAST, "-e", "5000", "-w", "1", "--exp-name", "run"]
    run = subprocess.Popen(
        line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    folder = RunFolder(tmp_path / "logs" / "run")
    limit = time.monotonic() + 90
    while len(folder.metrics()) < 2 and run.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGTERM)  # the loader processes too
    try:
        said, told = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert (run.returncode, told) == (143, "")
    assert said.splitlines()[-1].endswith(f"python {SCRIPT} --exp-name run")
    assert folder.state.is_file()


@pytest.mark.parametrize(
    ("ending", "status", "word"), [(KeyboardInterrupt, 130, "interrupted"), (Terminated, 143, "terminated")]
)
def test_a_run_that_is_ended_while_it_reads_its_tiles_goes_on_with_the_same_line(
    ending: type[BaseException],
    status: int,
    word: str,
    tiles: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ended(*given: object, **more: object) -> None:
        raise ending

    monkeypatch.setattr("segtune.data.scan.scan", ended)
    assert run("-d", tiles, *FAST) == status
    line = " ".join(["-d", str(tiles), *FAST])
    said, hint = capsys.readouterr().err.splitlines()
    assert said == word
    assert re.fullmatch(rf"to go on: (\S*/)?python run_single\.py {re.escape(line)}", hint)
    assert not Path("logs").exists()


def test_a_name_alone_goes_on_and_starts_nothing(first: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--exp-name", "frist", "-log", first.parent) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --exp-name: there is no run")
    assert "did you mean 'first'?" in line
    assert not (first.parent / "frist").exists()


def test_a_log_folder_that_cannot_be_is_told_of_before_any_work(
    tiles: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run("-d", tiles, *FAST, "-log", tmp_path / "file" / "logs") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --log-dir: ")
    assert str(tmp_path / "file") in line


def test_new_folders_are_claimed_when_they_are_named(tmp_path: Path) -> None:
    folders = [RunFolder.new(tmp_path / "logs", "unet") for _ in range(3)]
    assert [folder.path.name for folder in folders] == ["unet", "unet_2", "unet_3"]


def test_settings_that_a_shell_left_empty_are_not_the_current_folder(config_of: ConfigOf) -> None:
    config = config_of("--val-dir", "", "--cache-dir", "")
    assert (config.val_dir, config.cache_dir) == (None, None)


def test_added_validation_sets_add_up(config_of: ConfigOf) -> None:
    assert config_of("--add-val-dirs", "a", "--add-val-dirs", "b, c").add_val_dirs == ["a", "b, c"]


def _session_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("miou", "collapsed", "praised"), [(0.0, 0, False), (0.0, 1, False), (0.17, 1, False), (0.17, 0, True)]
)
def test_an_epoch_that_learnt_nothing_is_not_praised(miou: float, collapsed: int, praised: bool) -> None:
    nothing: dict[str, Any] = dict.fromkeys(field.name for field in fields(EpochResult))
    numbers = dict.fromkeys(("loss", "lr", "train_seconds", "eval_seconds"), 1.0)
    best = {"epoch": 1, "epochs": 3, "best_epoch": 1, "best_miou": miou, "collapsed_epochs": collapsed, "added": {}}
    line = epoch_line(EpochResult(**nothing | numbers | best | {"scores": Scores(miou, {}, None)}))
    assert line.startswith(f"epoch 1/3  loss 1.0000  miou {miou:.4f}")
    assert ("best so far" in line) == praised
