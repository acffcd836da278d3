"""validate.py on folders of smp's save_pretrained without run.yaml: flags say what the model was trained on."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from sklearn.metrics import jaccard_score
from torch import nn

from tests.evaluation.plain import flags, normalized, plain_model
from tests.evaluation.runs import DataSet, Run, Trained, errors, pixels, trained
from tests.evaluation.scenes import picture, write_scene

pytestmark = pytest.mark.usefixtures("blank_charts")

Capsys = pytest.CaptureFixture[str]
SLOW = pytest.mark.slow
KINDS = [
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "DeepLabV3",
    "DeepLabV3Plus",
    "PAN",
    "UPerNet",
    "Segformer",
    "DPT",
]
OTHERS: dict[str, dict[str, Any]] = {
    "Segformer": {"encoder_name": "mit_b0"},
    "DPT": {"encoder_name": "tu-vit_tiny_patch16_224", "dynamic_img_size": True},
}
Models = Callable[[int], Path]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Path:
    """A split of 64 px tiles with labels 0 to 3, which have one more band than most models here."""
    folder = tmp_path_factory.mktemp("plain")
    data_set(folder / "set", train=1, val=3, size=64, labels=(0, 1, 2, 3), suffix=".tif")
    return folder / "set" / "val"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Models of three bands, by their number of outputs."""
    folder = tmp_path_factory.mktemp("models")

    @functools.cache
    def model(outputs: int) -> Path:
        plain_model(folder / str(outputs), outputs)
        return folder / str(outputs)

    return model


def by_hand(model: nn.Module, image: Path) -> torch.Tensor:
    """Return the logits, (outputs, H, W), of smp's own model."""
    model.to(memory_format=torch.channels_last)
    with rasterio.open(image) as file, torch.no_grad():
        images = normalized(torch.from_numpy(file.read()).float()[None])
        return model(images.contiguous(memory_format=torch.channels_last))[0]


def metrics(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [pytest.param(3, [1, 2, 3], marks=SLOW), (4, [1, 2, 3]), pytest.param(4, [0, 1, 2, 3], marks=SLOW)],
)
def test_masks_and_scores_are_those_of_smps_own_model(
    tmp_path: Path, run: Run, split: Path, capsys: Capsys, outputs: int, labels: list[int]
) -> None:
    model = plain_model(tmp_path / "model", outputs)
    given = ["--classes", ",".join(map(str, labels)), *flags()]
    assert run("-c", tmp_path / "model", "-d", split, "-o", tmp_path / "out", "--binary", *given) == 0
    written = np.array(labels if outputs == len(labels) else [0, *labels])
    truth, predicted = [], []
    for image in sorted((split / "images").iterdir()):
        expected = written[by_hand(model, image).argmax(dim=0).numpy()]
        truth.append(pixels(split / "gt" / image.name))
        predicted.append(pixels(tmp_path / "out" / "binary" / image.name))
        assert np.array_equal(predicted[-1], expected)
    assert len(np.unique(predicted)) > 2
    scores = jaccard_score(np.ravel(truth), np.ravel(predicted), labels=labels, average=None, zero_division=0)
    assert metrics(tmp_path / "out")["miou"] == pytest.approx(scores.mean(), abs=1e-9)
    said = " ".join(capsys.readouterr().out.split())
    assert "has no run.yaml: classes, mean and std are those of the flags" in said
    assert "windows of 64x64 pixels (--tile-size)" in said


@pytest.mark.parametrize("activation", [pytest.param(None, marks=SLOW), pytest.param("sigmoid", marks=SLOW)])
def test_one_class_with_its_threshold_and_an_activation(
    tmp_path: Path, run: Run, split: Path, activation: str | None
) -> None:
    model = plain_model(tmp_path / "model", 1, activation=activation)
    given = ["--classes", "2", "--ignore", "1", "-t", "0.4", *flags()]
    assert (
        run("-cd", tmp_path / "model", "-d", split, "-o", tmp_path / "out", "--binary", "--raw", "--no-plots", *given)
        == 0
    )
    for image in sorted((split / "images").iterdir()):
        found = by_hand(model, image)[0]
        likely = (found if activation else found.sigmoid()).numpy()
        with rasterio.open(tmp_path / "out" / "raw" / image.name) as raw:
            assert np.allclose(raw.read(1), likely, atol=1e-4)
        clear = np.abs(likely - 0.4) > 1e-4
        mask = pixels(tmp_path / "out" / "binary" / image.name)
        assert np.array_equal((mask == 2)[clear], (likely > 0.4)[clear])
    found = metrics(tmp_path / "out")
    assert (found["classes"], found["ignore"], found["threshold"], found["image_size"]) == ([2], [1], 0.4, 64)


@pytest.mark.slow
def test_names_a_second_head_channels_and_windows(tmp_path: Path, run: Run, split: Path) -> None:
    plain_model(tmp_path / "model", 4, bands=4, aux_params={"classes": 5})
    given = ["--class-list", "1:road,2:water,3:wood", "--add-dirs", "nir", "--tile-size", "32", *flags(4)]
    assert run("-c", tmp_path / "model", "-d", split, "-o", tmp_path / "out", "--com", *given) == 0
    found = metrics(tmp_path / "out")
    assert found["class_names"] == ["road", "water", "wood"]
    assert (found["channels"], found["image_size"], found["fit"]) == (["nir"], 32, "crop")


def test_scenes_are_predicted_also_with_other_bands(models: Models, tmp_path: Path, run: Run, capsys: Capsys) -> None:
    scene = write_scene(tmp_path / "scene.tif", picture(90, 150, 5))
    given = ["--classes", "1,2,3", "--no-plots", *flags()]
    assert run("-c", models(3), "-d", scene, "-o", tmp_path / "bad", *given) == 2
    assert "--bands says which ones to read" in errors(capsys)[0]
    assert run("-c", models(3), "-d", scene, "-o", tmp_path / "out", "--bands", "4,2,1", *given) == 0
    assert set(np.unique(pixels(tmp_path / "out" / "binary" / "scene.tif"))) == {1, 2, 3}
    assert "windows of 160x160 pixels" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_pixels_of_any_type_are_taken(models: Models, tmp_path: Path, run: Run) -> None:
    image = picture(64, 64)
    for dtype in ("uint8", "uint16", "float32"):
        write_scene(tmp_path / f"{dtype}.tif", image.astype(dtype))
        given = ["-d", tmp_path / f"{dtype}.tif", "-o", tmp_path / "out", "--classes", "1,2,3", *flags()]
        assert run("-c", models(3), *given) == 0
    masks = [pixels(tmp_path / "out" / "binary" / f"{dtype}.tif") for dtype in ("uint8", "uint16", "float32")]
    assert np.array_equal(masks[0], masks[1])
    assert np.array_equal(masks[0], masks[2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_gives_smps_own_logits(tmp_path: Path, run: Run, kind: str) -> None:
    arguments = OTHERS.get(kind, {})
    model = plain_model(tmp_path / "model", 1, kind=kind, **arguments)
    write_scene(tmp_path / "tile.tif", picture(128, 128))
    given = ["--classes", "1", *flags(), "--raw"]
    assert run("-c", tmp_path / "model", "-d", tmp_path / "tile.tif", "-o", tmp_path / "out", *given) == 0
    with rasterio.open(tmp_path / "out" / "raw" / "tile.tif") as raw:
        assert np.allclose(raw.read(1), by_hand(model, tmp_path / "tile.tif")[0].sigmoid(), atol=1e-4)


@pytest.mark.slow
def test_two_such_models_are_compared_and_one_is_exported(
    tmp_path: Path, run: Run, split: Path, capsys: Capsys
) -> None:
    for name in ("a", "b"):
        plain_model(tmp_path / name, 3, decoder_interpolation="bilinear" if name == "b" else "nearest")
    given = ["--com", "--compare", tmp_path / "b", "--export", "torchscript", "--classes", "1,2,3", *flags()]
    assert run("-c", tmp_path / "a", "-d", split, "-o", tmp_path / "out", *given) == 0
    assert "comparison" in metrics(tmp_path / "out")
    assert (tmp_path / "out" / "model.torchscript.pt").is_file()
    assert "largest difference" in capsys.readouterr().out


def test_missing_flags_are_named_with_an_example_that_suits(
    tmp_path: Path, run: Run, split: Path, capsys: Capsys
) -> None:
    plain_model(tmp_path / "model", 2, bands=4)
    assert run("-c", tmp_path / "model", "-d", split, "--mean", "1,2,3,4") == 2
    (line,) = errors(capsys)
    assert line.startswith(
        f"error: {tmp_path / 'model'}: has no run.yaml, so flags say what the model was trained on; "
    )
    assert "missing: --classes and --std; an example for its 2 outputs and 4 bands, in pixel values: " in line
    assert "--classes 1,2 --mean 123.7,116.3,103.5,123.7 --std 58.4,57.1,57.4,58.4" in line


@pytest.mark.parametrize(
    ("outputs", "given", "line"),
    [
        (3, "--classes 1", "--classes: {} has 3 outputs, which are 3 labels, or 2 if the first output is background"),
        (2, "--classes 1", "(one class with a background of its own is two classes)"),
        (1, "--classes 1,2", "--classes: {} has 1 output, which are 1 label; but got 2"),
        (1, "--classes 1 --mean 1,2", "--mean: needs a value for each band that {} takes, 3, but got 2"),
        (1, "--classes 1 --std 1,2,0", "--std: must be above 0, but got 0"),
        (1, "--classes 1 --std 1,2,x", "--std: needs numbers, one for each band, such as 123.7,116.3,103.5, but got"),
        (1, "--classes 1 --std 1,2,inf", "--std: needs numbers, one for each band"),
        (1, "--classes a", "classes"),
        (1, "--classes 1 --channels nir,dem,sar", "--channels: lists 3, but {} takes 3 bands in all"),
        (1, "--classes 1 --ignore 1", "classes"),
        (1, "--classes 1 --store-threshold", "--store-threshold: {} has no run.yaml to store it in"),
        (1, "--classes 1 --tile-size 0", "--tile-size: "),
    ],
)
def test_flags_that_do_not_suit_the_model_are_refused(
    models: Models, tmp_path: Path, run: Run, split: Path, capsys: Capsys, outputs: int, given: str, line: str
) -> None:
    model = models(outputs)
    words = given.split()
    others = [word for word in zip(flags()[::2], flags()[1::2], strict=True) if word[0] not in words]
    command = [*words, *(part for pair in others for part in pair)]
    assert run("-c", model, "-d", split, "-o", tmp_path / "out", *command) == 2
    (error,) = errors(capsys)
    assert line.format(model) in error
    assert not (tmp_path / "out").exists()


def test_statistics_from_0_to_1_are_answered_in_pixel_values(
    models: Models, tmp_path: Path, run: Run, split: Path, capsys: Capsys
) -> None:
    scaled = ["--classes", "1", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    for place in (split, split / "images", split / "images" / "000.tif"):
        assert run("-c", models(1), "-d", place, "-o", tmp_path / "out", *scaled) == 2
        (line,) = errors(capsys)
        assert "are uint8: give both times 255, --mean 123.675,116.28,103.53 --std 58.395,57.12,57.375" in line
    wide = write_scene(tmp_path / "wide.tif", picture(64, 64).astype("uint16"))
    assert run("-c", models(1), "-d", wide, "-o", tmp_path / "out", *scaled) == 2
    assert "times what the training divided by" in errors(capsys)[0]
    real = write_scene(tmp_path / "real.tif", picture(64, 64).astype("float32") / 255)
    assert run("-c", models(1), "-d", real, "-o", tmp_path / "out", *scaled) == 0


def test_a_size_that_the_network_does_not_take(tmp_path: Path, run: Run, split: Path, capsys: Capsys) -> None:
    plain_model(tmp_path / "model", 1, kind="FPN")
    given = ["--classes", "1", "--tile-size", "50", *flags()]
    assert run("-c", tmp_path / "model", "-d", split, "-o", tmp_path / "out", *given) == 2
    (line,) = errors(capsys)
    assert line.endswith("config.json: --tile-size 50 is not a multiple of 32, which model fpn needs")


@pytest.mark.slow
def test_a_size_that_the_network_of_a_run_does_not_take(
    tmp_path: Path, run: Run, data_set: DataSet, capsys: Capsys
) -> None:
    case = trained(
        data_set(tmp_path / "set", channels=()),
        tmp_path / "run",
        channels=[],
        epochs=1,
        model="fpn",
        decoder_channels=None,
    )
    assert run("-cd", case.folder, "-d", case.val, "-o", tmp_path / "out", "--tile-size", "50") == 2
    (line,) = errors(capsys)
    assert line.startswith("error: --tile-size: the network does not take 50 pixels (")


def test_flags_for_a_model_that_has_a_run_yaml_are_refused(
    binary: Trained, tmp_path: Path, run: Run, capsys: Capsys
) -> None:
    given = ["--classes", "255", "--mean", "1,2,3"]
    assert run("-cd", binary.folder, "-d", binary.val, "-o", tmp_path / "out", *given) == 2
    (line,) = errors(capsys)
    best = binary.folder / "best"
    assert line == (
        f"error: --classes: {best} has a run.yaml, which says what it was trained on; leave out --classes, --mean"
    )
