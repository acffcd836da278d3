"""A trained model as an object that predicts: what segtune.load returns."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from segtune.class_names import split_classes
from segtune.errors import InputError
from segtune.evaluation.images import ImageLike, Prediction, predict_image
from segtune.evaluation.opened import Changes, open_predictor
from segtune.evaluation.predictor import Predictor
from segtune.evaluation.scene_output import output_names
from segtune.files.folders import find_model
from segtune.models.chosen import model_at
from segtune.models.ensemble import ensemble_of
from segtune.models.foreign import Described, has_manifest
from segtune.values import OVERLAP

Place = str | PathLike[str]
# Names that messages have for the scripts' users, and those of the arguments here.
_ARGUMENTS = {
    "-c": "model",
    "-d": "split",
    "-t": "threshold",
    **{f"--{name}": name for name in ("overlap", "name", "classes", "channels", "mean", "std", "ensemble")},
    "--exp-name": "folder",
    "--results-dir": "results_dir",
}
_FLAG = re.compile(rf"(?<!\S)({'|'.join(map(re.escape, _ARGUMENTS))})(?=[:,; ]|$)")


class Model:
    """A trained model that predicts images; `segtune.load` makes it."""

    def __init__(self, folder: Path, predictor: Predictor, changes: Changes) -> None:
        self._folder, self._predictor, self._changes = folder, predictor, changes

    @property
    def folder(self) -> Path:
        """The folder with config.json, model.safetensors and run.yaml."""
        return self._folder

    @property
    def models(self) -> tuple[Path, ...]:
        """The folders of all models whose probabilities are averaged; one for a single model."""
        return (self._folder, *self._changes.ensemble)

    @property
    def classes(self) -> dict[int, str]:
        """The labels that the model learnt, with their names; a class without a name has its label as text."""
        labels = self._predictor.manifest.labels
        return dict(zip(labels.classes, labels.names or map(str, labels.classes), strict=True))

    @property
    def outputs(self) -> tuple[str, ...]:
        """What each of the probabilities of a prediction is of: background, where it is learnt, then the classes."""
        return tuple(output_names(self._predictor.manifest.labels))

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of an image, in their order: `image:1`, `image:2`, ..., then the extra channels."""
        return tuple(band.name for band in self._predictor.manifest.bands)

    @property
    def image_size(self) -> int:
        """The side, in pixels, of the square that the network sees; images are fitted to it."""
        return self._predictor.fit.size

    @property
    def threshold(self) -> float:
        """The probability above which a pixel belongs to the class, for a model of one class."""
        return self._predictor.manifest.threshold

    @property
    def device(self) -> str:
        """Where the model computes: cpu, cuda or cuda:N."""
        return str(self._predictor.device)

    def predict(self, image: ImageLike, overlap: float = OVERLAP) -> Prediction:
        """Predict an image.

        Parameters
        ----------
        image: an array, (H, W, bands), of the values that the training's images hold, not normalized; (H, W) for a
            model of one band. Or the path of an image, or an open data set of rasterio. The size is free: an image
            that is larger than the training's tiles is predicted in windows.
        overlap: share of their side by which neighbouring windows overlap at least, from 0 to 0.9.

        The result takes 4 bytes per pixel and output, and a few more: `validate.py -d FILE` writes scenes that are
        larger than memory. Raises InputError, a ValueError, where the image does not fit the model.
        """
        remarks: list[str] = []
        with named_as_here():
            found = predict_image(self._predictor, image, overlap, remarks.append)
        warn(remarks)
        return found

    def __repr__(self) -> str:
        config, classes = self._predictor.manifest.config, ", ".join(map(str, self.classes))
        mean = f"mean of {len(self.models)}, " if len(self.models) > 1 else ""
        what = f"{mean}{config.model}, {config.encoder}, classes {classes}, {len(self.bands)} bands"
        return f"<Model {what}, on {self.device}>"


def load(
    model: Place,
    *,
    ensemble: bool = False,
    device: str = "auto",
    threshold: float | None = None,
    classes: Sequence[int] | Mapping[int, str] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    channels: Sequence[str] = (),
) -> Model:
    """Load a model for predictions.

    Parameters
    ----------
    model: the folder of a search (its winner is loaded), of a run or of a model, or the file model.safetensors.
    ensemble: average the probabilities of several models, as validate.py --ensemble does: those of all fresh seeds of a
        confirmed search's winner, or all in a folder of models or runs.
    device: auto, cpu, cuda or cuda:N.
    threshold: probability above which a pixel belongs to the class, for a model of one class; None: the model's own.
    classes, mean, std, channels: what a model without run.yaml, as smp's save_pretrained writes it, was trained on: the
        labels in the order of its outputs, or a dict of labels and names; mean and standard deviation of each band, in
        pixel values; the folders of extra channels, whose bands are the last ones.

    Nothing that is stored in a file is executed. Raises InputError, a ValueError, where there is no sound model or this
    machine lacks the device.
    """
    if threshold is not None and not 0 < threshold < 1:
        raise InputError(f"threshold: must be between 0 and 1, but got {threshold:g}")
    with named_as_here():
        folder, *others = ensemble_of(Path(model)) if ensemble else [model_folder(model)]
        said = _described(folder, classes, mean, std, channels)
        changes = Changes(threshold=threshold, described=said, ensemble=tuple(others))
        return Model(folder, open_predictor(folder, device, changes), changes)


def _described(
    folder: Path,
    classes: Sequence[int] | Mapping[int, str],
    mean: Sequence[float],
    std: Sequence[float],
    channels: Sequence[str],
) -> Described | None:
    """Return what the caller says of a model without run.yaml; None for a model with one, of which nothing is said."""
    settings = split_classes({"classes": classes})
    said = Described(
        classes=tuple(settings["classes"]),
        names=tuple(settings.get("class_names", ())),
        channels=tuple(channels),
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
    )
    if not has_manifest(folder):
        if not all(value > 0 for value in said.std):
            raise InputError(f"std: must be above 0, but got {min(said.std):g}")
        return said
    if said.given:
        names = ", ".join(said.given)
        raise InputError(f"{names}: {folder} has a run.yaml, which says what it was trained on; leave it out")
    return None


def model_folder(model: Place) -> Path:
    """Return the folder of a model, from that of a search, a run or a model, or from the file of its weights."""
    path = Path(model)
    return find_model(path) if path.is_dir() else model_at(path)


def warn(remarks: Sequence[str]) -> None:
    """Warn of what is odd, at the line of the user's call."""
    for remark in remarks:
        warnings.warn(remark.removeprefix("warning: "), stacklevel=3)


@contextmanager
def named_as_here() -> Iterator[None]:
    """Give the messages of errors the names of arguments, where they have those of flags."""
    try:
        yield
    except InputError as error:
        mistakes = [_FLAG.sub(lambda found: _ARGUMENTS[found[1]], line) for line in error.mistakes]
        if mistakes == error.mistakes:
            raise
        raise InputError(mistakes) from None
