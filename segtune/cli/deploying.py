"""Write a model in other programs' formats, or upload it: validate.py's work for --export and --push-to-hub."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import torch
from rich.console import Console

from segtune.cli.validate_flags import band_order
from segtune.data.pairs import find_tiles
from segtune.data.tiles import Layout
from segtune.models.checkpoint import load_model
from segtune.models.export import check_export, export_model, tiles_to_compare
from segtune.models.hub import check_repo, push_model
from segtune.vocabulary import EXPORT_FILES


def deploy(folder: Path, split: Path | None, arguments: Namespace, console: Console) -> None:
    """Export a model and upload it, as far as the flags ask for it.

    `split` holds tiles that the exported file is compared with the model on; None for made-up ones.
    """
    if arguments.push_to_hub:
        check_repo(arguments.push_to_hub)
    if not (arguments.export or arguments.push_to_hub):
        return
    model, manifest = load_model(folder, torch.device("cpu"))
    manifest = manifest.with_order(band_order(arguments))
    if kind := arguments.export:
        check_export(kind, manifest)
        config = manifest.config
        tiles = (
            tiles_to_compare(find_tiles(split, Layout.of(config, manifest.channel_files)), manifest) if split else None
        )
        if manifest.order:
            names = ", ".join(band.name for band in manifest.bands)
            console.print(f"note: --bands is for the images here; the file takes the model's own bands: {names}")
        out = Path(arguments.output_dir) if arguments.output_dir else folder / "export"
        out.mkdir(parents=True, exist_ok=True)
        export = export_model(model, manifest, kind, out / EXPORT_FILES[kind], tiles)
        console.print(*export.lines(), sep="\n")
    if arguments.push_to_hub:
        console.print(push_model(model, folder, arguments.push_to_hub))
