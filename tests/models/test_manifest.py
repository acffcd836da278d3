"""run.yaml: a manifest round-trips, and each mistake in the file gives one line."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from segtune.config import RunConfig
from segtune.models.manifest import Manifest
from tests.models.saved import refused


def test_a_run_yaml_that_is_no_yaml_is_named(saved: Path) -> None:
    (saved / "run.yaml").write_bytes(b"model: [unet\n")
    assert str(saved / "run.yaml") in refused(saved)
    (saved / "run.yaml").write_bytes(b"\xff\xfe\x00")
    assert str(saved / "run.yaml") in refused(saved)


def test_a_missing_run_yaml_is_named(saved: Path) -> None:
    (saved / "run.yaml").unlink()
    assert refused(saved).startswith(f"{saved}: has no run.yaml")


@pytest.mark.parametrize("content", [None, [], "text", 3, {"model": "unet"}])
def test_a_run_yaml_that_holds_something_else_is_named(saved: Path, content: object) -> None:
    (saved / "run.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert str(saved / "run.yaml") in refused(saved)


@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("data", None),
        ("data", {"fingerprint": "x", "uint8": True}),
        ("data", {"fingerprint": "x", "uint8": True, "labels": {"classes": [1]}}),
        ("data", {"fingerprint": "x", "uint8": True, "labels": None}),
        ("data", {"fingerprint": "x", "uint8": True, "labels": [1]}),
        ("bands", None),
        ("bands", [{"name": "image:1"}]),
        ("bands", [1]),
        ("evaluation", {}),
        ("evaluation", "fp32"),
        ("model", "unett"),
        ("image_size", "32"),
    ],
)
def test_a_run_yaml_that_was_changed_beyond_use_is_named(saved: Path, section: str, content: object) -> None:
    path = saved / "run.yaml"
    path.write_text(
        yaml.safe_dump(yaml.safe_load(path.read_text(encoding="utf-8")) | {section: content}), encoding="utf-8"
    )
    assert str(path) in refused(saved)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("image_size", None, "image_size"),
        ("encoder", "tu-hf_hub:user/model", "unknown encoder"),
        ("model", "dpt", "dpt"),
        ("classes", [3], "data.labels.classes"),
        ("channels", ["other"], "channels"),
        ("evaluation.threads", -1, "evaluation.threads"),
        ("evaluation.threads", 10**9, "evaluation.threads"),
        ("evaluation.threads", "two", "evaluation.threads"),
        ("evaluation.batch_size", 0, "evaluation.batch_size"),
        ("evaluation.precision", "int3", "evaluation.precision"),
        ("bands", [], "bands"),
        ("bands.0.std", 0.0, "bands.0.std"),
        ("bands.0.mean", math.nan, "bands.0.mean"),
        ("data.labels.background", 3, "data.labels.background"),
        ("data.tiles", 3, "data.tiles"),
        ("metrics", [1], "metrics"),
    ],
)
def test_wrong_values_in_a_run_yaml_are_one_line(saved: Path, name: str, value: object, named: str) -> None:
    path = saved / "run.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    *way, last = (int(part) if part.isdigit() else part for part in name.split("."))
    place = content
    for part in way:
        place = place[part]
    place[last] = value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    message = refused(saved)
    assert message.startswith(f"{path}: ")
    assert named in message


def test_a_manifest_round_trips_and_is_a_file_of_settings(tmp_path: Path, manifest: Manifest) -> None:
    manifest.write(tmp_path / "run.yaml")
    assert Manifest.read(tmp_path / "run.yaml") == manifest
    text = (tmp_path / "run.yaml").read_text(encoding="utf-8")
    assert list(yaml.safe_load(text))[: len(RunConfig.model_fields)] == list(RunConfig.model_fields)
    assert "höhe" in text


@pytest.mark.parametrize("digest", ["92452292e072", "123456789012", "000000000000", "1e1234567890"])
def test_a_fingerprint_that_looks_like_a_number_stays_a_text(tmp_path: Path, manifest: Manifest, digest: str) -> None:
    replace(manifest, fingerprint=digest).write(tmp_path / "run.yaml")
    assert Manifest.read(tmp_path / "run.yaml").fingerprint == digest


def test_metrics_survive_as_numbers(tmp_path: Path, manifest: Manifest) -> None:
    manifest.with_metrics({"miou": 1e-7, "loss": math.pi}).write(tmp_path / "run.yaml")
    assert Manifest.read(tmp_path / "run.yaml").metrics == {"miou": 1e-7, "loss": math.pi}
