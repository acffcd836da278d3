"""The files that a validation writes for each tile: plots, masks and probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from segtune.cli.own_files import OwnFiles
from segtune.cli.validate_flags import BINARY, PLOTS, RAW, Wanted
from segtune.data.fitting import Fit
from segtune.evaluation.predict import probabilities
from segtune.evaluation.predicted_masks import write_mask, write_probabilities
from segtune.evaluation.scene_output import output_names
from segtune.evaluation.validate import PredictedTile
from segtune.files.temporary import joined_folder
from segtune.pictures.gallery import tile_panels
from segtune.pictures.panels import Panels, panels, panels_name
from segtune.pictures.png import write_png
from segtune.pictures.render import categories


class TileFiles:
    """Writes files of each tile into temporary folders, which become those of OUT at the end: all files or none.

    Files that no earlier run wrote are not replaced.
    """

    def __init__(self, out: Path, folders: dict[str, Path], own: OwnFiles) -> None:
        self._out, self._folders, self._own = out, folders, own
        self.written: list[Path] = []

    def write(self, seen: PredictedTile) -> None:
        """Write the files of a tile; raise InputError where one would replace a file that is not a validation's."""
        manifest, labels = seen.manifest, seen.manifest.labels
        if folder := self._folders.get(BINARY):
            mask = labels.to_labels(seen.prediction.indices)
            self._check(write_mask(folder, seen.tile, mask, categories(labels)), BINARY)
        if folder := self._folders.get(RAW):
            likely = probabilities(seen.prediction.logits, labels).cpu().numpy()
            self._check(write_probabilities(folder, seen.tile, likely, output_names(labels)), RAW)
        if folder := self._folders.get(PLOTS):
            drawn = panels_of(seen)
            path = folder / panels_name(drawn)
            write_png(path, panels(drawn, labels, manifest.threshold))
            self._check(path, PLOTS)

    def _check(self, written: Path, name: str) -> None:
        path = self._out / name / written.name
        self._own.check(path)
        self.written.append(path)


@contextmanager
def tile_files(out: Path, wanted: Wanted, own: OwnFiles) -> Iterator[TileFiles]:
    """Yield the writer of the files that are wanted; they appear in OUT when the block ends without an error."""
    with ExitStack() as stack:
        folders = {name: stack.enter_context(joined_folder(out / name)) for name in sorted(wanted.folders)}
        files = TileFiles(out, folders, own)
        yield files
        own.claim(files.written)


def panels_of(seen: PredictedTile) -> Panels:
    """Return what is drawn of a tile and its prediction."""
    manifest, shape = seen.manifest, seen.prediction.truth.shape
    height, width = Fit.of(manifest.config).inner(*shape)
    return tile_panels(seen.tile.name, seen.store.image(seen.index)[:height, :width], manifest, seen.prediction)
