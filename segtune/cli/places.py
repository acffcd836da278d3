"""What validate.py works on: which models, on which tiles or scenes, and where the results go."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segtune.cli.validate_flags import TILE_FOLDERS
from segtune.config import RunConfig
from segtune.data.listing import SCENE_SUFFIXES, channels_beside, list_folder, shortest_ends
from segtune.data.pairs import find_tiles
from segtune.data.splits import check_split
from segtune.data.tiles import Layout
from segtune.errors import InputError
from segtune.models.chosen import model_at, models_in
from segtune.models.ensemble import ensemble_of
from segtune.models.foreign import Described, scaled_line
from segtune.models.manifest import Manifest


@dataclass(frozen=True)
class Place:
    """A model, its data, and the folder for what is found there."""

    model: Path  # folder of the model
    data: tuple[Path, ...]  # a split, a folder of images, or the files of one scene
    measurable: bool  # whether there are masks
    out: Path
    described: Described | None = None  # what a model without run.yaml was trained on
    ensemble: tuple[Path, ...] = ()  # other models whose probabilities are averaged with its own


def models_of(arguments: Namespace) -> tuple[list[Path], tuple[Path, ...]]:
    """Return the folders of the models that the flags name, and of those that --ensemble averages with the first."""
    if arguments.check_path:
        return [model_at(Path(arguments.check_path))], ()
    folder = Path(arguments.check_dir)
    if arguments.ensemble:
        first, *others = ensemble_of(folder)
        return [first], tuple(others)
    return models_in(folder, arguments.trial, arguments.top), ()


def places_of(
    models: Mapping[Path, Manifest],
    arguments: Namespace,
    described: Described | None = None,
    ensemble: tuple[Path, ...] = (),
) -> list[Place]:
    """Return every model with every data set; raise InputError where one does not exist or cannot be used."""
    data = _data_sets([Path(name) for name in arguments.dataset_dir])
    names = _names([files[0] for files in data])
    found = []
    for folder, manifest in models.items():
        for files, name in zip(data, names, strict=True):
            out = _out(folder, name, len(models), len(data), arguments)
            _check_apart(out, files[0])
            place = Place(folder, files, _measurable(files, manifest), out, ensemble=ensemble)
            found.append(replace(place, described=_suited(place, manifest, described)) if described else place)
    return found


def _suited(place: Place, manifest: Manifest, described: Described) -> Described:
    """Return a description with the size of a window, if it names none: that of the images, at most 512 pixels.

    Raises InputError where mean and std are not in units of the images' pixel values.
    """
    # These import libraries that read images; common mistakes do not wait for them.
    from segtune.data.dataset import image_size
    from segtune.data.reading import read_header
    from segtune.data.tile_sizes import largest_side

    if place.measurable:
        tiles = find_tiles(place.data[0], manifest.layout)
        first, largest = read_header(tiles[0].image), largest_side(tiles)
    else:
        files = place.data if place.data[0].is_file() else [file for (file,) in scenes_in(place.data[0], manifest)]
        headers = [read_header(file, scene=True) for file in files]
        first, largest = headers[0], max(max(header.height, header.width) for header in headers)
    if line := scaled_line(described, first.dtype, place.data[0]):
        raise InputError(line)
    return replace(described, image_size=described.image_size or image_size(largest))


def _check_apart(out: Path, data: Path) -> None:
    """Raise InputError where results would lie among the files of a data set."""
    for name in TILE_FOLDERS:
        if data.is_dir() and (out / name).resolve().is_relative_to(data.resolve()):
            raise InputError(f"-o: {out / name} lies inside {data}: predictions would mix with its own files")


def _data_sets(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Return each data set; all image files together are one scene."""
    scene = tuple(path for path in paths if path.suffix.lower() in SCENE_SUFFIXES and not path.is_dir())
    if missing := [path for path in scene if not path.is_file()]:
        raise InputError(f"-d: {path}: no such file" for path in missing)
    sets = [(path,) for path in paths if path not in scene]
    return [*sets, *([scene] if scene else [])]


def _names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each data set: the shortest ends of their paths that differ."""
    whole = [path.resolve().with_suffix("") if path.is_file() else path.resolve() for path in paths]
    if twice := [path for place, path in enumerate(paths) if whole[place] in whole[:place]]:
        raise InputError(f"-d: {path} is listed twice; name each data set once" for path in twice)
    return shortest_ends(whole, "_")


def _out(model: Path, name: str, models: int, sets: int, arguments: Namespace) -> Path:
    """Return OUT, with a folder for each model and each data set if there are several."""
    if not arguments.output_dir and arguments.ensemble:
        return Path(arguments.check_dir) / "validation" / f"{name}_ensemble"
    if not arguments.output_dir:
        return run_of(model) / "validation" / name
    out = model_out(model, models, arguments)
    return out / name if sets > 1 else out


def model_out(model: Path, models: int, arguments: Namespace) -> Path:
    """Return the folder in OUT, which -o names, for one of so many models: OUT itself if it is the only one."""
    out = Path(arguments.output_dir)
    return out / run_of(model).name if models > 1 else out


def run_of(model: Path) -> Path:
    """Return the folder of the run or search whose model it is; another model's own folder."""
    return model.parent if model.name == "best" else model


def _measurable(files: tuple[Path, ...], manifest: Manifest) -> bool:
    """Return whether there are masks; raise InputError where there is nothing that can be used."""
    place, config = files[0], manifest.config
    layout = manifest.layout
    if place.suffix.lower() in SCENE_SUFFIXES and place.is_file():
        return False
    if place.is_dir() and not _has_masks(place, layout) and images_folder(place, config) is not None:
        return False
    check_split(place, layout)
    return True


def _has_masks(place: Path, layout: Layout) -> bool:
    """Return whether a folder has a folder of masks, or holds masks itself where that is their place."""
    if layout.masks_dir != ".":
        return (place / layout.masks_dir).is_dir()
    own, other = layout.mask_suffix, layout.image_suffix
    stems = [file.stem for file in _images(place)] if (place / layout.images_dir).is_dir() else []
    return any(stem.endswith(own) and not (other and stem.endswith(other)) for stem in stems)


def _images(folder: Path) -> list[Path]:
    """Return the images in a folder, without hidden ones."""
    return [folder / name for name in list_folder(folder).files if Path(name).suffix.lower() in SCENE_SUFFIXES]


def images_folder(place: Path, config: RunConfig) -> Path | None:
    """Return the folder with the images of a place without masks: its own images folder, or itself; None if neither."""
    folders = (place / config.images_dir, place)
    return next((folder for folder in folders if folder.is_dir() and _images(folder)), None)


def scenes_in(place: Path, manifest: Manifest) -> list[tuple[Path, ...]]:
    """Return the images of a folder without masks, each a scene of its own; extra channels of others are none."""
    folder = images_folder(place, manifest.config)
    assert folder
    images = _images(folder)
    names = manifest.channel_files
    channels = {channel for image in images for channel in channels_beside(image, names) if channel != image}
    return [(image,) for image in images if image not in channels]
