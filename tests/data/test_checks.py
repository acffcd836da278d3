"""What a scan says of a data set as a whole: labels, lossy masks, fill values, classes that are absent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from segtune.config import RunConfig
from segtune.data.reading import read_image, read_mask
from segtune.data.scan import scan
from segtune.errors import InputError
from tests.conftest import WriteDataSet, WriteImage

Mask = npt.NDArray[Any]


def said(root: Path, **settings: Any) -> list[str]:
    """The lines of a scan that are not about the cache."""
    lines: list[str] = []
    scan(RunConfig(dataset=str(root), **settings), say=lines.append)
    return [line for line in lines if not line.startswith("decoding tiles")]


def refused(root: Path, **settings: Any) -> str:
    """The first mistake, which is of the training tiles."""
    with pytest.raises(InputError) as caught:
        said(root, **settings)
    return caught.value.mistakes[0]


def with_masks(root: Path, write_image: WriteImage, change: Callable[[Mask], Mask], suffix: str = ".png") -> Path:
    """Replace every mask of a data set."""
    for path in sorted(root.glob("*/gt/*")):
        mask = change(read_mask(path).astype(np.uint8))
        path.unlink()
        image = next((path.parent.parent / "images").glob(f"{path.stem}.*"))
        write_image(image, cv2.resize(read_image(image)[0], mask.shape[::-1]))
        write_image(path.with_suffix(suffix), mask)
    return root


# Labels that nobody named.


def test_unnamed_labels_are_told_with_their_shares(tmp_path: Path, data_set: WriteDataSet) -> None:
    root = data_set(tmp_path, labels=(0, 1, 2, 3), channels=())
    (line,) = said(root, classes=[1])
    assert line.startswith("labels that count as background")
    assert [label in line for label in (" 0 (", " 2 (", " 3 (", " 1 (")] == [True, True, True, False]
    (line,) = said(root, classes=[1], ignore=[3])
    assert " 3 (" not in line
    counts = np.bincount(np.concatenate([read_mask(path).ravel() for path in root.glob("*/gt/*")]))
    assert f" 2 ({counts[2] / counts.sum():.2%})" in line


@pytest.mark.parametrize("settings", [{"classes": [1, 2, 3]}, {"classes": [1], "ignore": [2, 3]}])
def test_what_is_as_usual_is_told_without_a_word(
    tmp_path: Path, data_set: WriteDataSet, settings: dict[str, Any]
) -> None:
    assert said(data_set(tmp_path, labels=(0, 1, 2, 3), channels=()), **settings) == []


def test_a_negative_label_that_is_not_named_is_told(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage
) -> None:
    root = data_set(tmp_path, channels=(), suffix=".tif")
    for path in root.glob("*/gt/*"):
        write_image(path, np.where(read_mask(path) == 255, 1, -1).astype(np.int16))
    (line,) = said(root, classes=[1])
    assert " -1 (" in line
    assert said(root, classes=[1], ignore=[-1]) == []


# Masks that lost their values.


def jpeg(quality: int) -> Callable[[Mask], Mask]:
    def change(mask: Mask) -> Mask:
        data = cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))

    return change


def resized(factor: float, method: int) -> Callable[[Mask], Mask]:
    return lambda mask: np.asarray(cv2.resize(mask, None, fx=factor, fy=factor, interpolation=method))


LOSSY = {
    "jpeg": (jpeg(75), (0, 255)),
    "fine jpeg": (jpeg(95), (0, 255)),
    "coarse jpeg": (jpeg(30), (0, 255)),
    "jpeg of labels": (jpeg(90), (10, 60, 110)),
    "enlarged": (resized(2, cv2.INTER_LINEAR), (0, 255)),
    "shrunk": (resized(0.5, cv2.INTER_AREA), (0, 255)),
    "cubic": (resized(1.5, cv2.INTER_CUBIC), (0, 255)),
    "labels enlarged": (resized(4, cv2.INTER_LINEAR), (10, 60, 110)),
    "smooth edges": (lambda mask: np.asarray(cv2.GaussianBlur(mask, (3, 3), 0)), (0, 255)),
}


@pytest.mark.parametrize("how", LOSSY)
def test_masks_that_look_lossy_or_resampled_are_named_with_what_to_do(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage, how: str
) -> None:
    change, labels = LOSSY[how]
    root = data_set(tmp_path, train=2, val=1, size=96, labels=labels, channels=())
    assert said(root, classes=list(labels[1:])) == ([] if labels[0] == 0 else said(root, classes=list(labels[1:])))
    with_masks(root, write_image, change)
    lines = said(root, classes=list(labels[1:]))
    (warning,) = (line for line in lines if "lossy or resampled" in line)
    assert warning.startswith("warning: 3 of 3 masks")
    assert str(root / "train" / "gt" / "000.png") in warning
    assert "nearest neighbour" in warning
    assert any(line.startswith("labels that count as background") for line in lines)
    assert said(root, classes=list(labels[1:])) == lines  # also when the cache knows the tiles


def speckled(mask: Mask, labels: int) -> Mask:
    """Areas of many labels, and single pixels of others, as classifiers of pixels give them."""
    random = np.random.default_rng(int(mask.sum()))
    points, of = random.integers(0, 96, (30, 2)), random.integers(0, labels, 30)
    rows, columns = np.mgrid[:96, :96]
    areas = of[((rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2).argmin(axis=2)]
    noise = random.random(areas.shape) < 0.1
    return np.where(noise, random.integers(0, labels, areas.shape), areas).astype(np.uint8)


def instances(mask: Mask, labels: int) -> Mask:
    """Small objects, each with a number of its own."""
    random, drawn = np.random.default_rng(int(mask.sum())), np.zeros((96, 96), np.uint8)
    for number in range(1, labels):
        cv2.circle(drawn, tuple(map(int, random.integers(0, 96, 2))), int(random.integers(2, 6)), number, -1)
    return drawn


@pytest.mark.parametrize("labels", [8, 40])
@pytest.mark.parametrize("draw", [speckled, instances])
def test_masks_with_many_real_labels_do_not_look_lossy(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage, draw: Callable[[Mask, int], Mask], labels: int
) -> None:
    root = with_masks(data_set(tmp_path, 4, 2, 96, channels=()), write_image, lambda mask: draw(mask, labels))
    assert not [line for line in said(root, classes=[labels // 2], ignore=[0]) if "lossy" in line]


def test_classes_that_keep_less_than_half_of_shaded_pixels_are_refused(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage
) -> None:
    thin = np.zeros((64, 64), np.uint8)
    for offset in range(-60, 60, 12):
        cv2.line(thin, (0, offset), (63, offset + 50), 255, 1, cv2.LINE_AA)
    cv2.circle(thin, (50, 50), 3, 255, -1)
    root = with_masks(data_set(tmp_path, 2, 1, 64, channels=()), write_image, lambda mask: thin)
    text = refused(root)
    kept, wanted = (thin == 255).sum(), (thin > 127).sum()
    assert f"255 keep only {kept / wanted:.0%}" in text
    assert str(root / "train" / "gt") in text
    assert "nearest neighbour" in text


def test_grey_masks_are_told_by_their_most_frequent_values(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage
) -> None:
    root = with_masks(data_set(tmp_path, 3, 2, 64, channels=()), write_image, lambda mask: jpeg(50)(mask // 255 * 120))
    text = refused(root)
    assert "contains 255; the masks hold 0 (" in text
    assert "%)" in text
    assert "look grey" in text


def as_jpegs(root: Path, label: int, quality: int) -> Path:
    for path in sorted(root.glob("*/gt/*")):
        mask = read_mask(path) // 255 * label
        path.unlink()
        assert cv2.imwrite(str(path.with_suffix(".jpg")), mask, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return root


def test_jpeg_masks_whose_labels_lie_close_are_told(tmp_path: Path, data_set: WriteDataSet) -> None:
    root = as_jpegs(data_set(tmp_path, size=64, channels=()), 3, quality=95)
    warning, labels = said(root, classes=[3])
    assert warning.startswith("warning: masks are JPEGs, which change labels; write them without loss")
    assert " 2 (" in labels
    as_jpegs(root, 0, quality=95)
    assert "the masks hold 0, and are JPEGs: write them without loss" in refused(root, classes=[3])


def test_many_labels_are_told_by_frequency_and_are_not_called_grey(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage
) -> None:
    root = with_masks(data_set(tmp_path, 3, 2, 96, channels=()), write_image, lambda mask: speckled(mask, 40))
    assert "grey" not in refused(root)


# Classes that no validation mask contains.


def test_a_class_that_no_mask_of_a_validation_set_contains_is_one_warning(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage
) -> None:
    root = data_set(tmp_path / "set", labels=(0, 1, 2, 3), channels=())
    north = shutil.copytree(root / "val", tmp_path / "north")
    for split, label in ((root / "val", 3), (north, 2)):
        for path in (split / "gt").iterdir():
            mask = read_mask(path)
            write_image(path, np.where(mask == label, 0, mask).astype(np.uint8))
    (line,) = said(root, classes=[1, 2, 3])
    assert line.startswith("warning: no mask contains 3 (in ")
    *copies, line = said(root, classes=[1, 2, 3], add_val_dirs=[str(north)])
    assert [line.split(":")[1] for line in copies] == [" the same pixels in val and add_val/north"]
    assert f"3 (in {root / 'val' / 'gt'})" in line
    assert f"2 (in {north / 'gt'})" in line
    (line,) = said(root, classes=[1, 2, 3], add_val_dirs=[str(north)], use_only_add_val=True)
    assert "3 (in" not in line


# Values that may stand for no data.


def filled(root: Path, write_image: WriteImage, folder: str, value: float, share: float = 0.1) -> Path:
    """Put a value into a share of the pixels of a folder's tiles."""
    for path in sorted((root / "train" / folder).iterdir()):
        image = read_image(path)[0].copy()
        image[: round(share * len(image))] = value
        write_image(path, image)
    return root


@pytest.mark.parametrize(
    ("dtype", "folder", "value"),
    [
        ("int16", "images", -9999),
        ("int16", "images", -32768),
        ("int16", "nir", -9999),
        ("uint16", "images", 65535),
        ("float32", "images", -9999),
        ("float32", "nir", 3.4028235e38),
        ("float32", "images", -3.4028235e38),
        ("float64", "images", -9999.9),
    ],
)
def test_an_undeclared_fill_value_is_one_line_with_the_setting(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage, dtype: str, folder: str, value: float
) -> None:
    root = data_set(tmp_path, dtype=dtype, suffix=".tif")
    assert said(root, channels=["nir"]) == []
    (line,) = said(filled(root, write_image, folder, value), channels=["nir"])
    assert line.startswith(f"warning: the value {value} is far outside the rest in ")
    assert ("nir (" in line) == (folder == "nir")
    assert f"--set nodata={value}" in line
    assert ("counts where all bands" in line) == (value == 65535)
    assert said(root, channels=["nir"], nodata=value) == []


def test_a_fill_value_is_told_though_the_cache_knows_the_tiles(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage
) -> None:
    root = filled(data_set(tmp_path, dtype="int16", suffix=".tif"), write_image, "images", -9999)
    assert said(root) == said(root) != []


def test_two_fill_values_are_two_lines(tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage) -> None:
    root = data_set(tmp_path, dtype="float32", suffix=".tif")
    filled(filled(root, write_image, "images", -9999, 0.2), write_image, "images", 1e20)
    assert [line.split()[3] for line in said(root)] == ["-9999", "1e+20"]


@pytest.mark.parametrize("values", [[-9999, 7], [-9999, 1, 2], [-32768, 0, 10, 20], [-9999, *range(0, 30_000, 100)]])
def test_a_usual_fill_value_is_told_beside_few_values_and_wide_ranges(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage, values: list[int]
) -> None:
    root = data_set(tmp_path, dtype="int16", suffix=".tif")
    random = np.random.default_rng(0)
    for path in (root / "train" / "nir").iterdir():
        write_image(path, random.choice(np.array(values, np.int16), (32, 32)))
    (line,) = said(root, channels=["nir"])
    assert line.startswith(f"warning: the value {values[0]} is far outside the rest in nir (")


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", [0, 255]),  # a drawn channel
        ("uint8", [0, 1, 2]),
        ("uint8", [10, 30, 50, 70, 100]),
        ("uint8", [0, *range(60, 256)]),  # borders that are black
        ("float32", [0.0, *np.linspace(2.5, 40, 50)]),  # heights of houses
        ("int16", [-500, *range(-300, 9000, 7), 9300]),
    ],
)
def test_values_that_a_band_can_have_are_no_fill_values(
    tmp_path: Path, data_set: WriteDataSet, write_image: WriteImage, dtype: str, values: list[float]
) -> None:
    root = data_set(tmp_path, dtype=dtype, suffix=".tif")
    random = np.random.default_rng(0)
    for path in root.glob("*/nir/*"):
        write_image(path, random.choice(np.array(values, dtype), (32, 32)))
    assert said(root, channels=["nir"]) == []
