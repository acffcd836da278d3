"""Export a trained network to a file that other programs run: normalization, network, probabilities and labels."""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from segtune.data.fitting import Fit, decode
from segtune.data.reading import TilePixels, read_image
from segtune.data.tiles import ReadSettings, Tile
from segtune.errors import ExportError, InputError, counted, named
from segtune.files.atomic import replaced_file, write_text
from segtune.models.export_metadata import deepness_metadata, label_type, stac_item, unknown_resolution
from segtune.models.manifest import Manifest
from segtune.models.normalization import Normalization
from segtune.vocabulary import EXPORT_FILES, ExportKind

# onnxruntime 1.14 and later reads these. Deepness, a plugin of QGIS, installs one that refuses IR versions above 9.
OPSET, IR_VERSION = 18, 8
MOST_DIFFERENCE = 1e-3  # between probabilities of the file and of the network
_UINT8_MAX = 255.0
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_COMPARED = 8  # tiles
_MADE_UP = 2  # tiles, where there are no real ones
_ANY_NUMBER = ({0: torch.export.Dim("batch", min=1)},)  # of images

Images = npt.NDArray[np.float32]  # as the network's input is read: pixel values, (B, S, S, bands)
# (B, bands, S, S) -> the outputs: probabilities, (B, outputs, S, S), and labels, (B, S, S), if the file gives them
_Run = Callable[[npt.NDArray[np.float32]], Sequence[npt.NDArray[Any]]]


@dataclass(frozen=True)
class Export:
    """A network that was exported, and how closely its file computes what the network does."""

    path: Path
    item: Path  # the STAC item beside it
    difference: float  # the largest one between probabilities of the file and of the network
    tiles: int  # that were compared
    made_up: bool  # the tiles, as no real ones were given
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what the console says about it."""
        compared = f"{self.tiles} made-up tiles; -d compares on real ones" if self.made_up else f"{self.tiles} tiles"
        return [
            *(f"note: {remark}" for remark in self.remarks),
            f"largest difference between its probabilities and the model's: {self.difference:.1e}, on {compared}",
            f"written to {self.path}, with the STAC item {self.item.name}",
        ]


class ExportedNetwork(nn.Module):
    """A network with its normalization before it, and probabilities and labels behind it.

    It takes images, (B, bands, S, S), float32, and returns probabilities, (B, outputs, S, S), and with `labelled` also
    the data set's own labels, (B, S, S). `largest` is what the largest pixel value is in the images.
    """

    def __init__(self, network: nn.Module, manifest: Manifest, largest: float | None, labelled: bool) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.table: Tensor
        self.network, self.labels, self.labelled = network, manifest.labels, labelled
        self.threshold = manifest.threshold
        scale = _UINT8_MAX / largest if largest else 1.0
        statistics = np.array([(band.mean, band.std) for band in manifest.bands]) / scale
        self.register_buffer("mean", torch.tensor(statistics[:, 0], dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(statistics[:, 1], dtype=torch.float32).view(1, -1, 1, 1))
        table = [self.labels.background_label, *self.labels.classes]
        self.register_buffer("table", torch.tensor(table, dtype=getattr(torch, label_type(self.labels))))

    def forward(self, image: Tensor) -> Any:
        logits = self.network((image - self.mean) / self.std)
        probabilities = logits.sigmoid() if self.labels.binary else logits.softmax(dim=1)
        if not self.labelled:
            return probabilities
        if self.labels.binary:
            indices = (probabilities[:, 0] > self.threshold).long()
        else:
            indices = logits.argmax(dim=1) + self.labels.first
        return probabilities, self.table[indices]


def check_export(kind: ExportKind, manifest: Manifest) -> None:
    """Raise InputError if a package that the export needs is missing, or the model does not suit its reader."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if EXPORT_FILES[kind].endswith(".onnx") and missing:
        raise InputError(
            f"--export {kind}: needs {' and '.join(missing)}, not found here; pip install '.[export]' installs it"
        )
    if kind == "deepness" and not manifest.uint8:
        raise InputError(
            "--export deepness: Deepness reads 8-bit rasters only, and the model was trained with images of another "
            "type; --export onnx takes their pixel values as they are"
        )


def tiles_to_compare(tiles: Sequence[Tile], manifest: Manifest) -> Images:
    """Read the first tiles of a split as the network's input, (B, S, S, bands); their masks are not needed.

    Raises InputError where a file is unreadable or has another number of bands.
    """
    config, fit = manifest.config, Fit.of(manifest.config)
    settings = [manifest.read_settings, *(ReadSettings(config.nodata, bands=1) for _ in manifest.channel_files)]
    found = []
    for tile in tiles[:_COMPARED]:
        paths = (tile.image, *tile.channels)
        sources, valid = zip(*(read_image(*pair) for pair in zip(paths, settings, strict=True)), strict=True)
        everywhere = np.logical_and.reduce(valid)
        pixels = TilePixels(list(sources), everywhere, np.zeros(everywhere.shape, np.uint8))
        image = fit.pad_image(np.dstack(decode(pixels, fit, training=False).sources))
        if image.shape[2] != len(manifest.bands):
            raise InputError(f"{tile.image}: {image.shape[2]} bands, but the model takes {len(manifest.bands)}")
        found.append(image[: fit.size, : fit.size].astype(np.float32))
    return np.stack(found)


def export_model(
    model: nn.Module, manifest: Manifest, kind: ExportKind, path: Path, tiles: Images | None = None
) -> Export:
    """Write a model to a file of its own, and a STAC item beside it.

    The file takes images of one size, `image_size`, in any number. After it is written, it is opened again and compared
    with the model; a file that computes something else is not kept.

    Parameters
    ----------
    model: what `load_model` returned; it stays as it is.
    manifest: what `load_model` returned.
    kind: onnx; deepness, an ONNX file for that plugin of QGIS; torchscript; or torch_export.
    path: the file; its folder is made. The item is named `path` + .stac.json.
    tiles: pixel values, (B, S, S, bands), to compare on; without them, made-up ones.

    Raises InputError if the kind does not work with the model or a package is missing, and ExportError if the file
    computes something else.
    """
    check_export(kind, manifest)
    largest = 1.0 if kind == "deepness" else None
    network = copy.deepcopy(model).cpu().float().to(memory_format=torch.contiguous_format).eval()
    exported = ExportedNetwork(network, manifest, largest, kind != "deepness").eval()
    images = made_up_tiles(manifest) if tiles is None else tiles
    metadata = deepness_metadata(manifest) if kind == "deepness" else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as temporary:
        temporary.write_bytes(_content(exported, manifest, kind, metadata))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated, and works
            difference, wrong = _difference(_opened(kind, temporary), network, manifest, images, largest)
        if not difference <= MOST_DIFFERENCE:  # NaN, too
            raise ExportError(
                f"--export {kind}: the file's probabilities differ from the model's by {difference:.1e}; not written"
            )
        if wrong:
            raise ExportError(
                f"--export {kind}: the file's labels differ from the model's in {counted(wrong, 'pixel')}; not written"
            )
    item = stac_path(path)
    write_text(item, stac_item(manifest, kind, path.name))
    remarks = unknown_resolution(manifest) if kind == "deepness" else ()
    return Export(path, item, difference, len(images), tiles is None, remarks)


def stac_path(path: Path) -> Path:
    """Return where the STAC item of an exported file lies."""
    return path.with_name(f"{path.name}.stac.json")


def made_up_tiles(manifest: Manifest) -> Images:
    """Return noise, (B, S, S, bands), with the bands' own statistics; always the same."""
    random, size = np.random.default_rng(0), manifest.config.image_size or 0
    low, high, mean, std = np.array([(band.low, band.high, band.mean, band.std) for band in manifest.bands]).T
    noise = random.normal(mean, std, (_MADE_UP, size, size, len(mean))).clip(low, high)
    return (np.round(noise) if manifest.uint8 else noise).astype(np.float32)


def _content(network: ExportedNetwork, manifest: Manifest, kind: ExportKind, metadata: dict[str, str]) -> bytes:
    """Return the bytes of the file; raise InputError if the kind does not work with the network."""
    size, bands = manifest.config.image_size or 0, len(manifest.bands)
    example = torch.zeros(2, bands, size, size)  # torch.export would fix a batch of one
    disabled = logging.root.manager.disable
    logging.disable()  # of torch, many lines about a layer that it cannot export
    try:
        # torch prints its graph, too.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch, timm and smp, about their own code
            if kind == "torchscript":
                return _torchscript(network, example)
            return _torch_export(network, example) if kind == "torch_export" else _onnx(network, example, metadata)
    except Exception as error:
        # The exporters raise errors of many kinds: each layer that one of them does not know has its own.
        config = manifest.config
        raise InputError(
            f"--export {kind}: does not work with model {config.model} and encoder {config.encoder} "
            f"({named(error)}); another kind may"
        ) from error
    finally:
        logging.disable(disabled)


def _torchscript(network: nn.Module, example: Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(network, example, check_trace=False), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _torch_export(network: ExportedNetwork, example: Tensor) -> bytes:
    buffer = io.BytesIO()
    program = torch.export.export(network, (example,), dynamic_shapes=_ANY_NUMBER)
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx(network: ExportedNetwork, example: Tensor, metadata: dict[str, str]) -> bytes:
    names = ["probabilities", "labels"] if network.labelled else ["probabilities"]
    exported = torch.onnx.export(
        network,
        (example,),
        dynamic_shapes=_ANY_NUMBER,
        input_names=["image"],
        output_names=names,
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert exported is not None
    model = exported.model_proto
    model.ir_version = IR_VERSION
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


def _opened(kind: ExportKind, path: Path) -> _Run:
    """Open an exported file as its users will."""
    if EXPORT_FILES[kind].endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"image": images})
    content = io.BytesIO(path.read_bytes())
    load = torch.jit.load if kind == "torchscript" else lambda file: torch.export.load(file).module()
    network = load(content)

    def run(images: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        with torch.no_grad():
            return [output.numpy() for output in network(torch.from_numpy(images))]

    return run


def _difference(
    run: _Run, network: nn.Module, manifest: Manifest, images: Images, largest: float | None
) -> tuple[float, int]:
    """Compare what a file gives with a network, for all tiles and for one.

    Returns the largest difference of probabilities, and the number of pixels that have a wrong label.
    """
    with torch.no_grad():
        logits = network(Normalization(manifest.bands, torch.device("cpu"))(torch.from_numpy(images)))
        expected = (logits.sigmoid() if manifest.labels.binary else logits.softmax(dim=1)).numpy()
    inputs = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if largest:
        inputs = inputs * np.float32(largest / _UINT8_MAX)
    differences, wrong = [0.0], 0
    for found, wanted in ((run(inputs), expected), (run(inputs[:1]), expected[:1])):
        differences.append(float(np.abs(found[0] - wanted).max()))
        wrong += sum(_wrong_labels(labels, wanted, manifest) for labels in found[1:])
    return float(np.max(differences)), wrong  # NaN stays NaN


def _wrong_labels(found: npt.NDArray[Any], probabilities: npt.NDArray[np.float32], manifest: Manifest) -> int:
    """Return the number of pixels of labels, (B, S, S), that are not those of the probabilities, (B, outputs, S, S).

    Where two are as likely as each other, but for what probabilities may differ by, both are right.
    """
    labels = manifest.labels
    first, above = labels.first, probabilities
    if labels.binary:
        first, above = 0, np.concatenate([manifest.threshold - probabilities, probabilities - manifest.threshold], 1)
    likely = above >= above.max(axis=1, keepdims=True) - 2 * MOST_DIFFERENCE
    values = labels.to_labels(np.arange(first, first + above.shape[1], dtype=np.uint8))
    right = (found[:, None] == values[:, None, None]) & likely
    return int((~right.any(axis=1)).sum())
