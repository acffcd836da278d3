"""Mistakes in a run's command line: a line each, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.runs import FAST, Plain, Run, refusal, refused


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
def test_a_wrong_setting_is_reported_in_one_line(
    tiles: Path, run: Run, capsys: pytest.CaptureFixture[str], flags: list[str], words: list[str]
) -> None:
    (line,) = refusal(run, capsys, "-d", tiles, *flags)
    for word in words:
        assert word in line


def test_all_wrong_settings_are_reported_at_once(tiles: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
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
        ("- epochs\n", ["holds no settings"]),
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


@pytest.mark.parametrize(
    ("gpus", "flags", "mistake"),
    [
        (0, ["--gpus", "2"], "gpus: 2 were asked for, but torch sees 0 GPUs here"),
        (1, ["--gpus", "2"], "gpus: 2 were asked for, but torch sees 1 GPU here"),
        (4, ["--gpus", "2", "--device", "cpu"], "gpus: 2 were asked for, but device is cpu; leave one of them out"),
        (4, ["--gpus", "2", "--device", "cuda:1"], "device: cuda:1 is one GPU, but gpus is 2; CUDA_VISIBLE_DEVICES"),
        (4, ["--gpus", "0"], "gpus: "),
    ],
)
def test_gpus_that_cannot_be_had_are_reported(
    tiles: Path,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    flags: list[str],
    mistake: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    (line,) = refusal(run, capsys, "-d", tiles, "--precision", "fp32", *flags)
    assert mistake in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_reported(tiles: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refusal(run, capsys, "-d", tiles, "--device", "cuda:1")
    assert line.startswith("device: cuda:1")


def test_weights_that_cannot_be_downloaded_are_reported(
    tiles: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (line,) = refusal(run, capsys, "-d", tiles, *FAST, "--encoder", "resnet18", "--encoder-weights", "imagenet")
    assert "resnet18" in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cpu", "--device", "cuda"], ["device", "--cpu", "cuda"]),
        (["--max-mask-val", "3", "--class-list", "255"], ["classes", "--max-mask-val", "--class-list"]),
        (["--max-mask-val", "-1"], ["--max-mask-val", "-1"]),
        (["--rgb", "1,2,7"], ["rgb", "band 7", "3"]),
        (["--rgb", "1,2"], ["rgb", "three"]),
        (["--rgb", "0,1,2"], ["rgb", "0"]),
        (["--fit", "stretch"], ["fit", "'stretch'", "resize"]),
        (["--samples-per-epoch", "0"], ["samples_per_epoch", "0"]),
        (["--val-samples", "0"], ["val_samples", "0"]),
        (["--limit-tiles", "0"], ["limit_tiles", "0"]),
        (["--worst", "-1"], ["worst", "-1"]),
        (["--worst", "65"], ["worst", "65"]),
        (["--preview-augmentation", "0"], ["--preview-augmentation", "0"]),
        (["--preview-augmentation", "1000"], ["--preview-augmentation", "1000"]),
        (["--preview-augmentation", "few"], ["--preview-augmentation", "few"]),
        (["--val-dir", "missing/val"], ["missing/val"]),
        (["--add-val-dirs", "missing.txt"], ["missing.txt"]),
        (["--adv-freq", "0"], ["adv_freq", "0"]),
        (["--use-only-add-val"], ["use_only_add_val", "add_val_dirs"]),
        (["--images-dir", "a/b"], ["images_dir"]),
        (["--images-dir", "gt"], ["images_dir", "masks_dir"]),
        (["--freeze-encoder-epochs", "2"], ["freeze_encoder_epochs", "epochs"]),
        (["--encoder-lr-factor", "0"], ["encoder_lr_factor", "0"]),
        (["--encoder-weights", "missing.pth"], ["encoder_weights", "missing.pth"]),
        (["--normalization", "imagenet"], ["normalization", "'imagenet'"]),
        (["--normalization", "encoder", "--rgb", "2"], ["normalization", "rgb"]),
        (["--trial", "3"], ["--trial", "--from-search"]),
        (["--from-search", "nowhere"], ["nowhere", "no search"]),
        (["--from-search", "nowhere", "--config", "run.yaml"], ["--config", "--from-search"]),
        (["--exp-name", "a/b"], ["--exp-name", "a/b"]),
        *(
            ([flag, text], ["ile name too long"])
            for flag in ("--config", "--from-search", "--val-dir", "--add-val-dirs", "--encoder-weights", "--cache-dir")
            for text in ("x/" * 2100, "x" * 256)
        ),
        (["--exp-name", "x" * 256], ["--exp-name", "too long", "255 bytes"]),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_wrong_flag_is_reported_in_one_line(
    plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = refused(plain.dataset, tmp_path / "logs", *flags)
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_log_folder_is_reported_before_any_work(
    tiles: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run("-d", tiles, *FAST, "-log", tmp_path / "file" / "logs") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --log-dir: ")
    assert str(tmp_path / "file") in line
