"""Exported files compute what the model computes, open elsewhere, and are written whole or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from segtune.data.bands import Band
from segtune.data.fitting import Fit
from segtune.data.pairs import find_tiles
from segtune.data.store import DecodedTiles
from segtune.data.tiles import Layout
from segtune.errors import ExportError, InputError
from segtune.models.build import build_model
from segtune.models.export import ExportedNetwork, export_model, made_up_tiles, tiles_to_compare
from segtune.models.manifest import Manifest
from segtune.vocabulary import ExportKind
from tests.models.exporting import SIZE, expected, layer, manifest_of, pixels, to_input
from tests.models.saved import CPU

# Classes, and whether there is a background.
ONE, SEVERAL = ((3,), True), [((3, 300), True), ((3, 5), False)]
FILES = sorted({"model.onnx", "model.onnx.stac.json"})


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def mistake(model: nn.Module, manifest: Manifest, kind: ExportKind, path: Path) -> str:
    """Return the one line with which an export is refused."""
    with pytest.raises(InputError) as caught:
        export_model(model, manifest, kind, path)
    (line,) = caught.value.mistakes
    assert "\n" not in line
    return line


@pytest.mark.parametrize(("classes", "background"), [ONE, *SEVERAL])
def test_torchscript_is_what_validation_computes(classes: Any, background: bool, tmp_path: Path) -> None:
    manifest = manifest_of(classes, background, threshold=0.6)
    model, images = layer(manifest), pixels()
    export = export_model(model, manifest, "torchscript", tmp_path / "new" / "model.pt", images)
    with pytest.warns(FutureWarning):  # torch.jit is deprecated
        network = torch.jit.load(export.path)
    probabilities, labels = network(torch.from_numpy(to_input(images)))
    wanted = expected(model, manifest, images)
    torch.testing.assert_close(probabilities, wanted[0], atol=1e-6, rtol=0)
    assert torch.equal(labels.long(), wanted[1].long())
    assert len(labels.unique()) > 1
    assert export.difference < 1e-6
    assert (export.tiles, export.made_up) == (3, False)
    assert {path.name for path in export.path.parent.iterdir()} == {"model.pt", "model.pt.stac.json"}


@pytest.mark.parametrize(
    ("classes", "background"),
    [SEVERAL[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in (ONE, SEVERAL[1]))],
)
def test_onnx_is_what_validation_computes(classes: Any, background: bool, tmp_path: Path) -> None:
    manifest = manifest_of(classes, background, threshold=0.6)
    model, images = layer(manifest), pixels()
    export = export_model(model, manifest, "onnx", tmp_path / "model.onnx", images)
    opened = session(export.path)
    wanted = expected(model, manifest, images)
    for number in (1, 3):  # images at a time
        probabilities, labels = opened.run(None, {"image": to_input(images[:number])})
        np.testing.assert_allclose(probabilities, wanted[0][:number], atol=1e-6)
        np.testing.assert_array_equal(labels, wanted[1][:number])
    assert labels.dtype == (np.int32 if 300 in classes else np.uint8)
    assert opened.get_inputs()[0].shape == ["batch", 2, SIZE, SIZE]
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "background"), [ONE, SEVERAL[0]])
def test_deepness_reads_its_own_scale(classes: Any, background: bool, tmp_path: Path) -> None:
    manifest = manifest_of(classes, background)
    model, images = layer(manifest), pixels()
    export = export_model(model, manifest, "deepness", tmp_path / "model.onnx", images)
    opened = session(export.path)
    as_deepness = np.float32(to_input(images).astype(np.uint8) * 1.0 / 255.0)  # by its preprocessing
    (found,) = opened.run(None, {"image": as_deepness})
    np.testing.assert_allclose(found, expected(model, manifest, images)[0], atol=1e-5)
    (output,) = opened.get_outputs()  # it takes no model with two
    assert output.shape == ["batch", manifest.labels.outputs, SIZE, SIZE]
    stored = onnx.load(export.path)
    assert stored.ir_version <= 9  # of onnxruntime 1.17, which Deepness installs
    assert [(used.domain, used.version) for used in stored.opset_import] == [("", 18)]
    values = {name: json.loads(text) for name, text in opened.get_modelmeta().custom_metadata_map.items()}
    assert values["model_type"] == "Segmentor"
    assert values["tile_size"] == values["tiles_size"] == SIZE
    assert "100 cm per pixel" in export.lines()[0]  # the tiles have no georeference


def test_torch_export_is_what_validation_computes(tmp_path: Path) -> None:
    manifest = manifest_of((3, 300))
    model, images = layer(manifest), pixels()
    export = export_model(model, manifest, "torch_export", tmp_path / "model.pt2", images)
    probabilities, labels = torch.export.load(export.path).module()(torch.from_numpy(to_input(images)))
    wanted = expected(model, manifest, images)
    torch.testing.assert_close(probabilities, wanted[0], atol=1e-6, rtol=0)
    assert torch.equal(labels.long(), wanted[1].long())


def test_labels_of_any_size_stay_what_they_are(tmp_path: Path) -> None:
    large = 2**40 + 7
    manifest = manifest_of((3, large))
    export = export_model(layer(manifest), manifest, "torch_export", tmp_path / "model.pt2", pixels())
    _, labels = torch.export.load(export.path).module()(torch.from_numpy(to_input(pixels())))
    assert torch.equal(labels, expected(layer(manifest), manifest, pixels())[1])
    assert large in labels
    item = json.loads(export.item.read_text())
    assert item["properties"]["mlm:output"][1]["result"]["data_type"] == "int64"


def test_without_tiles_made_up_ones_are_compared(tmp_path: Path) -> None:
    manifest = manifest_of()
    export = export_model(layer(manifest), manifest, "torchscript", tmp_path / "model.pt")
    assert export.made_up
    assert "2 made-up tiles; -d compares on real ones" in "\n".join(export.lines())
    images = made_up_tiles(manifest)
    assert images.shape == (2, SIZE, SIZE, 2)
    assert images[..., 1].max() <= 80  # as in the training tiles
    assert abs(images[..., 0].mean() - 90) < 5


class Forgetful(nn.Module):
    """A network that computes something else each time: what is traced is not what it computes then."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return image[:, :1] * self.calls


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"--export torchscript: .* differ .* by 0\.\d+|by \d\.\de-\d\d; not written"):
        export_model(Forgetful(), manifest_of(), "torchscript", tmp_path / "model.pt", pixels())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("classes", [(3,), (3, 5)])
def test_a_file_with_other_labels_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: tuple[int, ...]
) -> None:
    manifest = manifest_of(classes)

    class Shuffled(ExportedNetwork):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.table = self.table.flip(0)

    monkeypatch.setattr("segtune.models.export.ExportedNetwork", Shuffled)
    with pytest.raises(ExportError, match=r"labels differ from the model's in \d+ pixels; not written"):
        export_model(layer(manifest), manifest, "torchscript", tmp_path / "model.pt", pixels())
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_stays_where_an_export_fails(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("before")
    with pytest.raises(ExportError):
        export_model(Forgetful(), manifest_of(), "torchscript", tmp_path / "model.pt", pixels())
    assert (tmp_path / "model.pt").read_text() == "before"


class Branching(nn.Module):
    """A network whose layers depend on the pixels, which torch.export does not take."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1] if image.sum() > 0 else -image[:, :1]


@pytest.mark.parametrize("kind", ["torch_export", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_kind_that_does_not_work_says_why_in_a_line(kind: Any, tmp_path: Path, capfd: Any) -> None:
    line = mistake(Branching(), manifest_of(), kind, tmp_path / "new" / "model")
    assert line.startswith(f"--export {kind}: does not work with model unet and encoder resnet18 (")
    assert line.endswith("; another kind may")
    assert list((tmp_path / "new").iterdir()) == []
    assert "".join(capfd.readouterr()) == ""


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    line = mistake(layer(manifest_of()), manifest_of(), "onnx", tmp_path / "model.onnx")
    assert line == "--export onnx: needs onnxscript, not found here; pip install '.[export]' installs it"
    export_model(layer(manifest_of()), manifest_of(), "torchscript", tmp_path / "model.pt")


def test_deepness_takes_models_of_8_bit_images_only(tmp_path: Path) -> None:
    manifest = manifest_of(uint8=False)
    line = mistake(layer(manifest), manifest, "deepness", tmp_path / "model.onnx")
    assert line.startswith("--export deepness: Deepness reads 8-bit rasters only")
    assert "--export onnx takes" in line


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    manifest = manifest_of()
    model = layer(manifest).to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_model(model, manifest, "torchscript", tmp_path / "model.pt")
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
@pytest.mark.parametrize("image_size", [32, 96])
def test_tiles_to_compare_are_what_the_network_sees(fit: str, image_size: int, tmp_path: Path, data_set: Any) -> None:
    dataset = data_set(tmp_path / "set", size=(40, 48))
    bands = tuple(Band(name, 100.0, 50.0, 0.0, 255.0) for name in ("image:1", "image:2", "image:3", "nir"))
    manifest = manifest_of((255,), bands=bands, fit=fit, image_size=image_size, channels=["nir"])
    tiles, as_seen = find_tiles(dataset / "val", Layout.of(manifest.config, ["nir"])), Fit.of(manifest.config)
    images = tiles_to_compare(tiles, manifest)
    store = DecodedTiles(tiles, manifest.labels, bands, range(2), as_seen, True, None)
    assert images.shape == (len(tiles), image_size, image_size, 4)
    for position, image in enumerate(images):
        whole = as_seen.pad_image(store.image(position))
        np.testing.assert_array_equal(image, whole[:image_size, :image_size])


def test_tiles_with_other_bands_are_refused(tmp_path: Path, data_set: Any) -> None:
    tiles = find_tiles(data_set(tmp_path / "set") / "val", Layout())
    with pytest.raises(InputError, match=r"3 bands, but the model takes 2"):
        tiles_to_compare(tiles, manifest_of((255,)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "encoder", "kind"),
    [
        ("segformer", "mit_b0", "onnx"),
        ("unetplusplus", "tu-mobilenetv3_small_050", "torchscript"),
        ("deeplabv3plus", "resnet18", "torch_export"),
        ("fpn", "tu-mobilenetv3_small_050", "torch_export"),
    ],
)
def test_real_networks_export(model: str, encoder: str, kind: Any, tmp_path: Path) -> None:
    manifest = manifest_of((3, 5), model=model, encoder=encoder, image_size=64)
    torch.manual_seed(0)
    network = build_model(manifest.config, 2, 3).to(CPU).eval()
    assert export_model(network, manifest, kind, tmp_path / "model").difference < 1e-4
