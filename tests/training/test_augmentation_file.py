"""A run with transforms from a file and mixed tiles: its text belongs to the run, which goes on exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.files.folders import RunFolder
from segtune.models.manifest import Manifest
from segtune.training.resume import transforms_of
from tests.training.runs import curve_of, refusal, run, small_pspnet

TEXT = """
- {__class_fullname__: Affine, rotate: [-40, 40], p: 0.9}
- __class_fullname__: OneOf
  p: 0.8
  transforms:
  - {__class_fullname__: GaussNoise}
  - {__class_fullname__: ColorJitter}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def mixed(seven: Path, file: Path) -> RunConfig:
    return small_pspnet(seven, augmentation=str(file), mix="copy_paste", mix_probability=0.7, batch_size=3)


def test_a_run_goes_on_exactly_even_without_its_file(mixed: RunConfig, file: Path, tmp_path: Path) -> None:
    run(mixed, tmp_path / "whole")
    run(mixed, tmp_path / "broken", epochs=1)
    section = yaml.safe_load(RunFolder(tmp_path / "broken").run_yaml.read_text())["augmentation_file"]
    assert section["text"] == TEXT
    assert len(section["sha256"]) == 64
    file.unlink()
    run(mixed, tmp_path / "broken", go_on=True)
    assert curve_of(tmp_path / "broken") == curve_of(tmp_path / "whole")
    manifest = Manifest.read(RunFolder(tmp_path / "broken").run_yaml)
    assert manifest.transforms
    assert manifest.transforms.text == TEXT


def test_a_run_is_refused_with_a_file_that_changed(mixed: RunConfig, file: Path, tmp_path: Path) -> None:
    run(mixed, tmp_path / "run", epochs=1)
    file.write_text(TEXT + "\n# more\n")
    mistake = refusal(mixed, tmp_path / "run")
    assert f"{file} changed since the run began" in mistake
    assert "augmentation_file" in mistake
    with pytest.raises(InputError, match="changed since the run began"):
        transforms_of(mixed, RunFolder(tmp_path / "run"))
    assert transforms_of(mixed, None)
    run(mixed, tmp_path / "run", epochs=1)  # a new run in its place


def test_a_file_that_is_missing_ends_a_new_run_before_it_writes(mixed: RunConfig, file: Path, tmp_path: Path) -> None:
    file.unlink()
    with pytest.raises(InputError, match="no such file"):
        run(mixed, tmp_path / "run")
    assert not RunFolder(tmp_path / "run").run_yaml.exists()
