"""python -m segtune.tools relabel: other labels, to the pixel, or one line that says why not."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from PIL import Image

from segtune.data.alignment import read_georeference
from segtune.data.reading import read_mask
from tests.conftest import WriteImage
from tests.scripts import Ended, call

PLACE = {"crs": "EPSG:32652", "transform": Affine(10, 0, 500000, 0, -10, 4000000)}
LABELS = np.array([[0, 255, 255], [7, 0, 255]], np.uint8)
RED, GREEN, BLACK = (255, 0, 0), (0, 200, 0), (0, 0, 0)


def relabel(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "relabel", *arguments)


def files(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if Path(folder).is_dir() else []


def palette_png(path: Path, indices: npt.NDArray[np.uint8], colours: list[tuple[int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices)
    picture.putpalette([number for colour in colours for number in colour])
    picture.save(path)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_labels_become_others_in_the_same_format(write_image: WriteImage, suffix: str) -> None:
    write_image(Path(f"gt/a{suffix}"), LABELS)
    ended = relabel("gt", "--labels", "255:1", "0:2", "7:0", "--to", "new")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "gt -> new: 1 mask",
        "  255 -> 1: 50.00% of the pixels, in 1 mask",
        "  0 -> 2: 33.33% of the pixels, in 1 mask",
        "  7 -> 0: 16.67% of the pixels, in 1 mask",
        "all masks are written",
    ]
    assert files("new") == [f"a{suffix}"]
    assert read_mask(Path(f"new/a{suffix}")).tolist() == [[2, 1, 1], [0, 2, 1]]
    assert np.array_equal(read_mask(Path(f"gt/a{suffix}")), LABELS)


def test_place_nodata_and_colour_table_are_kept(write_image: WriteImage) -> None:
    write_image(Path("gt/a.tif"), LABELS, nodata=255, photometric="palette", **PLACE)
    with rasterio.open("gt/a.tif", "r+") as mask:
        mask.write_colormap(1, {0: (*BLACK, 255), 7: (*GREEN, 255), 255: (*RED, 255)})
    assert relabel("gt", "--labels", "255:3", "0:1", "7:1", "--to", "new").status == 0
    with rasterio.open("new/a.tif") as mask:
        assert (mask.crs.to_epsg(), mask.transform) == (32652, PLACE["transform"])
        assert mask.nodata == 3  # what the old nodata value became
        assert (mask.colormap(1)[3][:3], mask.colormap(1)[1][:3]) == (RED, BLACK)
        assert mask.dtypes == ("uint8",)
    assert relabel("gt", "--labels", "255:1", "0:1", "7:2", "--to", "joined").status == 0
    with rasterio.open("joined/a.tif") as mask:
        assert mask.nodata is None  # another label became the same one


def test_missing_data_get_the_label_that_is_given(write_image: WriteImage) -> None:
    values = np.array([[1.0, np.nan], [2.0, 1.0]], np.float32)
    write_image(Path("gt/a.tif"), values)
    (mistake,) = relabel("gt", "--labels", "1:1", "2:2", "--to", "new").mistakes
    assert mistake.startswith("gt: pixels without data have no label: 1 pixel in 1 mask, such as gt/a.tif")
    assert relabel("gt", "--labels", "1:1", "2:2", "nodata:300", "--to", "new").status == 0
    with rasterio.open("new/a.tif") as mask:
        assert (mask.read(1).tolist(), mask.nodata, mask.dtypes) == ([[1, 300], [2, 1]], 300, ("uint16",))


def test_labels_of_palettes_that_differ_are_told(write_image: WriteImage) -> None:
    indices = np.repeat(np.arange(3, dtype=np.uint8)[:, None], 3, axis=1)
    palette_png(Path("gt/a.png"), indices, [BLACK, RED, GREEN])
    palette_png(Path("gt/b.png"), indices, [BLACK, RED, GREEN])
    words = ("gt", "--labels", "0:0", "1:1", "2:2", "--dry-run", "--to", "new")
    assert "palettes" not in relabel(*words).out
    palette_png(Path("gt/b.png"), indices, [BLACK, GREEN, RED])
    (line,) = [line for line in relabel(*words).out.splitlines() if "palettes" in line]
    red, green = (",".join(map(str, colour)) for colour in (RED, GREEN))
    assert line.startswith("  warning: gt: the palettes differ, so 1 may mean different things: ")
    assert f"it is {red} in a.png and {green} in b.png" in line


def test_colours_become_labels_whatever_the_palette(write_image: WriteImage) -> None:
    indices = np.array([[0, 1], [2, 2]], np.uint8)
    palette_png(Path("gt/a.png"), indices, [BLACK, RED, GREEN])
    palette_png(Path("gt/b.png"), indices, [GREEN, BLACK, RED])
    write_image(Path("gt/c.png"), np.array([[RED, GREEN], [BLACK, BLACK]], np.uint8))
    write_image(Path("gt/d.tif"), np.array([[GREEN, GREEN], [RED, BLACK]], np.uint8), photometric="RGB", **PLACE)
    ended = relabel("gt", "--labels", "0,0,0:0", "#ff0000:1", "0,200,0:2", "--to", "new")
    assert (ended.status, ended.err) == (0, "")
    found = {name: read_mask(Path("new", name)).tolist() for name in files("new")}
    assert found == {
        "a.png": [[0, 1], [2, 2]],
        "b.png": [[2, 0], [1, 1]],
        "c.png": [[1, 2], [0, 0]],
        "d.tif": [[2, 2], [1, 0]],
    }
    for name in ("a.png", "b.png"):  # one palette by now
        with rasterio.open(f"new/{name}") as mask:
            assert [mask.colormap(1)[label][:3] for label in range(3)] == [BLACK, RED, GREEN]
    with rasterio.open("new/d.tif") as mask:
        assert (mask.count, mask.crs.to_epsg()) == (1, 32652)


def test_transparent_pixels_have_no_data(write_image: WriteImage) -> None:
    write_image(Path("gt/a.png"), np.array([[[*RED, 255], [*RED, 0]]], np.uint8))
    (mistake,) = relabel("gt", "--labels", "255,0,0:1", "--to", "new").mistakes
    assert "pixels without data have no label: 1 pixel" in mistake
    assert relabel("gt", "--labels", "255,0,0:1", "nodata:9", "--to", "new").status == 0
    assert read_mask(Path("new/a.png")).tolist() == [[1, 9]]


def test_grey_is_cut_at_the_thresholds_to_the_pixel(write_image: WriteImage) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_image(Path("gt/a.png"), ramp)
    write_image(Path("gt/b.png"), np.repeat(ramp[..., None], 3, axis=2))
    write_image(Path("gt/c.tif"), ramp.astype(np.float32) / 255)
    assert relabel("gt", "--threshold", "0.5", "--to", "halves").status == 0
    assert np.array_equal(read_mask(Path("halves/c.tif")), ramp >= 128)
    os.remove("gt/c.tif")
    ended = relabel("gt", "--threshold", "64", "128", "--labels", "0:0", "1:255", "2:2", "--to", "new")
    assert "  from 64 -> 255: 25.00% of the pixels, in 2 masks" in ended.out.splitlines()
    expected = np.where(ramp >= 128, 2, np.where(ramp >= 64, 255, 0))
    for name in ("a.png", "b.png"):
        assert np.array_equal(read_mask(Path("new", name)), expected)


def test_jpegs_become_pngs_and_near_colours_count(write_image: WriteImage) -> None:
    mask = np.zeros((32, 32, 3), np.uint8)
    mask[8:24, 8:24] = RED
    write_image(Path("gt/a.jpg"), mask)
    stored = cv2.imread("gt/a.jpg")[..., ::-1].astype(int)
    assert len(np.unique(stored.reshape(-1, 3), axis=0)) > 2
    ended = relabel("gt", "--labels", "255,0,0:1", "0,0,0:0", "--to", "new")
    assert any("such as gt/a.jpg" in mistake for mistake in ended.mistakes)
    assert not Path("new").exists()
    ended = relabel("gt", "--labels", "255,0,0:1", "0,0,0:0", "--tolerance", "128", "--to", "new")
    assert (ended.status, files("new")) == (0, ["a.png"])
    nearest = np.abs(stored - RED).max(axis=2) < np.abs(stored - BLACK).max(axis=2)
    assert np.array_equal(read_mask(Path("new/a.png")), nearest)


def test_values_without_a_rule_are_refused_with_their_counts(write_image: WriteImage) -> None:
    write_image(Path("gt/a.png"), LABELS)
    write_image(Path("gt/b.png"), np.where(LABELS == 255, 9, LABELS).astype(np.uint8))
    mistakes = relabel("gt", "--labels", "0:0", "255:1", "--to", "new").mistakes
    assert mistakes == [
        "gt: the label 9 has no new label: 3 pixels in 1 mask, such as gt/b.png; add 9:LABEL or other:LABEL",
        "gt: the label 7 has no new label: 2 pixels in 2 masks, such as gt/a.png; add 7:LABEL or other:LABEL",
    ]
    assert files(".") == ["gt"]
    ended = relabel("gt", "--labels", "0:0", "255:1", "other:2", "--to", "new")
    assert "  other -> 2: 41.67% of the pixels" in ended.out.splitlines()
    assert read_mask(Path("new/b.png")).tolist() == [[0, 2, 2], [2, 0, 2]]


def test_folders_get_new_ones_beside_them_all_or_none(write_image: WriteImage) -> None:
    for split, label in (("train", 255), ("val", 8)):
        write_image(Path(f"data/{split}/gt/a.png"), np.full((2, 2), label, np.uint8))
    folders = ("data/train/gt", "data/val/gt")
    (mistake,) = relabel(*folders, "--labels", "255:1", "--beside", "labels").mistakes
    assert mistake.startswith("data/val/gt: the label 8 has no new label: 4 pixels")
    assert (files("data/train"), files("data/val")) == (["gt"], ["gt"])
    ended = relabel(*folders, "--labels", "255:1", "8:2", "3:3", "--beside", "labels", "--dry-run")
    assert ended.out.splitlines()[-1] == "a dry run: nothing was written"
    assert "  warning: no mask has 8, 3" in ended.out.splitlines()
    assert files("data/train") == ["gt"]
    assert relabel(*folders, "--labels", "255:1", "8:2", "--beside", "labels").status == 0
    assert read_mask(Path("data/val/labels/a.png")).tolist() == [[2, 2], [2, 2]]


def test_the_place_beside_a_png_is_kept_and_other_files_are_told(write_image: WriteImage) -> None:
    write_image(Path("gt/a.png"), LABELS)
    Path("gt/a.pgw").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    Path("gt/b.gif").touch()
    ended = relabel("gt", "--labels", "other:1", "--to", "new")
    assert ended.out.splitlines()[0] == "warning: gt: not read: 1 .gif"
    place = read_georeference(Path("new/a.png"))
    assert place is not None
    assert place.transform == PLACE["transform"]


def test_of_many_broken_masks_five_are_named() -> None:
    Path("gt").mkdir()
    for number in range(7):
        Path(f"gt/{number}.png").write_bytes(b"no picture")
    mistakes = relabel("gt", "--labels", "other:1", "--to", "new").mistakes
    assert [mistake.split(":")[0] for mistake in mistakes[:5]] == [f"gt/{number}.png" for number in range(5)]
    assert mistakes[5:] == ["gt: 2 more mistakes"]


def test_only_force_replaces_masks(write_image: WriteImage) -> None:
    write_image(Path("gt/a.png"), LABELS)
    write_image(Path("new/a.png"), LABELS)
    write_image(Path("new/b.png"), LABELS)
    for name in ("a", "b"):
        Path(f"new/{name}.png.aux.xml").write_text("<PAMDataset/>")
    (mistake,) = relabel("gt", "--labels", "other:1", "--to", "new").mistakes
    assert mistake.startswith("--to: new exists and holds 4 files, such as a.png; ")
    assert relabel("gt", "--labels", "other:1", "--to", "new", "--force").status == 0
    assert (read_mask(Path("new/a.png")) == 1).all()
    assert np.array_equal(read_mask(Path("new/b.png")), LABELS)
    assert files("new") == ["a.png", "b.png", "b.png.aux.xml"]  # the one of the earlier a.png is gone


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("gt --to new", "--labels VALUE:LABEL ... or --threshold VALUE is required"),
        ("gt --labels 1:x --to new", "--labels: '1:x': a rule is VALUE:LABEL with a whole number as label"),
        ("gt --labels a:1 --to new", "--labels: 'a:1': a value is a label (255), a colour (255,0,0 or '#ff0000')"),
        ("gt --labels 1,2,256:1 --to new", "--labels: '1,2,256:1': a colour has three numbers from 0 to 255"),
        ("gt --labels 1:1 1:2 --to new", "--labels: 1 is listed twice"),
        ("gt --labels 1:1 1,2,3:2 --to new", "--labels: has labels and colours; "),
        ("gt --labels 1:99999999999 --to new", "--labels: '1:99999999999': a rule is VALUE:LABEL"),
        ("gt --threshold x --to new", "--threshold: 'x' is no number"),
        ("gt --threshold 5 2 --to new", "--threshold: thresholds are finite numbers that rise"),
        ("gt --threshold nan --to new", "--threshold: thresholds are finite numbers that rise"),
        ("gt --threshold 5 --labels 1,2,3:1 --to new", "--threshold: is for grey masks, and --labels lists colours"),
        ("gt --labels 1:1 --tolerance 300 --to new", "--tolerance: must be between 0 and 255, but got 300"),
        ("gt --labels 1:1", "one of the arguments --to --beside is required"),
        ("gt other --labels 1:1 --to new", "--to: is for one folder of masks; for several, use --beside NAME"),
        ("gt --labels 1:1 --to gt", "--to: gt is the folder of the masks; masks are never replaced"),
        ("gt --labels 1:1 --beside gt", "--beside: "),
        ("gt --labels 1:1 --beside a/b", "--beside: is the name of a folder, not a path, but got a/b"),
        ("nosuch --labels 1:1 --to new", "nosuch: no such folder of masks"),
        ("empty --labels 1:1 --to new", "empty: holds no masks (.tif"),
        ("rgb --labels 1:1 --to new", "rgb/a.png: has 3 bands, so it holds colours; list them"),
        ("rgb --threshold 5 --to new", "rgb/a.png: has colours, and --threshold is for grey masks"),
        ("gt --labels other:-1 --to new", "gt/a.png: PNG holds labels from 0 to 65535, not -1; GeoTIFF masks hold all"),
        ("broken --labels other:1 --to new", "broken/a.png: cannot be read as a mask"),
        ("deep --labels 1,2,3:1 --to new", "deep/a.tif: colours are red, green and blue of uint8"),
        ("twice --labels other:1 --to new", "twice: several files would become a.png; rename some of them"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(write_image: WriteImage, typed: str, complaint: str) -> None:
    write_image(Path("gt/a.png"), LABELS)
    write_image(Path("rgb/a.png"), np.array([[RED, GREEN]], np.uint8))
    write_image(Path("deep/a.tif"), np.full((2, 2, 3), 1000, np.uint16))
    write_image(Path("twice/a.png"), LABELS)
    write_image(Path("twice/a.jpg"), LABELS)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/a.png").write_bytes(Path("gt/a.png").read_bytes()[:50])
    before = sorted(Path().rglob("*"))
    (mistake,) = relabel(*typed.split()).mistakes
    assert mistake.startswith(complaint)
    assert sorted(Path().rglob("*")) == before
