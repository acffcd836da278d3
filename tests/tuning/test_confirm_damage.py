"""A confirmation that was killed, or whose files are damaged, loses nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segtune.training.state import save_state
from segtune.trials import ranked
from segtune.tuning.stopping import Cause
from tests.tuning.confirming import MEDIAN, SIX, SKILLS, VALUES, Searched, Trains
from tests.tuning.searched import state


def test_a_killed_confirmation_ends_as_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Searched(tmp_path / "s", VALUES)
    update = "segtune.tuning.retention.Retention._keep_winner"

    def killed(*_: object) -> None:
        if search.confirmation.result:  # the result is written, and the model is not
            raise KeyboardInterrupt

    search.confirm(Trains(SKILLS, interrupt_after=0))
    with monkeypatch.context() as patch:
        patch.setattr(update, killed)
        with pytest.raises(KeyboardInterrupt):
            search.confirm(Trains(SKILLS))
    assert search.model == "2"
    again = Trains(SKILLS)
    search.confirm(again)
    assert again.trained == []
    assert search.model == MEDIAN


@pytest.mark.parametrize(
    ("part", "content"),
    [("state.pt", b""), ("state.pt", b"PK\x03\x04cut off"), ("run.yaml", b"lr: "), ("metrics.csv", b"epoch\nx\n")],
)
def test_a_damaged_run_starts_again_and_nothing_else_is_lost(tmp_path: Path, part: str, content: bytes) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS, interrupt_after=4))
    run = search.bench.folder.repeat(2, 2)
    for name in ("run.yaml", "metrics.csv"):
        run.path.mkdir(exist_ok=True)
        shutil.copy(search.bench.folder.repeat(2, 1).path / name, run.path / name)
    save_state(run.state, {"epoch": 1})
    (run.path / part).write_bytes(content)
    search.said.clear()
    again = Trains(SKILLS)
    search.confirm(again)
    assert again.trained == SIX[4:]
    (damaged,) = (line for line in search.said if line.startswith(f"{run.path.name}: {run.path / part}"))
    if part == "metrics.csv":
        assert damaged.endswith("and the run continues from its state")
    else:
        lost = search.bench.folder.path / f"lost_{run.path.name}_1"
        assert damaged.endswith(f"its files are now in {lost}, and the run starts again")
        assert (lost / part).read_bytes() == content
    whole = Searched(tmp_path / "whole", VALUES)
    whole.confirm(Trains(SKILLS))
    assert search.confirmation == whole.confirmation


def test_a_run_with_all_epochs_but_without_state_and_counts_starts_again(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    run = search.bench.folder.repeat(2, 2)
    run.tiles.unlink()
    again = Trains(SKILLS)
    search.confirm(again)
    assert again.trained == [run.path.name]
    assert any(line.startswith(f"{run.path.name}: {run.state} is missing; ") for line in search.said)


def test_a_damaged_confirmation_is_set_aside_and_the_runs_are_used_again(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    found, path = search.confirmation, search.bench.folder.confirmation
    path.write_text(json.dumps({"top": "many"}))
    assert any("damaged, not a confirmation" in line for line in state(search.bench).remarks)
    again = Trains(SKILLS)
    search.confirm(again)
    assert again.trained == []
    assert "moved to" in search.said[-1]
    assert search.confirmation == found


def test_damaged_counts_of_a_run_name_what_to_delete(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    run = search.bench.folder.repeat(2, 1)
    run.tiles.write_bytes(b"x")
    early = search.confirm(Trains(SKILLS)).early
    assert early
    assert early.cause is Cause.FAULT
    assert "tiles.npz: damaged" in early.reason
    assert early.reason.endswith(f"delete {run.path}, and run_search.py --confirm trains it again")
    assert ranked(search.results.trials())[0].number == 1  # what was found before still counts


def test_a_damaged_table_of_a_run_costs_its_time_only(tmp_path: Path) -> None:
    search = Searched(tmp_path / "s", VALUES)
    search.confirm(Trains(SKILLS))
    for seed in (1, 2):
        search.bench.folder.repeat(1, seed).metrics_csv.write_text("damaged")
    assert search.confirm(Trains(SKILLS)).early is None
    assert search.confirmation.result
    assert search.confirmation.result.winner.seconds == 0.0
