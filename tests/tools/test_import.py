"""python -m segtune.tools import: annotations become masks, to the pixel."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from segtune.data.pairs import find_tiles
from segtune.data.reading import read_mask
from segtune.data.tiles import Layout
from tests.conftest import WriteImage
from tests.tools.annotated import (
    BIG,
    HEIGHT,
    HOOK,
    SMALL,
    WIDTH,
    below,
    coco,
    convert,
    labelme,
    of_track,
    shares,
    with_object,
    write,
    yolo,
)

# What pycocotools 2.0.11 makes of the mask that `of_runs` returns, and of random pixels of seed 3.
RUNS = r"01R35`M000000L@0`00@0`00@0`040000000000000000T42jK00000000000A"
NOISE = (
    r"132O51L0NN120N1010M20N0021N32LN0130OO0000N002000N20N00000230M00N0024NM0021ON00O110OO00100011OOO000020N00020N000"
    r"100000051KN000220OOOO0051M0OO11N0030L1000O00360KM1041KOO111ON1010O1OO010O20O21NO0O032MN40M0O10O10010O01OO10O23O"
    r"NOO0010O10O01053KNOO11OO1003OM30N3OM0200100OO0020N1OO000110O50J1102O31L2NN1083GM5OK020O0O010O00241MOO11M00O2100"
    r"00O0OO42LO0O1143LL12NN21N0110N10N0100001OO1020N0O0001071JO01"
)

Mask = npt.NDArray[np.uint8]


def inside(points: list[tuple[float, float]]) -> npt.NDArray[np.bool_]:
    """Return the pixels whose centres lie inside of a polygon: a ray to the right crosses its sides an odd number."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    odd = np.zeros((HEIGHT, WIDTH), bool)
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
        if y1 == y2:
            continue
        odd ^= ((y1 <= y) != (y2 <= y)) & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    return odd


def drawn(*shapes: tuple[npt.NDArray[np.bool_], int]) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for pixels, label in shapes:
        mask[pixels] = label
    return mask


def of_runs() -> npt.NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:9, 4:20] = True
    mask[5:7, 8:11] = False
    mask[15:23, 25:32] = True
    mask[0, 0] = True
    return mask


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: WriteImage) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.jpg", "deep/c.tif"):
        write_image(Path("pictures", name), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))


def test_coco_outlines_become_masks_to_the_pixel() -> None:
    write(coco())
    ended = convert("coco", "instances.json", "--images", "pictures", "--to", "data/train")
    assert (ended.status, ended.err) == (0, "")
    assert below("data/train") == ["gt/a.png", "gt/b.png", "gt/c.tif", "images/a.png", "images/b.jpg", "images/c.tif"]
    assert os.path.samefile("data/train/images/b.jpg", "pictures/b.jpg")
    masks = {name: read_mask(Path("data/train/gt", name)) for name in ("a.png", "b.png", "c.tif")}
    assert np.array_equal(masks["a.png"], drawn((inside(SMALL), 2), (inside(BIG), 1), (inside(HOOK), 1)))
    assert not masks["b.png"].any()
    assert np.array_equal(masks["c.tif"], drawn((inside(HOOK), 2)))
    rows = [line.split() for line in ended.out.splitlines()]
    share = np.mean([masks[name] == 1 for name in masks])
    assert ["3", "building", "1", "1", "1", f"{share:.2%}"] in rows
    assert ended.out.splitlines()[-3:] == [
        "for the space file:",
        "classes: {1: building, 2: road}",
        "data/train: 3 images with masks",
    ]
    assert len(find_tiles(Path("data/train"), Layout())) == 3


def test_smaller_objects_can_lie_on_top_and_labels_can_be_given() -> None:
    write(coco())
    flags = ("--on-top", "smaller", "--classes", "5:road", "300:building", "--copy")
    assert convert("coco", "instances.json", "--images", "pictures", "--to", "new", *flags).status == 0
    expected = np.where(inside(SMALL), 5, np.where(inside(BIG) | inside(HOOK), 300, 0))
    assert np.array_equal(read_mask(Path("new/gt/a.png")), expected)
    assert not os.path.samefile("new/images/a.png", "pictures/a.png")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (RUNS, of_runs()),
        (NOISE, np.random.default_rng(3).random((HEIGHT, WIDTH)) > 0.5),
        ([0, 1, HEIGHT * WIDTH - 3, 2], np.isin(np.arange(HEIGHT * WIDTH), [0, 766, 767]).reshape(WIDTH, HEIGHT).T),
    ],
    ids=["text", "noise", "numbers"],
)
def test_runs_of_coco_are_those_of_its_own_api(counts: object, expected: npt.NDArray[np.bool_]) -> None:
    write(with_object(segmentation={"size": [HEIGHT, WIDTH], "counts": counts}, iscrowd=1))
    assert convert("coco", "instances.json", "--images", "pictures", "--to", "new").status == 0
    assert np.array_equal(read_mask(Path("new/gt/a.png")), expected)


def test_labelme_folders_become_masks() -> None:
    patch = np.zeros((4, 6), np.uint8)
    patch[1:3, 2:] = 255
    stored = base64.b64encode(cv2.imencode(".png", patch)[1].tobytes()).decode()
    write(
        labelme(
            {"label": "tree", "points": BIG, "shape_type": "polygon"},
            {"label": "pond", "points": [[20.2, 15.8], [10.4, 5.7]], "shape_type": "rectangle"},
            {"label": "roof", "points": [[16, 12], [16, 15.2]], "shape_type": "circle"},
            {"label": "tree", "points": [[1, 2], [6, 5]], "shape_type": "mask", "mask": stored},
            {"label": "__ignore__", "points": SMALL},
            {"label": "_background_", "points": [[0, 22.2], [32, 22.2], [32, 24]]},
        ),
        "marked/a.json",
    )
    write(labelme(imagePath="b.jpg"), "marked/b.json")
    ended = convert("labelme", "marked", "--images", "pictures", "--to", "new")
    assert (ended.status, ended.err) == (0, "")
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected = drawn(
        (inside(BIG), 3),
        ((x > 10.4) & (x < 20.2) & (y > 5.7) & (y < 15.8), 1),
        (np.hypot(x - 16, y - 12) < 3.2, 2),
    )
    expected[2:6, 1:7][patch > 0] = 3
    expected[inside(SMALL)] = 255
    expected[inside([(0, 22.2), (32, 22.2), (32, 24)])] = 0
    assert np.array_equal(read_mask(Path("new/gt/a.png")), expected)
    assert ended.out.splitlines()[-3:-1] == ["classes: {1: pond, 2: roof, 3: tree}", "ignore: [255]"]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><job><labels><label><name>road</name></label><label><name>roof</name></label></labels></job></meta>
<image id="0" name="a.png" width="32" height="24">
  <polygon label="roof" points="{small}" z_order="1"></polygon>
  <polygon label="road" points="{big}" z_order="0"></polygon>
  <box label="roof" xtl="26.2" ytl="1.3" xbr="30.4" ybr="4.8" z_order="0"></box>
  <box label="roof" xtl="10" ytl="19.3" xbr="20" ybr="22.1" rotation="90" z_order="0"></box>
  <ellipse label="road" cx="28" cy="18" rx="3.1" ry="2.2" z_order="0"></ellipse>
  <mask label="roof" rle="1, 2, 3" left="30" top="22" width="3" height="2" z_order="3"></mask>
</image>
<image id="1" name="deep/c.tif" width="32" height="24"></image>
</annotations>"""


def test_xml_of_cvat_becomes_masks_by_order_of_depth() -> None:
    small, big = (";".join(f"{x},{y}" for x, y in points) for points in (SMALL, BIG))
    write(CVAT.format(small=small, big=big), "annotations.xml")
    ended = convert("cvat", "annotations.xml", "--images", "pictures", "--to", "new")
    assert (ended.status, ended.err) == (0, "")
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected = drawn(
        (inside(BIG), 1),
        ((x > 26.2) & (x < 30.4) & (y > 1.3) & (y < 4.8), 2),
        ((abs(x - 15) < 1.4) & (abs(y - 20.7) < 5), 2),
        (((x - 28) / 3.1) ** 2 + ((y - 18) / 2.2) ** 2 < 1, 1),
        (inside(SMALL), 2),
    )
    expected[22, 31] = 2  # the third column of the box lies outside
    assert np.array_equal(read_mask(Path("new/gt/a.png")), expected)
    assert not read_mask(Path("new/gt/c.tif")).any()


VIDEO = """<annotations><meta><task><labels><label><name>car</name></label><label><name>bus</name></label></labels>
<stop_frame>19</stop_frame><original_size><width>32</width><height>24</height></original_size></task></meta>
<track id="0" label="bus">
  <polygon frame="10" outside="0" occluded="1" keyframe="1" points="{small}" z_order="1"></polygon>
  <polygon frame="13" outside="0" occluded="0" keyframe="0" points="{small}" z_order="1"></polygon>
  <polygon frame="16" outside="1" occluded="0" keyframe="1" points="{small}" z_order="1"></polygon>
</track>
<track id="1" label="car">
  <polygon frame="13" outside="0" keyframe="1" points="{big}" z_order="0"></polygon>
  <polygon frame="{last}" outside="1" keyframe="1" points="{big}" z_order="0"></polygon>
</track>
<track id="2" label="skeleton"><skeleton frame="10" outside="1" keyframe="1" points="1,2" z_order="0"></skeleton>
  <track id="0" label="hand"><box frame="13" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"></box></track>
</track></annotations>"""


@pytest.mark.parametrize("last", [16, 19])
def test_frames_of_a_video_hold_the_objects_of_their_tracks(write_image: WriteImage, last: int) -> None:
    small, big = (";".join(f"{x},{y}" for x, y in points) for points in (SMALL, BIG))
    write(VIDEO.format(small=small, big=big, last=last), "annotations.xml")
    for frame in (10, 13, 16, 19):  # every third one of the video
        write_image(Path(f"frames/frame_{frame:06d}.png"), np.zeros((HEIGHT, WIDTH), np.uint8))
    write_image(Path("frames/cover.png"), np.zeros((9, 9), np.uint8))
    ended = convert("cvat", "annotations.xml", "--images", "frames", "--to", "new")
    if last == 19:
        (mistake,) = ended.mistakes
        assert mistake.startswith("annotations.xml: track '1': does not say whether its object is in frame 16; export")
        return
    assert (ended.status, ended.err) == (0, "")
    masks = {path.stem: read_mask(path) for path in sorted(Path("new/gt").iterdir())}
    assert np.array_equal(masks.pop("frame_000010"), drawn((inside(SMALL), 2)))
    assert np.array_equal(masks.pop("frame_000013"), drawn((inside(BIG), 1), (inside(SMALL), 2)))
    assert sorted(masks) == ["frame_000016", "frame_000019"]
    assert not any(mask.any() for mask in masks.values())


SHORT = '<polygon frame="{}" outside="{}" points="1,2;3,4;5,1"/>'


def frames_of(write_image: WriteImage, *frames: int) -> None:
    for frame in frames:
        write_image(Path(f"frames/frame_{frame:06d}.png"), np.zeros((HEIGHT, WIDTH), np.uint8))


def test_frames_that_no_track_is_about_are_left_out_and_told(write_image: WriteImage) -> None:
    frames_of(write_image, 1, 2, 3)
    write(of_track(SHORT.format(1, 0)), "a.xml")
    ended = convert("cvat", "a.xml", "--images", "frames", "--to", "new")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == "left out: 2 frames outside of 0 to 1, the frames of a.xml"
    assert below("new/gt") == ["frame_000001.png"]


@pytest.mark.parametrize("place", ["task", "job"])
def test_frames_of_a_video_are_those_of_its_job(write_image: WriteImage, place: str) -> None:
    frames_of(write_image, 1, 2, 3, 4, 5)
    meta = f"<meta><{place}><start_frame>2</start_frame><stop_frame>4</stop_frame></{place}></meta>"
    track = of_track(SHORT.format(2, 0), SHORT.format(3, 1)).replace("<annotations>", f"<annotations>{meta}")
    write(track, "a.xml")
    ended = convert("cvat", "a.xml", "--images", "frames", "--to", "new")
    assert ended.out.splitlines()[0] == "left out: 2 frames outside of 2 to 4, the frames of a.xml"
    assert below("new/gt") == [f"frame_00000{frame}.png" for frame in (2, 3, 4)]
    write(track.replace('outside="1"', 'outside="0"'), "a.xml")
    (mistake,) = convert("cvat", "a.xml", "--images", "frames", "--to", "more").mistakes
    assert mistake.startswith("a.xml: track '3': does not say whether its object is in frame 4; export it from CVAT")


def test_all_gaps_of_a_track_are_one_line(write_image: WriteImage) -> None:
    frames_of(write_image, *range(9))
    write(of_track(*(SHORT.format(frame, 0) for frame in (0, 2, 4, 8))), "a.xml")
    (mistake,) = convert("cvat", "a.xml", "--images", "frames", "--to", "new").mistakes
    assert "is in frame 1, 3, 5, 6, 7; export" in mistake


def test_two_images_of_one_frame_are_a_mistake(write_image: WriteImage) -> None:
    frames_of(write_image, 1)
    write_image(Path("frames/frame_0000001.png"), np.zeros((HEIGHT, WIDTH), np.uint8))
    write(of_track(SHORT.format(1, 0)), "a.xml")
    (mistake,) = convert("cvat", "a.xml", "--images", "frames", "--to", "new").mistakes
    assert mistake == "frames/frame_0000001.png and frame_000001.png are both frame 1; remove one"


def test_a_renamed_image_of_labelme_may_end_in_capitals() -> None:
    Path("pictures/b.jpg").rename("pictures/IMG_1.JPG")
    write(labelme({"label": "x", "points": SMALL}, imagePath="old.jpg"), "pictures/IMG_1.json")
    assert convert("labelme", "pictures", "--to", "new").status == 0
    assert below("new/images") == ["IMG_1.JPG"]


def test_an_image_of_another_format_is_not_replaced_by_one_beside() -> None:
    write(labelme({"label": "x", "points": SMALL}, imagePath="a.psd"), "pictures/a.json")
    (mistake,) = convert("labelme", "pictures", "--to", "new").mistakes
    assert mistake.startswith("pictures/a.json: the image 'a.psd' has none of the formats")


def test_a_renamed_image_of_labelme_is_found_by_its_name() -> None:
    Path("pictures/a.png").rename("pictures/new.png")
    write(labelme({"label": "x", "points": SMALL}), "pictures/new.json")
    ended = convert("labelme", "pictures", "--to", "new")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == (
        "1 JSON file whose imagePath names no image: the image of the file's own name is taken (new.png)"
    )
    assert ended.out.splitlines()[-1] == "new: 1 image with masks"
    assert np.array_equal(read_mask(Path("new/gt/new.png")), drawn((inside(SMALL), 1)))
    write(labelme({"label": "x", "points": SMALL}, imageData="iVBO"), "pictures/other.json")
    (mistake,) = convert("labelme", "pictures", "--to", "more").mistakes
    assert mistake.startswith("pictures/other.json: pictures/a.png: no such image; --images names the folder")
    assert mistake.endswith("; the JSON file holds a copy as imageData")


def test_annotations_without_any_class_are_refused() -> None:
    write(labelme(), "marked/a.json")
    (mistake,) = convert("labelme", "marked", "--images", "pictures", "--to", "new").mistakes
    assert mistake == "marked: holds no object and no class, so masks would be background alone"
    assert not Path("new").exists()


def test_segments_of_ultralytics_become_a_data_set() -> None:
    yolo(f"1 {shares(BIG)}\n\n0 {shares(SMALL)}\n")
    ended = convert("yolo", "set/data.yaml", "--to", "data")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == "1 image without a file of labels: all background"
    assert ended.out.splitlines()[-2] == "classes: {1: car, 2: bus}"
    assert below("data") == ["train/gt/a.png", "train/images/a.png", "val/gt/b.png", "val/images/b.png"]
    assert np.array_equal(read_mask(Path("data/train/gt/a.png")), drawn((inside(BIG), 2), (inside(SMALL), 1)))


def test_images_of_one_name_keep_their_folders(write_image: WriteImage) -> None:
    images = [{"id": i, "file_name": f"{folder}/a.png", "width": 4, "height": 4} for i, folder in enumerate("xy")]
    for folder in "xy":
        write_image(Path(f"{folder}/a.png"), np.zeros((4, 4), np.uint8))
    write(coco(images=images, annotations=[]))
    assert convert("coco", "instances.json", "--to", "new").status == 0
    assert below("new/images") == ["x_a.png", "y_a.png"]


def test_objects_without_an_outline_are_left_out_only_if_asked() -> None:
    write(with_object(segmentation=[]))
    (mistake,) = convert("coco", "instances.json", "--images", "pictures", "--to", "new").mistakes
    assert mistake.startswith("instances.json: objects without an outline cannot be drawn: 1 box alone; --skip leaves")
    ended = convert("coco", "instances.json", "--images", "pictures", "--to", "new", "--skip")
    assert ended.out.splitlines()[0] == "left out: 1 box alone"
    assert not read_mask(Path("new/gt/a.png")).any()


def test_names_with_commas_are_shown_as_settings_take_them() -> None:
    write(coco(categories=[{"id": 7, "name": "road, paved"}, {"id": 3, "name": "building"}]))
    ended = convert("coco", "instances.json", "--images", "pictures", "--to", "new")
    assert "classes: {1: building, 2: road paved}" in ended.out.splitlines()


def test_a_dry_run_writes_nothing_and_only_force_replaces() -> None:
    write(coco())
    flags = ("coco", "instances.json", "--images", "pictures", "--to", "new")
    assert convert(*flags, "--dry-run").out.splitlines()[-1] == "a dry run: nothing was written: 3 images with masks"
    assert not Path("new").exists()
    assert convert(*flags).status == 0
    (mistake,) = convert(*flags).mistakes
    assert mistake.startswith("--to: new exists and holds 2 files, such as gt; ")
    assert convert(*flags, "--force").status == 0
