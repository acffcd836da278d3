"""Annotations of three pictures in the formats of others, for tests of `import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.scripts import Ended, call

HEIGHT, WIDTH = 24, 32
BIG = [(2.2, 3.3), (25.7, 4.1), (22.4, 20.6), (5.1, 18.2)]
SMALL = [(8.3, 6.2), (15.6, 7.4), (11.3, 14.7)]
HOOK = [(1.4, 21.3), (30.2, 21.8), (30.7, 1.2), (27.3, 1.7), (26.8, 19.4), (1.2, 19.6)]


def convert(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "import", *arguments)


def flat(points: list[tuple[float, float]]) -> list[float]:
    return [number for point in points for number in point]


def below(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def coco(**changes: Any) -> dict[str, Any]:
    """Return a file with two classes, whose numbers have gaps, and three images, one of them without objects."""
    names = ((1, "a.png"), (2, "b.jpg"), (3, "deep/c.tif"))
    images = [{"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT} for number, name in names]
    outlines = [(1, 7, [flat(SMALL)]), (1, 3, [flat(BIG), flat(HOOK)]), (3, 7, [flat(HOOK)])]
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation}
        for number, (image, category, segmentation) in enumerate(outlines, start=1)
    ]
    categories = [{"id": 7, "name": "road"}, {"id": 3, "name": "building"}]
    return {"images": images, "annotations": annotations, "categories": categories} | changes


def with_object(**changes: Any) -> dict[str, Any]:
    entry = {"id": 9, "image_id": 1, "category_id": 3, "segmentation": [flat(BIG)]} | changes
    return coco(annotations=[entry])


def with_image(name: str, width: int) -> dict[str, Any]:
    return coco(images=[{"id": 1, "file_name": name, "width": width, "height": 1}], annotations=[])


def with_runs(*size: int, **counts: object) -> dict[str, Any]:
    return with_object(segmentation={"size": list(size), **counts})


def write(content: object, path: str = "instances.json") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content if isinstance(content, str) else json.dumps(content))


def labelme(*shapes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"imagePath": "..\\x\\a.png", "imageWidth": WIDTH, "imageHeight": HEIGHT, "shapes": list(shapes)} | changes


def yolo(lines: str, **settings: Any) -> None:
    """Write a data set with a train and a val image; data.yaml has paths as the tools of others write them."""
    for split, name in (("train", "a"), ("val", "b")):
        path = Path(f"set/{split}/images/{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path("pictures/a.png").read_bytes())
    write(lines, "set/train/labels/a.txt")
    content = {
        "path": "/content/set",
        "train": "../train/images",
        "val": "val/images",
        "names": ["car", "bus"],
    } | settings
    write("".join(f"{key}: {json.dumps(value)}\n" for key, value in content.items()), "set/data.yaml")


def shares(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x / WIDTH:.8f} {y / HEIGHT:.8f}" for x, y in points)


def of_image(element: str) -> str:
    """Return an XML of CVAT with one element in one image."""
    return f'<annotations><image name="a.png" width="32" height="24">{element}</image></annotations>'


def of_track(*elements: str) -> str:
    """Return an XML of CVAT with one track."""
    return f'<annotations><track id="3" label="x">{"".join(elements)}</track></annotations>'
