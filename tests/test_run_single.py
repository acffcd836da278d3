"""run_single.py as it is typed: flags and files of settings, and what each mistake ends in."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from segtune import cli
from segtune.checkpoint import load_model
from segtune.config import RunConfig, choices
from segtune.folders import RunFolder
from segtune.runlog import read_metrics

DataSet = Callable[..., Path]
SCRIPT = Path(__file__).parent.parent / "run_single.py"
# Flags of a run that takes a second.
SMALL = ("-m", "unet", "--encoder", "tu-mobilenetv3_small_050", "--image-size", "32")
FAST = (*SMALL, "-b", "3", "-e", "2", "-w", "0", "--device", "cpu")


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
        assert f"--{name.replace('_', '-')} VALUE" in text
        assert field.description in text
        assert ", ".join(choices(name)) in text
    for aliases in cli.ALIASES.values():
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
    while len(read_metrics(folder)) < 2 and run.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as a terminal does: the loader processes too
    else:
        run.send_signal(number)
    try:
        _, told = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == status, told
    assert "Traceback" not in told
    assert told.splitlines()[-1] in ("interrupted", "terminated")
    with pytest.raises(ProcessLookupError):  # nobody of its session is left
        os.killpg(run.pid, 0)
    assert load_model(folder.best, torch.device("cpu"))[1].config.epochs == 5000
    assert yaml.safe_load(folder.run_yaml.read_text(encoding="utf-8"))["epochs"] == 5000
    assert not [path.name for path in folder.path.iterdir() if ".tmp-" in path.name]
