"""Predict images without masks: validate.py's work on scenes."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from segtune.cli.own_files import OwnFiles
from segtune.cli.places import Place, scenes_in
from segtune.cli.validate_flags import BINARY, PLOTS, RAW, Wanted
from segtune.cli.validation import changes_of, device_of
from segtune.errors import InputError, counted
from segtune.evaluation.opened import open_predictor, order_line
from segtune.evaluation.polygons import place_remark
from segtune.evaluation.predicted_masks import Category
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.scene import SceneResult, predict_scene
from segtune.evaluation.scene_output import SceneOutputs
from segtune.evaluation.scene_scale import scene_scale
from segtune.evaluation.scene_source import Preview, SceneFiles, find_scene, opened_scene
from segtune.evaluation.validate import prediction_settings
from segtune.files.atomic import write_text
from segtune.files.checks import check_writable, read_own_json
from segtune.models.manifest import Manifest
from segtune.pictures.png import write_png
from segtune.pictures.render import categories, class_titles
from segtune.pictures.scene import preview_of, scene_picture
from segtune.report.terminal import step_bar

PREDICTION = "prediction.json"


def check_predicting(places: Iterable[Place], arguments: Namespace) -> None:
    """Raise InputError where --polygons cannot be written, before the time for anything else is spent."""
    if not arguments.polygons:
        return
    path = Path(arguments.polygons)
    if path.suffix.lower() != ".gpkg":
        raise InputError(f"--polygons: writes a GeoPackage, so the name ends in .gpkg, but got {path}")
    if path.is_dir():
        raise InputError(f"--polygons: {path} is a folder; name a file in it")
    check_writable(path.parent, "--polygons")
    for place in places:
        if not place.measurable:
            OwnFiles(place, named=bool(arguments.output_dir)).check(path, "--polygons")


def predict(place: Place, arguments: Namespace, wanted: Wanted, console: Console) -> None:
    """Predict every image of a place, and write OUT."""
    predictor = open_predictor(
        place.model, device_of(arguments), changes_of(arguments, place.described, place.ensemble)
    )
    files = [place.data] if place.data[0].is_file() else scenes_in(place.data[0], predictor.manifest)
    scenes = [find_scene(paths, predictor.manifest) for paths in files]
    _check_names(scenes)
    if arguments.polygons and len(scenes) > 1:
        raise InputError(f"--polygons: writes one file, but there are {len(scenes)} images; predict them one by one")
    console.print(f"{place.data[0]} has no masks: predicting {counted(len(scenes), 'image')} with {place.model}")
    if line := order_line(predictor.manifest):
        console.print(line)
    check_writable(place.out, "-o")
    read_own_json(place.out / PREDICTION, "images", "-o")
    own = OwnFiles(place, named=bool(arguments.output_dir))
    named = categories(predictor.manifest.labels)
    outputs = [_outputs(scene, place.out, arguments, wanted, own, named) for scene in scenes]
    images: dict[str, Any] = {}
    for line in _remarks(scenes, predictor.manifest, arguments):
        console.print(line)
    own.claim(path for files_out in outputs for path in _written(files_out, place.out, wanted))
    for scene, files_out in zip(scenes, outputs, strict=True):
        result, preview = _predict(scene, files_out, predictor, arguments, console)
        images[scene.name] = asdict(result)
        console.print(_line(scene, result, predictor))
        if wanted.plots:
            assert files_out.binary
            picture = scene_picture(scene.name, preview, files_out.binary, predictor.manifest)
            (place.out / PLOTS).mkdir(parents=True, exist_ok=True)
            write_png(place.out / PLOTS / f"{scene.name}.png", picture)
    settings = prediction_settings(
        place.model, predictor.manifest, str(predictor.device), predictor.tta, arguments.overlap, place.ensemble
    )
    write_text(place.out / PREDICTION, json.dumps({"images": images} | settings, indent=2) + "\n")
    own.finish({BINARY, *wanted.folders})
    console.print(f"written to {place.out}")


def _check_names(scenes: Sequence[SceneFiles]) -> None:
    """Raise InputError where the results of two images would have the same name."""
    named: dict[str, Path] = {}
    for scene in scenes:
        first = named.setdefault(scene.name, scene.image[0])
        if first != scene.image[0]:
            raise InputError(
                f"{first} and {scene.image[0].name} differ in the extension alone, so one result would replace the "
                f"other; move one of them to another folder"
            )


def _remarks(scenes: Sequence[SceneFiles], manifest: Manifest, arguments: Namespace) -> Iterable[str]:
    """Look at all images before the first is predicted; return a line about each thing that is odd, once for all."""
    found: dict[str, str] = {}
    for scene in scenes:
        with opened_scene(scene, manifest) as source:
            found = {**scene_scale(manifest, source, arguments.resolution).remarks, **found}
            if arguments.polygons and (line := place_remark(source)):
                found["place"] = line
    return found.values()


def _outputs(
    scene: SceneFiles, out: Path, arguments: Namespace, wanted: Wanted, own: OwnFiles, named: Sequence[Category]
) -> SceneOutputs:
    """Return the files that are written for a scene: its mask always, since it is what people predict for."""
    files = {BINARY: f"{scene.name}.tif", RAW: f"{scene.name}.tif", PLOTS: f"{scene.name}.png"}
    places = {name: out / name / file for name, file in files.items() if name in wanted.folders | {BINARY}}
    for path in places.values():
        own.check(path)
        if any(path.exists() and path.samefile(file) for file in (*scene.image, *scene.channels)):
            raise InputError(f"-o: {path} is the image itself; give another folder")
    polygons = Path(arguments.polygons) if arguments.polygons else None
    return SceneOutputs(places[BINARY], places.get(RAW), polygons, named, arguments.cog, arguments.simplify)


def _written(outputs: SceneOutputs, out: Path, wanted: Wanted) -> list[Path]:
    """Return the files that get the results of a scene."""
    assert outputs.binary
    picture = out / PLOTS / f"{outputs.binary.stem}.png" if wanted.plots else None
    return [path for path in (outputs.binary, outputs.raw, outputs.polygons, picture) if path]


def _predict(
    scene: SceneFiles, outputs: SceneOutputs, predictor: Predictor, arguments: Namespace, console: Console
) -> tuple[SceneResult, Preview]:
    """Predict a scene; return what was found, and a small picture of it."""
    with opened_scene(scene, predictor.manifest) as source, step_bar(console) as bar:
        preview = preview_of(source, predictor.manifest)
        result = predict_scene(
            predictor,
            preview,
            outputs,
            arguments.overlap,
            lambda done, windows: bar.update(done, windows, f"predicting {scene.name}"),
            arguments.resolution,
        )
        return result, preview


def _line(scene: SceneFiles, result: SceneResult, predictor: Predictor) -> str:
    """Return a line with the share of each label in a scene."""
    labels, total = predictor.manifest.labels, max(1, sum(result.pixels.values()))
    titles = class_titles(labels)[0 if labels.predicts_background else 1 :]
    named = zip(titles, result.pixels.values(), strict=True)
    shares = ", ".join(f"{count / total:.1%} {title}" for title, count in named)
    objects = "" if result.objects is None else f"; {counted(result.objects, 'outline')}"
    return f"{scene.name}: {result.width}x{result.height} pixels: {shares}{objects}"
