"""python -m segtune.tools import: what is wrong in annotations is one line, and nothing is written."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import WriteImage
from tests.tools.annotated import (
    BIG,
    HEIGHT,
    WIDTH,
    coco,
    convert,
    labelme,
    of_image,
    of_track,
    with_image,
    with_object,
    with_runs,
    write,
    yolo,
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_image: WriteImage) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.jpg", "deep/c.tif"):
        write_image(Path("pictures", name), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))


ENTITIES = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><annotations>&c;</annotations>'
FILE_ENTITY = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotations>&b;</annotations>'


def test_a_folder_in_place_of_a_file_is_told_which_file_is_meant() -> None:
    Path("mine").mkdir()
    assert convert("cvat", "mine", "--to", "new").mistakes == [
        "mine: is a folder; give the XML file of the annotations"
    ]
    for name in ("data.yaml", "other.txt", "labels.json"):
        Path("mine", name).write_text("{}")
    assert convert("yolo", "mine", "--to", "new").mistakes == [
        "mine: is a folder; give the data.yaml of the annotations, such as mine/data.yaml"
    ]
    assert convert("coco", "mine", "--to", "new").mistakes == [
        "mine: is a folder; give the JSON file of the annotations, such as mine/labels.json"
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[1]", "instances.json: is not a JSON object"),
        ("{", "instances.json: is not JSON ("),
        ("[" * 100000, "instances.json: is not JSON ("),
        ('{"images": ' + "9" * 5000 + "}", "instances.json: is not JSON ("),
        ({}, "instances.json: has no list of objects 'categories'"),
        (coco(images=[]), "instances.json: annotation 1: there is no image 1"),
        (coco(images=[], annotations=[]), "instances.json: names no image"),
        (coco(categories=[{"id": 3}]), "instances.json: the name of category 3 is a text, but got nothing"),
        (coco(categories=[{"id": 3, "name": "a"}] * 2), "instances.json: two categories have the id 3"),
        (with_object(category_id=5), "instances.json: annotation 9: there is no category 5"),
        (with_object(image_id=True), "instances.json: annotation 9: image_id is a whole number, but got True"),
        (with_object(segmentation=[[1, 2, 3]]), "instances.json: annotation 9: its outline is no list of points"),
        (
            with_object(segmentation=[[1, 2, 3, 4]]),
            "instances.json: annotation 9: its outline has 2 points; at least 3",
        ),
        (with_object(segmentation=[[1, 2, 3, 4, 5, 1e12]]), "instances.json: annotation 9: its outline has a point"),
        (with_object(segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "instances.json: annotation 9: its outline has a"),
        (with_object(segmentation=[["a", "b"]]), "instances.json: annotation 9: its outline is no list of points"),
        (with_object(segmentation="x"), "instances.json: annotation 9: its segmentation is neither"),
        (with_runs(10**6, 10**6, counts="0"), "instances.json: annotation 9: the size of"),
        (with_runs(24, 32, counts=[5]), "instances.json: annotation 9: the lengths of its"),
        (with_runs(24, 32, counts=[769, -1]), "instances.json: annotation 9: the lengths"),
        (with_runs(24, 32, counts="ooooooooooooooo"), "instances.json: annotation 9: its runs"),
        (with_runs(24, 32, counts="\x7f\u20ac"), "instances.json: annotation 9: its runs"),
        (with_runs(24, 32), "instances.json: annotation 9: its runs have no counts"),
        (with_image("../a.png", 1), "instances.json: image 1: the image '../a.png' lies outside of pictures"),
        (with_image("/a.png", 1), "instances.json: image 1: the image '/a.png' lies outside of pictures"),
        (with_image("C:\\a.png", 1), "instances.json: image 1: the image 'C:\\\\a.png' lies outside"),
        (with_image("a.exe", 1), "instances.json: image 1: the image 'a.exe' has none of the formats"),
        (with_image("z.png", 1), "instances.json: image 1: pictures/z.png: no such image"),
        (
            with_image("a.png", 10**9),
            "instances.json: says that pictures/a.png has 1000000000x1 pixels, but it has 32x24",
        ),
    ],
)
def test_a_mistake_in_coco_is_one_line_and_writes_nothing(content: object, complaint: str) -> None:
    write(content)
    mistakes = convert("coco", "instances.json", "--images", "pictures", "--to", "new").mistakes
    assert mistakes[0].startswith(complaint)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({}, "marked/a.json: imagePath is a text, but got nothing"),
        (labelme(shapes=[1]), "marked/a.json: has no list of objects 'shapes'"),
        (labelme({"points": BIG}), "marked/a.json: shape 1: label is a text, but got nothing"),
        (labelme({"label": "x", "points": BIG[:2]}), "marked/a.json: shape 1 has 2 points; at least 3 are needed"),
        (
            labelme({"label": "x", "points": BIG, "shape_type": "cube"}),
            "marked/a.json: shape 1: its type 'cube' is not",
        ),
        (
            labelme({"label": "x", "points": BIG[:1], "shape_type": "point"}),
            "marked: objects without an outline cannot",
        ),
        (
            labelme({"label": "x", "points": BIG[:2], "shape_type": "mask", "mask": "!"}),
            "marked/a.json: shape 1: its mask",
        ),
        (
            labelme(
                {
                    "label": "x",
                    "points": [[0, 0], [5, 5]],
                    "shape_type": "mask",
                    "mask": base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode(),
                }
            ),
            "marked/a.json: shape 1: its mask is no PNG of 6x6 pixels",
        ),
        (
            labelme({"label": "x", "points": [[0, 0], [99999, 9]], "shape_type": "mask", "mask": "x"}),
            "marked/a.json: shape 1: its mask is larger than the image",
        ),
        (
            labelme({"label": "x", "points": BIG}, imageWidth=33),
            "marked/a.json: says that pictures/a.png has 33x24 pixels, but it has 32x24",
        ),
    ],
)
def test_a_mistake_in_labelme_is_one_line_and_writes_nothing(content: object, complaint: str) -> None:
    write(content, "marked/a.json")
    (mistake,) = convert("labelme", "marked", "--images", "pictures", "--to", "new").mistakes
    assert mistake.startswith(complaint)
    assert not Path("new").exists()


def test_labelme_without_its_image_names_the_image_alone() -> None:
    write(labelme({"label": "x", "points": BIG}, imagePath="z.png"), "marked/q.json")
    (mistake,) = convert("labelme", "marked", "--images", "pictures", "--to", "new").mistakes
    assert mistake == "marked/q.json: pictures/z.png: no such image; --images names the folder of the images"
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("no xml", "a.xml: is not XML (syntax error"),
        ('<?xml version="1.0" encoding="utf-9"?><annotations/>', "a.xml: is not XML (unknown encoding: utf-9)"),
        ("<annotations>", "a.xml: is not XML (no element found"),
        ("<svg/>", "a.xml: is no XML of CVAT: it begins with 'svg'"),
        ("<annotations/>", "a.xml: names no image"),
        (ENTITIES, "a.xml: an XML of CVAT has no document type and no entities"),
        (FILE_ENTITY, "a.xml: an XML of CVAT has no document type and no entities"),
        (
            of_track('<polygon frame="2" points="1,2;3,4;5,1"/>', '<polygon frame="7" points="1,2;3,4;5,1"/>'),
            "a.xml: pictures: has no image frame_000002, frame_000007; --images names the folder of the frames, or",
        ),
        (of_track('<polygon frame="x" points="1,2;3,4;5,1"/>'), "a.xml: track '3': frame is no number, but 'x'"),
        (of_track('<polygon frame="2" points="1,2"/>'), "a.xml: track '3': frame 2: a polygon has 1 point; at least 3"),
        (
            '<annotations><image name="a.png" width="x" height="24"/></annotations>',
            "a.xml: image a.png: width is no number",
        ),
        (
            '<annotations><image name="../a.png" width="32" height="24"/></annotations>',
            "a.xml: the image '../a.png' lies",
        ),
        (
            of_image('<polygon label="x" points="1,2;3"/>'),
            "a.xml: image 'a.png': a polygon is no list of points",
        ),
        (
            of_image('<mask label="x" rle="1" left="0" top="0" width="99999" height="99999"/>'),
            "a.xml: image 'a.png': a mask: the lengths of its runs do not add up",
        ),
        (
            of_image('<mask label="x" rle="9999800001" left="0" top="0" width="99999" height="99999"/>'),
            "a.xml: a mask of 99999x99999 is larger than pictures/a.png",
        ),
        (
            of_image('<points label="x" points="1,2"/>'),
            "a.xml: objects without an outline cannot be drawn: 1 points",
        ),
    ],
)
def test_a_mistake_in_cvat_is_one_line_and_writes_nothing(content: str, complaint: str) -> None:
    write(content, "a.xml")
    assert convert("cvat", "a.xml", "--images", "pictures", "--to", "new").mistakes[0].startswith(complaint)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("lines", "settings", "complaint"),
    [
        ("2 0 0 1 0 1 1", {}, "set/train/labels/a.txt:1: there is no class '2' in data.yaml"),
        ("0 0 0 1 0 1", {}, "set/train/labels/a.txt:1 is no list of points"),
        ("0 0 0 1 0 1 7", {}, "set/train/labels/a.txt:1: points are shares of the image's sides, from 0 to 1"),
        ("0 .5 .5 .2 .2", {}, "set/data.yaml: objects without an outline cannot be drawn: 1 box alone"),
        ("", {"train": "nosuch"}, "set/data.yaml: train: set/nosuch: no such folder below that of data.yaml"),
        ("", {"train": "/etc"}, "set/data.yaml: several images would be called"),
        ("", {"names": 5}, "set/data.yaml: names is a list, or numbers with names, but got 5"),
        ("", {"names": ["a", "a"]}, "set/data.yaml: names has a name twice"),
    ],
)
def test_a_mistake_in_yolo_is_one_line_and_writes_nothing(lines: str, settings: dict[str, Any], complaint: str) -> None:
    yolo(lines, **settings)
    if settings.get("train") == "/etc":  # nothing outside is read: the folder of data.yaml takes its place
        assert "etc" not in convert("yolo", "set/data.yaml", "--to", "new").err
        return
    assert convert("yolo", "set/data.yaml", "--to", "new").mistakes[0].startswith(complaint)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("coco nosuch.json --to new", "nosuch.json: no such file"),
        ("labelme nosuch --to new", "nosuch: no such folder of labelme's JSON files"),
        ("labelme pictures --to new", "pictures: holds no JSON files of labelme"),
        ("coco instances.json --images nosuch --to new", "--images: nosuch: no such folder"),
        ("coco instances.json --images pictures --to new --classes 1 2", "--classes: needs names, such as 1:building"),
        (
            "coco instances.json --images pictures --to new --classes 1:road",
            "--classes: does not name 'building', which has 1 object",
        ),
        (
            "coco instances.json --images pictures --to new --classes 1:road 1:x",
            "--classes: the list contains a value twice",
        ),
        (
            "coco instances.json --images pictures --to new --classes 1:road 70000:building",
            "--classes: labels are from 0",
        ),
        ("yolo x.yaml --images pictures --to new", "--images: is not for yolo, whose data.yaml names the folders"),
        ("pascal x --to new", "argument kind: invalid choice: 'pascal'"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(typed: str, complaint: str) -> None:
    write(coco())
    assert convert(*typed.split()).mistakes[0].startswith(complaint)
    assert not Path("new").exists()
