"""Describe an exported network to programs that open it: QGIS's plugin Deepness, and catalogues that read STAC."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from segtune.config import RunConfig
from segtune.data.labels import Labels
from segtune.models.manifest import Manifest
from segtune.roles import Role, declared
from segtune.vocabulary import EXPORT_FILES, ExportKind

_MLM = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"
_TASKS = ["semantic-segmentation"]
_OVERLAP = 25  # percent of a tile's side that neighbours share, as in a validation with windows
_RESOLUTION = 100.0  # cm per pixel, where the training tiles do not tell
_CM = 100.0  # per metre
_ARTIFACTS = {
    "onnx": "onnx",
    "deepness": "onnx",
    "torchscript": "torch.jit.save",
    "torch_export": "torch.export.save",
}
_RESIZE_TYPES = {"resize": "interpolation-area", "crop": "crop", "pad": "pad"}


def input_resolution(manifest: Manifest) -> float | None:
    """Return the metres per pixel of the network's input; None where the training tiles do not tell.

    It is that of the tiles, unless they were resized to `image_size`.
    """
    config, side, size = manifest.config, manifest.tile_size, manifest.config.image_size
    if manifest.resolution is None or side is None or size is None:
        return None
    resized = config.fit == "resize" or (config.fit == "pad" and side > size)
    return manifest.resolution * side / size if resized else manifest.resolution


def unknown_resolution(manifest: Manifest) -> tuple[str, ...]:
    """Return a line if the resolution is written without being known; else nothing."""
    if input_resolution(manifest) is not None:
        return ()
    return (
        f"the training tiles have no georeference, so the file says {_RESOLUTION:g} cm per pixel; set the true "
        "resolution in Deepness",
    )


def deepness_metadata(manifest: Manifest) -> dict[str, str]:
    """Return the `metadata_props` by which Deepness fills its form, each value as JSON.

    They follow the code of Deepness 0.6: https://github.com/PUTvision/qgis-plugin-deepness. Its documentation says
    `tiles_size` where its code reads `tile_size`. Where its threshold is 0, the class with the largest probability is
    taken. It removes small objects with a median filter of `seg_small_segment` pixels: one of side s removes what
    covers less than half of it.
    """
    labels, metres = manifest.labels, input_resolution(manifest)
    bands = len(manifest.bands)
    names = ["background", *map(labels.text, labels.classes)]
    if not labels.predicts_background:  # a name for each output; one output stands for two names
        names = names[1:]
    values = {
        "model_type": "Segmentor",
        "class_names": {str(number): name for number, name in enumerate(names)},
        "resolution": _RESOLUTION if metres is None else round(metres * _CM, 6),
        "tile_size": manifest.config.image_size,
        "tiles_size": manifest.config.image_size,
        "tiles_overlap": _OVERLAP,
        "standardization_mean": [0.0] * bands,  # normalization happens in the graph
        "standardization_std": [1.0] * bands,
        "seg_thresh": manifest.threshold if labels.binary else 0.0,
        "seg_small_segment": math.isqrt(2 * manifest.min_area),
    }
    return {key: json.dumps(value) for key, value in values.items()}


def stac_item(manifest: Manifest, kind: ExportKind, file: str) -> str:
    """Return an item of the SpatioTemporal Asset Catalog with its Machine Learning Model extension 1.5, as JSON.

    It has no geometry: a model can be used anywhere. `file` is the name of the exported file beside it.
    """
    config = manifest.config
    name = f"segtune {config.model} {config.encoder}"
    onnx = EXPORT_FILES[kind].endswith(".onnx")
    bands = [_band(manifest, position) for position in range(len(manifest.bands))]
    properties = {
        "datetime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "title": name,
        "description": _description(manifest),
        "bands": bands,
        **({"gsd": gsd} if (gsd := input_resolution(manifest)) else {}),
        "mlm:name": re.sub(r"[^a-zA-Z0-9_. -]", "_", name),
        "mlm:architecture": f"{config.model} with encoder {config.encoder}",
        "mlm:tasks": _TASKS,
        "mlm:framework": "ONNX" if onnx else "PyTorch",
        "mlm:framework_version": version("onnx" if onnx else "torch"),
        "mlm:total_parameters": manifest.parameters,
        **_pretrained(config),
        "mlm:batch_size_suggestion": manifest.evaluation_batch_size,
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:accelerator_summary": "any CPU or GPU",
        "mlm:input": [_input(manifest, kind)],
        "mlm:output": _outputs(manifest, kind),
        "mlm:hyperparameters": _hyperparameters(manifest),
    }
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [_MLM],
        "id": f"{config.model}-{re.sub(r'[^a-zA-Z0-9_.-]', '_', config.encoder)}-{manifest.fingerprint}",
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": {
            "model": {
                "href": f"./{file}",
                "type": f"application/octet-stream; application={'onnx' if onnx else 'pytorch'}",
                "title": f"exported network ({kind})",
                "roles": ["mlm:model"],
                "bands": bands,  # the core of STAC wants them here, too
                "mlm:artifact_type": _ARTIFACTS[kind],
            }
        },
    }
    return json.dumps(item, indent=2, ensure_ascii=False) + "\n"


def _description(manifest: Manifest) -> str:
    miou = manifest.metrics.get("miou")
    measured = f" mIoU {miou:.4f} on the validation tiles." if miou is not None else ""
    return f"Semantic segmentation of tiles, trained with segtune.{measured} Normalization is part of the file."


def _band(manifest: Manifest, position: int) -> dict[str, Any]:
    """Return an input band with the statistics that the file normalizes it with."""
    band = manifest.bands[position]
    kept = {"data_type": "uint8"} if manifest.uint8 else {}
    return {"name": band.name, **kept, "statistics": {"mean": band.mean, "stddev": band.std}}


def _pretrained(config: RunConfig) -> dict[str, Any]:
    """Return what the encoder started from, where the settings tell."""
    weights = config.encoder_weights
    if weights == "auto":
        return {}
    source = None if weights == "none" else "ImageNet" if weights == "imagenet" else "a file of weights"
    return {"mlm:pretrained": source is not None, "mlm:pretrained_source": source}


def _input(manifest: Manifest, kind: ExportKind) -> dict[str, Any]:
    """Return the description of the input; what the file itself does is not repeated as `value_scaling`."""
    size = manifest.config.image_size
    deepness = kind == "deepness"
    return {
        "name": "image",
        "description": "pixel values divided by 255" if deepness else "pixel values as they are read, not normalized",
        "bands": [band.name for band in manifest.bands],
        "input": {
            "shape": [-1, len(manifest.bands), size, size],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        **({"value_scaling": [{"type": "scale", "value": 255}]} if deepness else {}),
        "resize_type": _RESIZE_TYPES[manifest.config.fit],
    }


def _outputs(manifest: Manifest, kind: ExportKind) -> list[dict[str, Any]]:
    labels, size = manifest.labels, manifest.config.image_size
    values = [labels.background_label, *labels.classes]
    probabilities = {
        "name": "probabilities",
        "description": "of the class" if labels.binary else "of the classes in their order; they add up to 1",
        "tasks": _TASKS,
        "result": {
            "shape": [-1, labels.outputs, size, size],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": _classes(labels, values[labels.first :]),
    }
    if kind == "deepness":
        return [probabilities]
    return [
        probabilities,
        {
            "name": "labels",
            "description": "the labels of the data set",
            "tasks": _TASKS,
            "result": {
                "shape": [-1, size, size],
                "dim_order": ["batch", "height", "width"],
                "data_type": label_type(labels),
            },
            "classification:classes": _classes(labels, values if labels.binary else values[labels.first :]),
        },
    ]


def label_type(labels: Labels) -> str:
    """Return the type of the labels that an exported file gives: the smallest of three that holds them all."""
    values = (labels.background_label, *labels.classes)
    kinds = (np.iinfo(name) for name in ("uint8", "int32", "int64"))
    return next(str(kind.dtype) for kind in kinds if kind.min <= min(values) and max(values) <= kind.max)


def _classes(labels: Labels, values: Sequence[int]) -> list[dict[str, Any]]:
    """Return classes of STAC's Classification extension, whose names are made of letters, digits, - and _ alone."""
    found = []
    for value in values:
        text = labels.text(value) if value in labels.classes else "background"
        plain = re.sub(r"[^0-9A-Za-z_-]+", "_", text).strip("_")
        found.append({"value": value, "name": plain or f"class_{value}", "description": text})
    return found


def _hyperparameters(manifest: Manifest) -> dict[str, Any]:
    """Return the settings that a search can vary, and what a prediction is made with."""
    roles = declared(RunConfig, Role)
    settings = {name: value for name, value in manifest.config.settings().items() if roles[name].searchable}
    return settings | {"threshold": manifest.threshold, "min_area": manifest.min_area}
