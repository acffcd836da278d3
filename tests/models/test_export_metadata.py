"""Deepness and catalogues of STAC read what stands beside an exported network."""

from __future__ import annotations

import json
import re
from typing import Any

import pystac
import pytest
from pystac.validation import JsonSchemaSTACValidator
from stac_model.schema import MLModelProperties

from segtune.models.export_metadata import deepness_metadata, input_resolution, stac_item
from segtune.vocabulary import EXPORT_FILES, ExportKind
from tests.models.exporting import manifest_of

PLACED = {"tile_size": 64, "resolution": 10.0, "image_size": 32}


def form(**changes: Any) -> dict[str, Any]:
    """Return what Deepness fills its form with."""
    return {name: json.loads(text) for name, text in deepness_metadata(manifest_of(**changes)).items()}


def item(kind: ExportKind = "onnx", **changes: Any) -> dict[str, Any]:
    return json.loads(stac_item(manifest_of(**changes), kind, EXPORT_FILES[kind]))


@pytest.mark.parametrize(
    ("fit", "tile_size", "metres"),
    [("resize", 64, 20.0), ("resize", 16, 5.0), ("crop", 64, 10.0), ("pad", 64, 20.0), ("pad", 16, 10.0)],
)
def test_resolution_is_that_of_the_networks_input(fit: str, tile_size: int, metres: float) -> None:
    given = PLACED | {"fit": fit, "tile_size": tile_size}
    assert input_resolution(manifest_of(**given)) == metres
    assert form(**given)["resolution"] == metres * 100
    assert item(**given)["properties"]["gsd"] == metres


def test_resolution_of_tiles_without_a_place_is_unknown() -> None:
    assert input_resolution(manifest_of(tile_size=64)) is None
    assert form(tile_size=64)["resolution"] == 100
    assert "gsd" not in item(tile_size=64)["properties"]


@pytest.mark.parametrize(
    ("classes", "background", "names"),
    [
        ((255,), True, ["background", "255 field"]),  # one output stands for both
        ((3, 7), True, ["background", "3 field", "7 road"]),
        ((3, 7), False, ["3 field", "7 road"]),
    ],
)
def test_deepness_gets_a_name_for_each_class(classes: Any, background: bool, names: list[str]) -> None:
    found = form(classes=classes, background=background, class_names=["field", "road"][: len(classes)])
    assert found["class_names"] == {str(number): name for number, name in enumerate(names)}


def test_deepness_gets_identity_as_standardization() -> None:
    assert (form()["standardization_mean"], form()["standardization_std"]) == ([0.0, 0.0], [1.0, 1.0])


def test_the_threshold_is_for_a_single_class() -> None:
    assert form(threshold=0.3)["seg_thresh"] == 0.3
    assert form(classes=(3, 7), threshold=0.3)["seg_thresh"] == 0  # the largest probability


@pytest.mark.parametrize(("min_area", "side"), [(0, 0), (8, 4), (50, 10)])
def test_small_objects_become_the_side_of_a_median_filter(min_area: int, side: int) -> None:
    assert form(min_area=min_area)["seg_small_segment"] == side


@pytest.mark.parametrize("kind", EXPORT_FILES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"classes": (3, 300), "class_names": ["Straße", "水"], **PLACED},
        {"classes": (3, 7), "background": False, "fit": "pad", "uint8": False, "encoder": "tu-convnext_atto.d2_in1k"},
        {"encoder_weights": "imagenet"},
        {"encoder_weights": "auto"},
    ],
)
def test_the_item_is_valid(kind: ExportKind, changes: dict[str, Any]) -> None:
    found = item(kind, **changes)
    # STAC's own schema, as pystac brings it, and the extension's rules, as its authors' package has them.
    assert JsonSchemaSTACValidator().validate_core(found, pystac.STACObjectType.ITEM, "1.1.0")
    MLModelProperties.model_validate(found["properties"])
    assert found["stac_extensions"] == ["https://stac-extensions.github.io/mlm/v1.5.0/schema.json"]
    # What the extension's schema asks for beyond that.
    properties = found["properties"]
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", properties["mlm:name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9a-zA-Z.-]+)?(\+[0-9a-zA-Z.-]+)?", properties["mlm:framework_version"])
    for output in properties["mlm:output"]:
        assert "bands" not in output["result"]["dim_order"]
        assert all(re.fullmatch("[0-9A-Za-z_-]+", entry["name"]) for entry in output["classification:classes"])
    (model,) = found["assets"].values()
    assert model["bands"] == properties["bands"]
    assert model["href"] == f"./{EXPORT_FILES[kind]}"
    assert "mlm:model" in model["roles"]


def test_the_item_says_what_goes_in_and_out() -> None:
    found = item(classes=(3, 300), class_names=["Straße", "水"], fit="crop")["properties"]
    (image,), (probabilities, labels) = found["mlm:input"], found["mlm:output"]
    assert image["bands"] == [band["name"] for band in found["bands"]] == ["image:1", "image:2"]
    assert image["input"]["shape"] == [-1, 2, 32, 32]
    assert "value_scaling" not in image  # the file normalizes
    assert image["resize_type"] == "crop"
    assert found["bands"][0]["statistics"] == {"mean": 90.0, "stddev": 40.0}
    assert probabilities["result"]["shape"] == [-1, 3, 32, 32]
    assert [entry["value"] for entry in probabilities["classification:classes"]] == [0, 3, 300]
    assert [entry["name"] for entry in labels["classification:classes"]] == ["background", "3_Stra_e", "300"]
    assert labels["classification:classes"][2]["description"] == "300 水"
    assert labels["result"]["data_type"] == "int32"


def test_the_item_of_deepness_says_what_it_divides_by() -> None:
    found = item("deepness")["properties"]
    assert found["mlm:input"][0]["value_scaling"] == [{"type": "scale", "value": 255}]
    assert len(found["mlm:output"]) == 1
    assert [entry["value"] for entry in found["mlm:output"][0]["classification:classes"]] == [3]


def test_hyperparameters_are_what_a_search_varies() -> None:
    found = item(threshold=0.4, min_area=9)["properties"]["mlm:hyperparameters"]
    assert (found["encoder"], found["threshold"], found["min_area"]) == ("resnet18", 0.4, 9)
    assert not {"dataset", "seed"} & found.keys()


@pytest.mark.parametrize(
    ("weights", "source"), [("none", (False, None)), ("imagenet", (True, "ImageNet")), ("auto", (None, None))]
)
def test_the_item_says_what_the_encoder_started_from(weights: str, source: Any) -> None:
    found = item(encoder_weights=weights)["properties"]
    assert (found.get("mlm:pretrained"), found.get("mlm:pretrained_source")) == source
