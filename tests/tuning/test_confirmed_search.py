"""Whole searches with a confirmed winner: through run_search.py, with networks that train."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from segtune.confirmed import Confirmation
from segtune.evaluation.metrics import mean_iou
from segtune.evaluation.tile_counts import read_tiles
from segtune.files.folders import SearchFolder
from segtune.planning.feasibility import scan_data
from segtune.report.gather import gather
from segtune.space.reader import load_space
from segtune.training.runlog import read_rows
from segtune.trials import ranked
from segtune.tuning.confirm import Asked
from segtune.tuning.search import run_search
from segtune.tuning.status import search_state
from tests.conftest import WriteDataSet
from tests.scripts import ROOT, Ended, call
from tests.tuning.searches import RUN, rows
from tests.tuning.test_in_process import Heard

SPACE = RUN.replace("epochs: 3", "epochs: 2").replace("workers: 0", "workers: 0, threads: 1") + (
    "space: {lr: {low: 1e-3, high: 1e-2, log: true}, loss: [dice, jaccard]}\n"
    "search: {trials: 3, scheduler: none, gpus_per_trial: 0, cpus_per_trial: 1, start: none}\n"
)


class InterruptsAtOnce(Heard):
    """A listener that sends a signal when the first run with a fresh seed is done, and keeps what it heard."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith("confirm_0000_s1"):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def plain(data_set: WriteDataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search without a confirmation, on a data set with test tiles."""
    root = tmp_path_factory.mktemp("confirmed")
    data = data_set(root / "tiles", train=8, val=4)
    shutil.copytree(data_set(root / "others", train=1, val=3) / "val", data / "test")
    (root / "plain.yaml").write_text(f"dataset: {data}\nchannels: [nir]\n{SPACE}")
    ended = call("run_search", "--space", root / "plain.yaml", "--results-dir", root / "r", "--in-process")
    assert ended.status == 0, ended
    assert not (root / "r" / "plain" / "confirmation.json").exists()
    return root / "r" / "plain"


@pytest.fixture(scope="module")
def confirmed(plain: Path) -> tuple[SearchFolder, Ended]:
    """A copy of it, interrupted after its first run with a fresh seed, then confirmed by the script."""
    folder = SearchFolder(Path(shutil.copytree(plain, plain.parent / "copy")))
    text = folder.search_yaml.read_text()
    folder.search_yaml.write_text(text.replace("  confirm: auto\n", "  confirm: {top: 1, seeds: 2}\n"))
    space = load_space(folder.search_yaml)
    listener, asked = InterruptsAtOnce(), Asked(alone=True)
    outcome = run_search(space, scan_data(space), folder, listener, resume=True, in_process=True, confirm=asked)
    assert outcome.signal == signal.SIGINT
    assert [path.parent.name for path in folder.path.glob("*/tiles.npz")] == ["confirm_0000_s1"]
    ended = call("run_search", "--confirm", folder.path, "--in-process")
    assert ended.status == 0, ended
    return folder, ended


@pytest.mark.slow
def test_the_model_of_the_median_seed_is_in_best_with_its_exact_number(confirmed: tuple[SearchFolder, Ended]) -> None:
    folder, ended = confirmed
    confirmation = Confirmation.read(folder.confirmation)
    assert confirmation
    assert confirmation.result
    winner = confirmation.result.winner
    data = load_space(folder.search_yaml).baseline.dataset
    out = folder.path.parent / "out"
    measured = call("validate", "-cd", folder.path, "-d", f"{data}/val", "-o", out, "--com", "--cpu")
    assert measured.status == 0, measured
    assert json.loads((out / "metrics.json").read_text())["miou"] == winner.score
    assert ranked(search_state(folder).trials)[0].number == winner.trial
    assert f"trial #{winner.trial}" in ended.out
    assert confirmation.result.sentence in ended.out
    assert f"miou {winner.score:.4f}, from {winner.run}" in ended.out
    page = gather(folder, with_examples=False).confirmation
    assert page
    assert len(page.candidates) == 2


@pytest.mark.slow
def test_the_tiles_of_a_run_have_the_score_of_its_training(confirmed: tuple[SearchFolder, Ended]) -> None:
    folder, _ = confirmed
    confirmation = Confirmation.read(folder.confirmation)
    assert confirmation
    for trial in confirmation.trials:
        for seed in (1, 2):
            run = folder.repeat(trial, seed)
            names, tiles = read_tiles(run.tiles)
            assert names[0] == "val/000"
            assert float(read_rows(run)[-1]["best_miou"]) == mean_iou(tiles.total())
    repeats = [row for row in rows(folder.path) if row["origin"] == "confirm"]
    assert [(row["status"], row["epochs"]) for row in repeats] == [("finished", "2")] * 4


@pytest.mark.slow
def test_the_test_tiles_are_looked_at_once_unless_the_user_insists(confirmed: tuple[SearchFolder, Ended]) -> None:
    folder, ended = confirmed
    assert "test (" in ended.out
    assert "looked at once, after everything else" in ended.out
    before = folder.confirmation.read_bytes()
    again = call("run_search", "--confirm", folder.path, "--in-process")
    assert "looked at once" in again.out
    assert folder.confirmation.read_bytes() == before
    insisted = call("run_search", "--confirm", folder.path, "--in-process", "--test-again")
    assert "looked at 2 times" in insisted.out
    confirmation = Confirmation.read(folder.confirmation)
    assert confirmation
    first, second = confirmation.tests
    assert (first.tiles, first.look, second.look) == (3, 1, 2)
    assert first.miou == second.miou


@pytest.mark.slow
def test_runs_on_ray_have_the_same_numbers(cluster: None, confirmed: tuple[SearchFolder, Ended], plain: Path) -> None:
    folder = SearchFolder(Path(shutil.copytree(plain, plain.parent / "ray")))
    text = folder.search_yaml.read_text()
    folder.search_yaml.write_text(text.replace("  confirm: auto\n", "  confirm: {top: 1, seeds: 2}\n"))
    one_at_a_time = ("--max-concurrent", 1)  # one process, which takes seconds to start
    ended = call("run_search", "--resume", "ray", "--results-dir", folder.path.parent, *one_at_a_time)
    assert ended.status == 0, ended
    one, other = (Confirmation.read(each.confirmation) for each in (folder, confirmed[0]))
    assert one
    assert other
    assert one.trials == other.trials
    for trial in one.trials:
        for seed in (1, 2):
            counts = [read_tiles(each.repeat(trial, seed).tiles)[1].numbers for each in (folder, confirmed[0])]
            assert (counts[0] == counts[1]).all()
    assert one.result


@pytest.mark.slow
def test_resume_goes_on_with_a_confirmation_that_the_user_began(plain: Path) -> None:
    folder = SearchFolder(Path(shutil.copytree(plain, plain.parent / "begun")))
    space = load_space(folder.search_yaml)
    assert space.search.confirms() is None
    masks = Path(space.baseline.dataset) / "test" / "gt"
    masks.rename(masks.with_name("hidden"))
    listener, asked = InterruptsAtOnce(), Asked(alone=True, top=1, seeds=2)
    try:
        run_search(space, scan_data(space), folder, listener, resume=True, in_process=True, confirm=asked)
    finally:
        masks.with_name("hidden").rename(masks)
    said = "the winner cannot be measured there at the end, unless you mend it before"
    assert listener.lines.count(f"{masks.parent}: {said}: {masks}: no such folder") == 1
    ended = call("run_search", "--resume", "begun", "--results-dir", folder.path.parent, "--in-process")
    assert ended.status == 0, ended
    confirmation = Confirmation.read(folder.confirmation)
    assert confirmation
    assert confirmation.result
    assert confirmation.result.sentence in ended.out
    assert "looked at once, after everything else" in ended.out
    assert [len(one.seeds) for one in confirmation.result.configurations] == [2, 2]


def killed_between_runs(folder: SearchFolder) -> set[Path]:
    """Go on with a search on Ray, and kill it with `kill -9` while it confirms; return the counts of done runs."""
    where = ["--resume", folder.path.name, "--results-dir", str(folder.path.parent), "--max-concurrent", "1"]
    process = subprocess.Popen([sys.executable, str(ROOT / "run_search.py"), *where], stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    done: set[Path] = set()
    while not (done and any(run.state.is_file() and not run.tiles.is_file() for run in folder.repeats())):
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < limit
        time.sleep(0.02)
        done = {run.tiles for run in folder.repeats() if run.tiles.is_file()}
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    while any(run.held() for run in folder.repeats()):  # what its processes write until they notice it counts
        assert time.monotonic() < limit
        time.sleep(0.1)
    return {run.tiles for run in folder.repeats() if run.tiles.is_file()}


@pytest.mark.slow
def test_a_search_that_is_killed_while_it_confirms_ends_as_any_other(
    cluster: None, confirmed: tuple[SearchFolder, Ended], plain: Path
) -> None:
    folder = SearchFolder(Path(shutil.copytree(plain, plain.parent / "killed")))
    text = folder.search_yaml.read_text()
    folder.search_yaml.write_text(text.replace("  confirm: auto\n", "  confirm: {top: 1, seeds: 2}\n"))
    done = killed_between_runs(folder)
    assert 0 < len(done) < 4
    before = {tiles: tiles.stat().st_mtime_ns for tiles in done}
    assert not any(trial.confirmed for trial in search_state(folder).trials)
    ended = call("run_search", "--resume", "killed", "--results-dir", folder.path.parent, "--max-concurrent", 1)
    assert ended.status == 0, ended
    assert {tiles: tiles.stat().st_mtime_ns for tiles in done} == before
    one, other = (Confirmation.read(each.confirmation) for each in (folder, confirmed[0]))
    assert one
    assert other
    assert one.result
    assert other.result
    assert (one.trials, one.seeds, one.failed) == (other.trials, other.seeds, other.failed)
    for own, undisturbed in zip(one.result.configurations, other.result.configurations, strict=True):
        measured = {"seconds": 0.0, "times": (), "latencies": ()}  # in no two searches the same
        assert replace(own, **measured) == replace(undisturbed, **measured)  # type: ignore[arg-type]
    weights = [each.best / "model.safetensors" for each in (folder, confirmed[0])]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
def test_the_search_goes_on_as_if_nothing_had_been_confirmed(
    confirmed: tuple[SearchFolder, Ended], plain: Path
) -> None:
    folder, _ = confirmed
    for path in (plain, folder.path):
        ended = call("run_search", "--resume", path.name, "--results-dir", path.parent, "--trials", "4", "--in-process")
        assert ended.status == 0, ended
    found = [[row for row in rows(path) if row["trial"] == "3"] for path in (plain, folder.path)]
    for name in ("origin", "status", "miou", "lr", "loss", "seed"):
        assert len({row[name] for (row, *_) in found}) == 1, name
