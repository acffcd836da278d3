"""What is recorded where one tile alone holds the class of the objective."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segtune.confirmed import Confirmed
from segtune.evaluation.grouping import Grouping
from segtune.evaluation.measure import Measure
from segtune.evaluation.overlap import TileCounts
from segtune.space.confirm import Confirm
from segtune.space.reader import load_space
from segtune.tuning import confirm_looks
from segtune.tuning.confirm_result import compared_runs
from tests.conftest import WriteDataSet

IOU_3 = Measure.named("iou/3", (1, 3))
WHY = "only one tile holds class 3, so how sure its IoU is cannot be said"


def counts(hits: int) -> TileCounts:
    """Counts of 12 tiles, of which the first one holds class 3."""
    matrices = np.tile(np.diag([50, 30, 0]), (12, 1, 1))
    matrices[0, 2, 2], matrices[0, 2, 0] = hits, 20 - hits
    return TileCounts.of(matrices)


def repeat_run(trial: int, seed: int) -> Any:
    own = SimpleNamespace(number=trial, searched={}, score=0.5, fits=True, folds=1)
    name, files = f"{trial}_{seed}", SimpleNamespace(run_yaml=Path("is_not_there.yaml"))
    return SimpleNamespace(name=name, model=name, trial=own, seed=seed, epochs=list, folder=files)


def compared(grouping: Grouping) -> Confirmed:
    runs = {trial: [repeat_run(trial, seed) for seed in (1, 2)] for trial in (0, 4)}
    found = {f"{trial}_{seed}": counts(10 + trial + seed) for trial in (0, 4) for seed in (1, 2)}
    return compared_runs(runs, found, grouping, IOU_3)


def test_configurations_have_means_without_leads_and_the_reason() -> None:
    found = compared(Grouping())
    assert found.winner.trial == 4
    assert found.winner.mean == pytest.approx(0.775)
    assert (found.objective, found.unsure, found.gained) == ("iou/3", WHY, False)
    for one in found.configurations:
        assert (one.lead, one.probability, one.interval, one.gain) == (None, None, None, None)
    grouped = compared(Grouping(tuple("aabbccddeeff"), "names"))
    assert grouped.unsure == WHY.replace("tile", "group of tiles")
    assert (grouped.groups, grouped.drawn) == (6, "")


def test_a_look_has_scores_without_intervals_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def validated(model: Path, *_: Any) -> Any:
        config, labels = SimpleNamespace(objective="iou/3"), SimpleNamespace(classes=(1, 3))
        manifest = SimpleNamespace(config=config, labels=labels, layout=None)
        hits = 16 if model.parent.name.startswith("4") else 10
        return SimpleNamespace(tiles=12, manifest=manifest, measured=SimpleNamespace(tiles=counts(hits)))

    monkeypatch.setattr(confirm_looks, "validate", validated)
    monkeypatch.setattr(confirm_looks, "find_tiles", lambda *_: [])
    monkeypatch.setattr(confirm_looks, "find_groups", lambda *_: Grouping())
    result, folder = compared(Grouping()), SimpleNamespace(path=Path("search"))
    look = confirm_looks.look_at(Path("test"), result, Confirm(), folder, "cpu")  # type: ignore[arg-type]
    assert (look.miou, look.baseline) == (0.8, 0.5)
    assert (look.interval, look.gain, look.objective, look.unsure) == (None, None, "iou/3", WHY)


def test_test_tiles_without_masks_are_named_before_the_training(tmp_path: Path, data_set: WriteDataSet) -> None:
    data = data_set(tmp_path / "tiles", channels=())
    (tmp_path / "s.yaml").write_text(f"dataset: {data}\nspace: {{lr: [1e-3, 1e-2]}}\n")
    space = load_space(tmp_path / "s.yaml")
    assert confirm_looks.no_look(space) is None  # there are no test tiles
    shutil.copytree(data / "val", data / "test")
    assert confirm_looks.no_look(space) is None
    line = f"{data}/test: the winner cannot be measured there at the end, unless you mend it before: {data}/test/"
    next((data / "test" / "gt").iterdir()).unlink()
    assert str(confirm_looks.no_look(space)).startswith(f"{line}images: 1 of 4 files has no partner in ")
    shutil.rmtree(data / "test" / "gt")
    assert confirm_looks.no_look(space) == f"{line}gt: no such folder"
