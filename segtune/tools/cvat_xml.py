"""Read XML of CVAT: "CVAT for images", and "CVAT for video" with the frames as images."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath
from xml.parsers import expat

import numpy as np

from segtune.data.listing import SUFFIXES
from segtune.errors import InputError, counted, first_few, one_line, short
from segtune.tools.annotations import (
    Annotated,
    Annotations,
    Points,
    Runs,
    Shape,
    image_inside,
    outline,
    run_lengths,
    text,
)

_CORNERS = 360  # of an ellipse
_CHUNK = 2**20  # bytes
_FRAME = re.compile(r"frame_(\d{6,9})")  # names of images that CVAT exports of a video, without extension
_AGAIN = "or export the task as 'CVAT for images', which has each frame's objects"
_OF_ALL = (["annotations", "meta", "task"], ["annotations", "meta", "job"])  # elements that hold the range of frames
_AREAS = ("polygon", "box", "ellipse", "mask")
_NO_AREAS = ("polyline", "points", "cuboid", "skeleton")

Attributes = Mapping[str, str]


class _Reader:
    """Collects images and shapes while a file is parsed, whose size does not matter."""

    def __init__(self, path: Path, images: Path) -> None:
        self._path, self._images = path, images
        self.found = Annotations()
        self._stack: list[str] = []
        self._text = ""
        self._image: Attributes | None = None
        self._shapes: list[tuple[int, Shape]] = []
        self._tracks = 0
        self._track: Attributes = {}
        self._shown: list[tuple[int, bool]] = []  # frames that the track lists, and whether its object is in them
        self._frames: dict[int, list[tuple[int, Shape]]] = {}
        self._gaps: list[
            tuple[str, list[tuple[int, int | None]]]
        ] = []  # tracks, and between which frames they are silent
        self._listed: set[int] = set()  # frames of which any track says something
        self._range: dict[str, str] = {}  # start_frame and stop_frame of the task or job
        self._size: dict[str, str] = {}  # of all frames

    def start(self, tag: str, attributes: Attributes) -> None:
        """Handle the begin of an element."""
        if not self._stack and tag != "annotations":
            raise InputError(f"{self._path}: is no XML of CVAT: it begins with {short(tag)}")
        self._stack.append(tag)
        self._text = ""
        try:
            if tag == "image":
                self._image, self._shapes = dict(attributes), []
            elif self._image is not None:
                self._add_shape(tag, attributes, f"{self._path}: image {short(self._image.get('name'))}", self._shapes)
            elif tag == "track" and self._stack.count("track") == 1:  # those inside it are parts of a skeleton
                self._track, self._shown = dict(attributes), []
                self._tracks += 1
            elif self._stack[-2:] == ["track", tag] and self._stack.count("track") == 1:
                self._add_shown(tag, attributes)
        except InputError as error:
            self.found.mistakes += error.mistakes

    def _add_shape(self, tag: str, attributes: Attributes, what: str, shapes: list[tuple[int, Shape]]) -> None:
        if tag in _NO_AREAS:
            self.found.no_areas[tag] += 1
        elif tag in _AREAS and "skeleton" not in self._stack:
            order = int(_number(attributes, "z_order", what, "0"))
            shapes.append((order, _shape(tag, attributes, f"{what}: a {tag}")))

    def _add_shown(self, tag: str, attributes: Attributes) -> None:
        """Add what a track says of one frame; where it is outside, its object is not in the frame."""
        what = f"{self._path}: track {short(self._track.get('id'))}"
        frame = int(_number(attributes, "frame", what))
        inside = attributes.get("outside", "0") != "1"
        self._shown.append((frame, inside))
        if inside:
            named = {**attributes, "label": self._track.get("label", "")}
            self._add_shape(tag, named, f"{what}: frame {frame}", self._frames.setdefault(frame, []))

    def characters(self, data: str) -> None:
        """Handle text between elements; only names of labels matter, which are short."""
        if len(self._text) < 1000:
            self._text += data

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
        self._stack.pop()
        if tag == "name" and self._stack[-2:] == ["labels", "label"]:
            name = text(self._text.strip(), f"{self._path}: the name of a label")
            self.found.names.setdefault(name, "")
        elif self._stack[-1:] == ["original_size"]:
            self._size[tag] = self._text.strip()
        elif tag == "image" and self._image is not None:
            self._add_image(self._image)
            self._image = None
        elif tag == "track" and "track" not in self._stack:
            self._end_track()
        elif tag in ("start_frame", "stop_frame") and self._stack in _OF_ALL:
            self._range[tag] = self._text.strip()

    def _end_track(self) -> None:
        """Note where a track that shows its object says nothing of later frames: up to its next one, or to the end."""
        listed: list[tuple[int, bool]] = sorted(self._shown)
        self._listed |= {frame for frame, _ in listed}
        gaps: list[tuple[int, int | None]] = [
            (here, later) for (here, inside), (later, _) in pairwise(listed) if inside
        ]
        if listed and listed[-1][1]:
            gaps.append((listed[-1][0], None))
        self._gaps.append((short(self._track.get("id")), gaps))

    def _add_image(self, image: Attributes) -> None:
        try:
            file, inside = image_inside(self._images, image.get("name"), str(self._path))
            size = self._read_size(image, f"{self._path}: image {inside}")
        except InputError as error:
            self.found.mistakes += error.mistakes
            return
        self._add(file, inside, self._shapes, size)

    def _read_size(self, attributes: Attributes, what: str) -> tuple[int, int]:
        width, height = (int(_number(attributes, key, what)) for key in ("width", "height"))
        return width, height

    def _add(
        self, file: Path, inside: PurePosixPath, shapes: list[tuple[int, Shape]], size: tuple[int, int] | None
    ) -> None:
        ordered = tuple(shape for _, shape in sorted(shapes, key=lambda entry: entry[0]))  # stable
        self.found.images.append(Annotated(file, inside, ordered, str(self._path), size))
        for shape in ordered:
            self.found.names.setdefault(shape.name, "")

    def finish(self) -> None:
        """Add the frames of tracks: the images in the folder that are called as CVAT calls frames, within the range."""
        if not self._tracks:
            return
        frames = self._find_frames()
        if absent := sorted(self._frames.keys() - frames.keys()):
            self.found.mistakes.append(
                f"{self._path}: {self._images}: has no image {first_few(f'frame_{frame:06d}' for frame in absent)}; "
                f"--images names the folder of the frames, {_AGAIN}"
            )
            return
        try:
            what = f"{self._path}: meta"
            first = min((int(_number(self._range, "start_frame", what, "0")), *self._listed))
            last = max((int(_number(self._range, "stop_frame", what, "-1")), *self._listed))
            size = self._read_size(self._size, f"{self._path}: original_size") if self._size else None
        except InputError as error:
            self.found.mistakes += error.mistakes
            return
        numbers = sorted(frame for frame in frames if first <= frame <= last)
        if beyond := len(frames) - len(numbers):
            self.found.remarks.append(
                f"left out: {counted(beyond, 'frame')} outside of {first} to {last}, the frames of {self._path}"
            )
        self._check_gaps(numbers, last)
        for frame in numbers:
            path = frames[frame]
            self._add(path, PurePosixPath(path.name), self._frames.get(frame, []), size)

    def _find_frames(self) -> dict[int, Path]:
        """Return the image of each frame in the folder; two of one frame are a mistake."""
        frames: dict[int, Path] = {}
        for path in sorted(path for path in self._images.iterdir() if path.suffix.lower() in SUFFIXES):
            if match := _FRAME.fullmatch(path.stem):
                other = frames.setdefault(int(match[1]), path)
                if other != path:
                    self.found.mistakes.append(f"{other} and {path.name} are both frame {int(match[1])}; remove one")
        return frames

    def _check_gaps(self, numbers: list[int], last: int) -> None:
        """Add one mistake for each track that is silent on some of these frames, sorted, after one with its object."""
        for track, gaps in self._gaps:
            silent = []
            for here, later in gaps:
                end = last + 1 if later is None else later
                silent += numbers[bisect_right(numbers, here) : bisect_left(numbers, end)]
            if silent:
                self.found.mistakes.append(
                    f"{self._path}: track {track}: does not say whether its object is in frame "
                    f"{first_few(map(str, silent))}; export it from CVAT, which lists every frame of a track, {_AGAIN}"
                )


def read_cvat(path: Path, images: Path) -> Annotations:
    """Read the images and objects of an XML file; images lie in the folder `images`.

    Objects are drawn by their z_order, and in the order of the file where it is the same. Of a video, the frames are
    images of that folder, such as frame_000012.png. CVAT lists a track in every frame in which it was drawn or
    interpolated, so nothing is interpolated here. A document type, which could name other files or grow without end, is
    refused.
    """
    reader = _Reader(path, images)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.characters

    def refuse(*_: object) -> None:
        raise InputError(f"{path}: an XML of CVAT has no document type and no entities")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                parser.Parse(chunk, False)
            parser.Parse(b"", True)
        reader.finish()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not XML ({one_line(error)})") from None
    return reader.found


def _number(attributes: Attributes, key: str, what: str, default: str | None = None) -> float:
    value = attributes.get(key, default)
    try:
        number = float(value) if value is not None else np.nan
    except ValueError:
        number = np.nan
    if not abs(number) < 2**31:
        raise InputError(f"{what}: {key} is no number, but {short(value)}")
    return number


def _shape(tag: str, attributes: Attributes, what: str) -> Shape:
    name = text(attributes.get("label"), f"{what}: label")
    if tag == "polygon":
        pairs = [pair.split(",") for pair in attributes.get("points", "").split(";")]
        return Shape(name, ((outline(pairs, what),),))
    if tag == "mask":
        left, top, width, height = (int(_number(attributes, key, what)) for key in ("left", "top", "width", "height"))
        if width <= 0 or height <= 0:
            raise InputError(f"{what}: its box is empty")
        try:
            lengths = [int(part) for part in attributes.get("rle", "").split(",")]
        except ValueError:
            raise InputError(f"{what}: its runs are damaged") from None
        return Shape(name, runs=Runs(run_lengths(lengths, what, width * height), height, width, left, top))
    if tag == "box":
        x1, y1, x2, y2 = (_number(attributes, key, what) for key in ("xtl", "ytl", "xbr", "ybr"))
        ring = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    else:
        x, y, across, down = (_number(attributes, key, what) for key in ("cx", "cy", "rx", "ry"))
        angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        centre = np.array([x, y])
        ring = centre + np.stack([across * np.cos(angles), down * np.sin(angles)], axis=1)
    return Shape(name, ((outline(_turned(ring, centre, _number(attributes, "rotation", what, "0")), what),),))


def _turned(ring: Points, centre: Points, degrees: float) -> Points:
    """Turn points clockwise, as seen, around a centre."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return centre + (ring - centre) @ np.array([[cosine, sine], [-sine, cosine]])
