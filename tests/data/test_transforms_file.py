"""Files of transforms: what albumentations writes is read, and every mistake is one line with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import albumentations as A
import pytest
import yaml

from segtune.data.transform_nodes import known_transforms, make, read_transforms
from segtune.errors import InputError
from segtune.files.transforms_file import TransformsFile

PIPELINE = A.Compose(
    [
        A.HorizontalFlip(p=0.5),
        A.OneOf([A.GaussNoise(std_range=(0.1, 0.2)), A.Sequential([A.RandomGamma()], p=1.0)], p=0.3),
        A.SomeOf([A.Affine(scale=(0.9, 1.1), fill_mask=255), A.ElasticTransform(), A.GridDistortion()], n=2),
        A.CoarseDropout(fill="random"),
        A.Downscale(scale_range=(0.5, 0.9)),
    ]
)


def mistakes(text: str, name: str = "my.yaml") -> list[str]:
    with pytest.raises(InputError) as caught:
        read_transforms(TransformsFile(name, text))
    return caught.value.mistakes


@pytest.mark.parametrize("form", ["yaml", "json", "list"])
def test_what_albumentations_writes_is_read(form: str) -> None:
    plain: Any = A.to_dict(PIPELINE)
    text = {
        "yaml": yaml.safe_dump(plain),
        "json": json.dumps(plain, indent=2),
        "list": yaml.safe_dump(plain["transform"]["transforms"]),
    }[form]
    nodes = read_transforms(TransformsFile("my.yaml", text))
    inside = nodes[0].parts if form != "list" else nodes
    assert [node.name for node in inside] == ["HorizontalFlip", "OneOf", "SomeOf", "CoarseDropout", "Downscale"]
    assert [leaf.name for leaf in inside[1].leaves()] == ["GaussNoise", "RandomGamma"]
    made = make(next(inside[1].leaves()))
    assert made.std_range == (0.1, 0.2)


def test_a_file_of_an_earlier_release_may_say_always_apply_false() -> None:
    text = "- {__class_fullname__: albumentations.augmentations.transforms.HorizontalFlip, always_apply: false, p: 1.0}"
    (node,) = read_transforms(TransformsFile("my.yaml", text))
    assert (node.name, node.arguments) == ("HorizontalFlip", {"p": 1.0})
    (line,) = mistakes(text.replace("false", "true"))
    assert "unknown argument 'always_apply'" in line


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["my.yaml:1: is empty; expected a list of transforms"]),
        ("[]", ["is empty; expected a list of transforms"]),
        ("transform:", ["is empty; expected a list of transforms"]),
        ("5", ["my.yaml:1: expected a list of transforms"]),
        ("a: [1", ["my.yaml:1: "]),
        (
            "- HorizontalFlip",
            [
                "my.yaml:1: expected a transform with its name under __class_fullname__, but got 'HorizontalFlip'; "
                "write {__class_fullname__: HorizontalFlip, p: 0.5}"
            ],
        ),
        ("- VerticalFlip: {p: 0.2}", ["; write {__class_fullname__: VerticalFlip, p: 0.2}"]),
        ("- Affine: {scale: [0.5, 2], fill: 0}", ["; write {__class_fullname__: Affine, scale: [0.5, 2], fill: 0}"]),
        ("- OneOf: [HorizontalFlip]", ["; write {__class_fullname__: OneOf, transforms: [...]}"]),
        ("- HorizontalFlp: {p: 0.5}", ["my.yaml:1: 'HorizontalFlp' is no transform of", "mean 'HorizontalFlip'?"]),
        ("- MixUp: {}", ["my.yaml:1: 'MixUp' is no transform of"]),
        ("- OneOff: [HorizontalFlip]", ["'OneOff' is no transform of", "did you mean 'OneOf'?"]),
        ("- Lambda: {}", ["my.yaml:1: Lambda: is code, which a file cannot hold"]),
        ("- Normalize", ["my.yaml:1: Normalize: the run does that by itself"]),
        ("- VerticalFlip:\n  p: 0.2", ["; write {__class_fullname__: VerticalFlip, p: 0.2}"]),
        ("- {p: 0.5, name: Flip}", ["; write {__class_fullname__: HorizontalFlip, p: 0.5}"]),
        ("- 7", ["but got 7; write {__class_fullname__: HorizontalFlip, p: 0.5}"]),
        (
            "- {__class_fullname__: HorizontFlip}",
            ["my.yaml:1: 'HorizontFlip' is no transform", "did you mean 'HorizontalFlip'?"],
        ),
        ("- {__class_fullname__: os.system, command: ls}", ["'os.system' is no transform of albumentations"]),
        ("- {__class_fullname__: albumentations.os.system}", ["is no transform of albumentations"]),
        ("- {__class_fullname__: BasicTransform}", ["is no transform of albumentations"]),
        ("- {__class_fullname__: Lambda, image: x}", ["Lambda: is code, which a file cannot hold"]),
        ("- {__class_fullname__: Normalize}", ["Normalize: the run does that by itself; leave it out"]),
        ("- {__class_fullname__: ToTensorV2}", ["ToTensorV2: the run does that by itself"]),
        ("- {__class_fullname__: HistogramMatching}", ["needs more than an image and its mask"]),
        ("- {__class_fullname__: RandomCropNearBBox}", ["needs more than an image and its mask"]),
        ("- {__class_fullname__: BBoxSafeRandomCrop}", ["needs more than an image and its mask"]),
        ("- {__class_fullname__: Affine, scal: 2}", ["Affine: unknown argument 'scal'; did you mean 'scale'?"]),
        ("- {__class_fullname__: GaussNoise, var_limit: 2}", ["unknown argument 'var_limit'", "std_range"]),
        (
            "- {__class_fullname__: HorizontalFlip, p: 2}",
            ["HorizontalFlip: p: must be less than or equal to 1, but got 2"],
        ),
        ("- {__class_fullname__: GaussNoise, std_range: strong}", ["GaussNoise: std_range: ", "but got 'strong'"]),
        ("- {__class_fullname__: RandomCrop, height: 32}", ["RandomCrop: needs the argument 'width'"]),
        ("- {__class_fullname__: OneOf, p: 1}", ["OneOf: needs a list of transforms"]),
        ("- {__class_fullname__: OneOf, transforms: []}", ["OneOf: needs a list of transforms"]),
        (
            "- {__class_fullname__: OneOf, p: often, transforms: [{__class_fullname__: D4}]}",
            ["OneOf: p: must be a number"],
        ),
        (
            "- {__class_fullname__: OneOf, q: 1, transforms: [{__class_fullname__: D4}]}",
            ["OneOf: unknown argument 'q'"],
        ),
        ("- {__class_fullname__: SomeOf, transforms: [{__class_fullname__: D4}]}", ["SomeOf: needs n"]),
        (
            "- {__class_fullname__: SomeOf, n: 0, transforms: [{__class_fullname__: D4}]}",
            ["SomeOf: n: must be a whole"],
        ),
        (
            "{__class_fullname__: Compose, bbox_params: {format: coco}, transforms: [{__class_fullname__: D4}]}",
            ["bbox_params"],
        ),
        ("- !!python/object/apply:os.system [ls]", ["my.yaml:1: "]),
        (
            "- {__class_fullname__: D4}\n- {p: 1, p: 0.5, __class_fullname__: D4}",
            ["my.yaml:2: p: stands in the same mapping twice"],
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text: str, parts: list[str]) -> None:
    (line,) = mistakes(text)
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_all_mistakes_are_reported_at_once_each_with_its_line() -> None:
    text = """
__version__: 2.0.8
transform:
  __class_fullname__: Compose
  transforms:
  - __class_fullname__: HorizontalFlp
  - __class_fullname__: OneOf
    transforms:
    - __class_fullname__: GaussNoise
      p: 0.5
      std: 0.1
    - __class_fullname__: Affine
      scale: wide
      rotate: [1, 2, 3]
"""
    found = mistakes(text)
    assert [line.split(": ")[:2] for line in found] == [
        ["my.yaml:6", "Compose"],
        ["my.yaml:11", "Compose > OneOf > GaussNoise"],
        ["my.yaml:13", "Compose > OneOf > Affine"],
        ["my.yaml:14", "Compose > OneOf > Affine"],
    ]
    assert all(word in line for word, line in zip(["HorizontalFlp", "'std'", "scale", "rotate"], found, strict=True))


def test_only_transforms_of_albumentations_are_known() -> None:
    known = known_transforms()
    assert all(kind.__module__.startswith("albumentations.") for kind in known.values())
    assert {"D4", "Affine", "ColorJitter", "CoarseDropout"} <= known.keys()
    assert known.keys().isdisjoint({"Lambda", "BasicTransform", "Compose", "Pad3D"})


def test_a_file_that_is_not_there_or_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^augmentation: .*my\.yaml: no such file or directory$"):
        TransformsFile.of(str(tmp_path / "my.yaml"))
    (tmp_path / "my.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        TransformsFile.of(str(tmp_path / "my.json"))
    assert TransformsFile.of("hard") is None
