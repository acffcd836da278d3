"""Write a model in other programs' formats, or upload it: validate.py's work for --export and --push-to-hub."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console

from segtune.cli.applicable import given_flags
from segtune.cli.own_files import check_replaceable
from segtune.cli.places import model_out
from segtune.cli.validate_flags import band_order
from segtune.data.pairs import find_tiles
from segtune.errors import InputError
from segtune.files.checks import check_writable, read_own_json
from segtune.models.checkpoint import load_model
from segtune.models.export import check_export, export_model, stac_path, tiles_to_compare
from segtune.models.foreign import Described
from segtune.models.hub import check_repo, push_model
from segtune.models.manifest import Manifest
from segtune.vocabulary import EXPORT_FILES


def check_deploying(models: Mapping[Path, Manifest], arguments: Namespace) -> None:
    """Raise InputError before the time for measuring is spent.

    That is where a package is missing, a model does not suit the format, or there is no place to export or upload to.
    """
    if arguments.push_to_hub:
        if len(models) > 1:
            raise InputError(f"--push-to-hub: uploads one model, but --top names {len(models)}; name one with --trial")
        check_repo(arguments.push_to_hub)
    if not arguments.export:
        return
    for folder, manifest in models.items():
        check_export(arguments.export, manifest)
        path = _export_path(folder, len(models), arguments)
        check_writable(path.parent, "-o")
        check_replaceable(path, own=read_own_json(stac_path(path), "stac_version", "-o") is not None)


def _export_path(folder: Path, models: int, arguments: Namespace) -> Path:
    """Return the file that a model is exported to: in the folder of -o, or else in that of the model."""
    out = model_out(folder, models, arguments) if arguments.output_dir else folder / "export"
    return out / EXPORT_FILES[arguments.export]


def _own_settings(arguments: Namespace, described: Described | None) -> str | None:
    """Return a line about flags that an exported file does not follow; None where there is none."""
    size = () if described else ("tile_size",)  # else it is that of the file
    flags = given_flags(arguments, ("thres", "min_area", *size, "precision", "tta", "overlap"))
    if not flags:
        return None
    return f"note: {', '.join(flags)}: for the images here; the file follows the model's own settings, in float32"


def deploy(
    folder: Path,
    models: int,
    split: Path | None,
    arguments: Namespace,
    console: Console,
    described: Described | None = None,
) -> None:
    """Export a model and upload it, as far as the flags ask for it: one of so many.

    `split` holds tiles that the exported file is compared with the model on; None for made-up ones. `described` says
    what a model without run.yaml was trained on.
    """
    if not (arguments.export or arguments.push_to_hub):
        return
    model, manifest = load_model(folder, torch.device("cpu"), described)
    manifest = manifest.with_order(band_order(arguments))
    if kind := arguments.export:
        tiles = tiles_to_compare(find_tiles(split, manifest.layout), manifest) if split else None
        if manifest.order:
            names = ", ".join(band.name for band in manifest.bands)
            console.print(f"note: --bands is for the images here; the file takes the model's own bands: {names}")
        if line := _own_settings(arguments, described):
            console.print(line)
        export = export_model(model, manifest, kind, _export_path(folder, models, arguments), tiles)
        console.print(*export.lines(), sep="\n")
    if arguments.push_to_hub:
        console.print(push_model(model, folder, arguments.push_to_hub))
