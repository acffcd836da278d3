"""A prediction can be rebuilt from run.yaml: the listing of docs/predictions.md gives what validate.py writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from segtune.data.labels import Labels
from segtune.values import OVERLAP
from tests.evaluation.runs import Run, Trained, pixels
from tests.evaluation.scenes import BINARY, SEVERAL, picture, write_scene
from tests.evaluation.test_scene_script import WITHOUT, model, predicted
from tests.test_docs import ROOT, blocks

pytestmark = pytest.mark.usefixtures("blank_charts")

Predict = Callable[[str, list[str]], npt.NDArray[Any]]


@pytest.fixture(scope="module")
def rebuilt() -> Predict:
    """The function of the page, which imports nothing of segtune."""
    (listing,) = (text for text in blocks(ROOT / "docs/predictions.md", "python") if "def predict(" in text)
    assert "segtune" not in listing
    names: dict[str, Any] = {}
    exec(compile(listing, "docs/predictions.md", "exec"), names)
    found: Predict = names["predict"]
    return found


def differing(written: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    """Return the share of pixels with other labels."""
    assert len(np.unique(written)) > 1
    assert written.shape == found.shape
    return float((written != found).mean())


@pytest.mark.parametrize(
    ("labels", "size", "fields"),
    [
        (BINARY, (300, 200), {"fit": "resize", "tile_size": 300}),
        (WITHOUT, (210, 150), {"fit": "crop"}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (SEVERAL, (40, 150), {"fit": "resize", "tile_size": 150, "uint8": False}),
                (BINARY, (150, 50), {"fit": "crop"}),
                (SEVERAL, (200, 130), {"fit": "pad"}),
            )
        ),
    ],
)
def test_the_listing_of_the_page_rebuilds_what_validate_writes(
    tmp_path: Path, rebuilt: Predict, labels: Labels, size: tuple[int, int], fields: dict[str, Any]
) -> None:
    folder = model(tmp_path / "model", labels, **fields)
    image = picture(*size).astype(np.uint8 if fields.get("uint8", True) else np.uint16)
    tile = write_scene(tmp_path / "val" / "images" / "tile.tif", image)
    write_scene(tmp_path / "val" / "gt" / "tile.tif", np.full((*size, 1), labels.classes[0], np.uint16))
    predicted(folder, tmp_path / "out", "-d", tmp_path / "val", "--binary", "--cpu")
    assert differing(pixels(tmp_path / "out" / "binary" / "tile.tif"), rebuilt(str(folder), [str(tile)])) <= 1e-4


def test_it_rebuilds_those_of_a_trained_model_with_an_extra_channel(
    tmp_path: Path, rebuilt: Predict, several: Trained, run: Run
) -> None:
    assert run("-cd", several.folder, "-d", several.val, "-o", tmp_path, "--binary", "--cpu") == 0
    names = sorted(path.name for path in (several.val / "images").iterdir())
    written = np.stack([pixels(tmp_path / "binary" / name) for name in names])
    folders = several.val / "images", several.val / "nir"
    files = [[str(folder / name) for folder in folders] for name in names]
    assert differing(written, np.stack([rebuilt(str(several.folder / "best"), both) for both in files])) <= 1e-4


def test_run_yaml_of_an_earlier_release_has_no_steps_and_is_read(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    content = yaml.safe_load((folder / "run.yaml").read_text())
    assert content.pop("prediction")["overlap"] == OVERLAP
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    scene = write_scene(tmp_path / "scene.tif", picture(64, 64))
    predicted(folder, tmp_path / "out", "-d", scene, "--no-plots")
