"""benchmarks/search_quality.py: record curves, and replay searches over them in virtual time."""

from __future__ import annotations

import csv
import math
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import curves
import numpy as np
import pytest
import replay
import search_quality
from curves import Curve, drawn, read_curves
from replay import BUDGETS, Plan, Replay, Simulated, make_searcher, with_method
from report import Band, Results, draw
from surrogate import Prediction, Recorded, World

from segtune.data.demo import write_demo
from segtune.errors import InputError
from segtune.space.reader import load_space

SPACE = """
run: {model: unet, encoder: tu-mobilenetv3_small_050, image_size: 32, epochs: 27, workers: 0, device: cpu}
space:
  optimizer:
    adamw: {lr: {low: 1e-5, high: 1e-1, log: true}}
    sgd: {momentum: {low: 0.8, high: 0.98}}
  batch_size: [4, 8, 16]
baseline: {lr: 1e-5}
"""
METHODS = ("random", "random+asha", "tpe+asha complete")
SEEDS = 2


def miou(settings: Mapping[str, Any]) -> float:
    """Return the score of a synthetic curve; the order of curves shows from the first epoch on."""
    lr = settings.get("lr", 1e-5)
    return 0.9 - 0.1 * abs(math.log10(lr / 3e-2)) - 0.05 * (settings["batch_size"] != 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space, and 60 recorded curves of it, every fifth with a second seed."""
    folder = tmp_path_factory.mktemp("quality")
    (folder / "space.yaml").write_text(SPACE)
    space = load_space(folder / "space.yaml")
    columns = ["number", "seed", "status", *space.searched(), "miou", "seconds"]
    with (folder / "curves.csv").open("w") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        for number in range(60):
            settings = drawn(space, 0, number)
            for again in range(2 if number % 5 == 0 else 1):
                scores = [miou(settings) * (0.9 + epoch / 270) + 0.002 * again for epoch in range(1, 28)]
                row = {"number": number, "seed": space.baseline.seed + again, "status": "finished", **settings}
                row["miou"] = " ".join(f"{score:.5f}" for score in scores)
                row["seconds"] = " ".join(f"{2.0 * epoch}" for epoch in range(1, 28))
                table.writerow(row)
    return folder


def command(folder: Path, *more: str, results: str = "results.csv") -> list[str]:
    given = ["replay", "--space", f"{folder / 'space.yaml'}", "--curves", f"{folder / 'curves.csv'}"]
    given += ["--results", f"{folder / results}", "--workers", "1", "--seeds", f"{SEEDS}", "--methods", *METHODS]
    return [*given, *more]


@pytest.fixture
def process_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the process of the tests as it is; recording would change it."""
    monkeypatch.setattr(curves.gc, "freeze", lambda: None)
    monkeypatch.setattr(curves.cv2, "setNumThreads", lambda threads: None)


@pytest.fixture(scope="module")
def replayed(folder: Path) -> Path:
    """Run a replay from the command line; return its results file."""
    search_quality.main(command(folder))
    return folder / "results.csv"


def means(text: str, title: str) -> dict[str, list[float]]:
    """Read the means of a table by method from the printed report."""
    lines = text.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(title)) + 2
    rows = list(lines[begin : begin + len(METHODS)])
    return {row[:30].strip(): [float(cell) for cell in row[30:].split()[::2][: len(BUDGETS)]] for row in rows}


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        search_quality.main([*arguments])
    (line,) = str(ended.value.code).splitlines()
    assert line.startswith("error: ")
    return line


# Replay


def test_where_early_epochs_tell_all_asha_and_tpe_win(
    replayed: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search_quality.main(command(folder, "--picture", f"{folder / 'picture.png'}"))
    text = capsys.readouterr().out
    table = means(text, "1 worker, 2 seeds")
    assert list(table) == ["random", "random+asha", "tpe+asha complete (default)"]
    for early in (0, 1, 2):  # 5, 10 and 20 full trainings
        assert table["random"][early] < table["random+asha"][early]
    for late in (2, 3, 4):  # 20, 50 and 100
        assert table["random+asha"][late] < table["tpe+asha complete (default)"][late]
    assert (
        next(iter(means(text, "mean over 20, 50, 100 full trainings and 1 workers"))) == "tpe+asha complete (default)"
    )
    assert "60 configurations recorded, 12 of them with two seeds, 0 failed; 27 epochs; a full training: 54 s" in text
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_what_the_table_prints_is_the_mean_of_the_seeds_at_the_budget(
    replayed: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search_quality.main(command(folder))
    printed = means(capsys.readouterr().out, "1 worker, 2 seeds")["random"][2]
    scores = []
    for row in csv.DictReader(replayed.open()):
        if row["method"] == "random":
            pairs = zip(map(float, row["spent"].split()), map(float, row["best"].split()), strict=True)
            scores.append(max(best for spent, best in pairs if spent <= 20))
    assert len(scores) == SEEDS
    assert printed == pytest.approx(np.mean(scores), abs=1e-4)


def test_a_replay_goes_on_where_it_was_killed(
    replayed: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = replayed.read_text()
    lines = whole.splitlines(keepends=True)
    cut = folder / "cut.csv"
    cut.write_text("".join(lines[:-3]) + lines[-3][:40])
    simulated: list[tuple[str, int, int]] = []
    simulate = replay.simulate

    def counted(space: Any, recorded: Any, *key: Any) -> Replay:
        simulated.append(key)
        return simulate(space, recorded, *key)

    monkeypatch.setattr(replay, "simulate", counted)
    search_quality.main(command(folder, results="cut.csv"))
    assert simulated == [(method, 1, SEEDS - 1) for method in METHODS]
    assert cut.read_text() == whole  # and the same seed finds the same


def test_a_stopped_search_begins_more_trials_within_the_same_budget(replayed: Path) -> None:
    rows = list(csv.DictReader(replayed.open()))
    trials = Counter[str]()
    for row in rows:
        trials[row["method"]] += int(row["trials"])
        assert all(float(spent) <= BUDGETS[-1] for spent in row["spent"].split())
    assert 100 * SEEDS <= trials["random"] <= 101 * SEEDS
    assert trials["random+asha"] > 2 * trials["random"]


class Steady:
    """A world in which every epoch takes a second and no configuration is better than another."""

    def train(self, settings: Mapping[str, Any]) -> Prediction:
        return Prediction((0.5,) * 27, 1.0, False)


@pytest.mark.parametrize("method", ["random", "random+asha"])
def test_four_workers_take_a_quarter_of_the_time(folder: Path, method: str) -> None:
    space = with_method(load_space(folder / "space.yaml"), method, 0)
    ended = {}
    for workers in (1, 4):
        backend = Simulated(Steady(), workers, 27, 8 * 27 / workers)
        backend.run(make_searcher(space, workers))
        assert len({number for _, number, epoch, _ in backend.history if epoch == 1}) >= 8
        ended[workers] = backend.history
    assert len(ended[4]) == len(ended[1]) == 8 * 27  # epochs
    assert ended[4][-1][0] == ended[1][-1][0] / 4
    assert [now for now, *_ in ended[4][:8]] == [1.0] * 4 + [2.0] * 4


def test_a_run_that_diverges_ends_its_trial_and_the_next_one_begins(folder: Path) -> None:
    class Broken(Steady):
        def train(self, settings: Mapping[str, Any]) -> Prediction:
            return Prediction((0.5,) * (27 if settings["batch_size"] == 8 else 2), 1.0, settings["batch_size"] != 8)

    backend = Simulated(Broken(), 1, 27, 200)
    searcher = make_searcher(with_method(load_space(folder / "space.yaml"), "random", 0), 1)
    backend.run(searcher)
    ends = Counter(number for _, number, _, _ in backend.history)
    states = {trial.number: trial.state.name for trial in searcher.study.get_trials(deepcopy=False)}
    ended = {number: epochs for number, epochs in ends.items() if number < max(ends)}
    assert {2, 27} == set(ended.values())
    assert all(states[number] == ("FAIL" if epochs == 2 else "COMPLETE") for number, epochs in ended.items())


def test_the_band_is_students_t() -> None:
    band = Band.of([1.0, 2.0, 3.0])
    assert (band.mean, band.half) == (2.0, pytest.approx(4.302653 / math.sqrt(3)))
    assert Band.of([0.5]).half == math.inf


def test_one_seed_of_one_method_can_be_drawn(folder: Path, tmp_path: Path) -> None:
    plan = Plan(folder / "space.yaml", (folder / "curves.csv",), tmp_path / "none.csv")
    one = Results([Replay("random", 4, 0, 3, 3, (1.0, 2.0), (0.4, 0.5))])
    draw(one, plan.recorded(), tmp_path / "new" / "one.png")
    assert (tmp_path / "new" / "one.png").stat().st_size > 5000


# Mistakes


def test_results_of_other_curves_are_refused(
    replayed: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("".join((folder / "curves.csv").read_text().splitlines(keepends=True)[:-1]))
    before = replayed.read_bytes()
    assert "replayed over other curves" in error_of(capsys, *command(folder, "--curves", f"{fewer}"))
    assert replayed.read_bytes() == before


def test_a_file_that_holds_no_results_is_refused_and_left_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.csv"
    for text in ("name,value\na,1\n", "stamp,method,workers\nx,random,many\n"):
        notes.write_text(text)
        assert "cannot be read as results" in error_of(capsys, *command(folder, "--results", f"{notes}"))
        assert notes.read_text() == text


def test_wrong_curves_spaces_and_methods_are_named_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, short = tmp_path / "other.yaml", tmp_path / "short.yaml"
    other.write_text(SPACE.replace("[4, 8, 16]", "[4, 8]"))
    short.write_text(SPACE.replace("epochs: 27", "epochs: 9"))
    for path in (other, short):
        assert "none of the space's" in error_of(capsys, *command(folder, "--space", f"{path}", results="o.csv"))
    binary, few = tmp_path / "weights.bin", tmp_path / "few.csv"
    binary.write_bytes(bytes(range(256)))
    few.write_text("".join((folder / "curves.csv").read_text().splitlines(keepends=True)[:5]))
    expected = {binary: "not a file of recorded curves", few: "at least 10", tmp_path / "gone.csv": "cannot be read"}
    expected[folder / "space.yaml"] = "not a recorded curve"
    for path, text in expected.items():
        assert text in error_of(capsys, *command(folder, "--curves", f"{path}", results="o.csv"))
    assert "'bohb' is none of 'random'" in error_of(capsys, *command(folder, "--methods", "bohb"))
    assert not (folder / "o.csv").exists()


def test_a_missing_library_is_named_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "report")
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert error_of(capsys, *command(folder)) == "error: scipy is missing: pip install -e '.[benchmarks]'"


# Record


def test_half_a_line_at_the_end_is_no_curve(folder: Path, tmp_path: Path) -> None:
    text = (folder / "curves.csv").read_text()
    half = tmp_path / "half.csv"
    half.write_text(text[:-30])
    assert read_curves([half]) == read_curves([folder / "curves.csv"])[:-1]
    with pytest.raises(InputError, match="there twice"):
        read_curves([half, folder / "curves.csv"])


@pytest.mark.usefixtures("process_kept")
def test_a_recording_goes_on_where_it_was_killed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[tuple[int, int]] = []

    def train(number: int, seed: int, settings: dict[str, Any], space: Any, info: Any) -> Curve:
        trained.append((number, seed))
        return Curve(number, seed, settings, (0.25, 0.5), (1.5, 3.0), False)

    monkeypatch.setattr(curves, "_train", train)
    monkeypatch.setattr(curves, "scan", lambda baseline: None)
    path = tmp_path / "new" / "curves.csv"
    given = ["record", "--space", f"{folder / 'space.yaml'}", "--curves", f"{path}", "--most"]
    search_quality.main([*given, "4"])
    whole = path.read_text()
    assert trained == [(0, 42), (0, 43), (0, 44), (1, 42)]
    assert "#1 0.5000 in 2 epochs, 3 s CPU: " in capsys.readouterr().out
    path.write_text(whole[:-5])
    search_quality.main([*given, "6"])
    assert trained[4:] == [(1, 42), (2, 42), (3, 42)]
    assert path.read_text().startswith(whole)
    assert [(c.number, c.seed, c.miou) for c in read_curves([path])][3] == (1, 42, (0.25, 0.5))
    assert "another --seed" in error_of(capsys, *given, "9", "--seed", "1")


@pytest.mark.usefixtures("process_kept")
def test_every_set_is_recorded_over_the_common_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {}

    def train(number: int, seed: int, settings: dict[str, Any], space: Any, info: Any) -> Curve:
        runs[space.baseline.dataset, number] = (settings, space.baseline.classes, max(space.values_of("epochs")))
        return Curve(number, seed, settings, (0.25,) * 16, (1.0,) * 16, False)

    monkeypatch.setattr(curves, "_train", train)
    monkeypatch.setattr(curves, "scan", lambda baseline: None)
    for name in ("nuclei", "magtile"):
        given = ["--set", name, "--data", f"{tmp_path / name}", "--curves", f"{tmp_path / name}.csv"]
        search_quality.main(["record", *given, "--part", "2/2", "--most", "2"])
    drawn = {number: [runs[f"{tmp_path / name}", number] for name in ("nuclei", "magtile")] for number in (1, 3)}
    assert all(first[0] == second[0] and first[2] == 16 for first, second in drawn.values())
    assert [found[1] for found in drawn[1]] == [[255], [1, 2, 3, 4, 5]]
    assert "'moon' is none of demo, s2india" in error_of(capsys, "record", "--set", "moon", "--data", ".")
    assert "--curves: is needed" in error_of(capsys, "record", "--data", ".")


@pytest.mark.usefixtures("process_kept")
def test_a_recorded_curve_is_what_the_trainer_showed(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", train_tiles=8, val_tiles=4, size=32)
    space = tmp_path / "space.yaml"
    space.write_text(SPACE.replace("epochs: 27", "epochs: 2, worst: 0"))
    path = tmp_path / "curves.csv"
    arguments = ["record", "--space", f"{space}", "--data", f"{tmp_path / 'demo'}", "--curves", f"{path}"]
    search_quality.main([*arguments, "--most", "1"])
    (curve,) = read_curves([path])
    assert curve.settings == drawn(load_space(space), 0, 0)
    assert len(curve.miou) == len(curve.seconds) == 2
    assert 0 < curve.seconds[0] < curve.seconds[1]
    assert 0 < max(curve.miou) < 1
    assert not curve.failed


def test_chance_never_lifts_a_configuration_beyond_the_ceiling(folder: Path) -> None:
    space, known = load_space(folder / "space.yaml"), read_curves([folder / "curves.csv"])
    wrong = [
        Curve(c.number, c.seed, c.settings, tuple(0.1 * score for score in c.miou), c.seconds, False)
        if c.seed != space.baseline.seed and c.number % 2
        else c
        for c in known
    ]
    highest = max(max(c.miou) for c in wrong)
    world = World(Recorded(space, wrong), 0)
    scores = [world.train(drawn(space, 1, number)).best[-1] for number in range(200)]
    assert max(scores) < highest + 0.021
    assert min(scores) < 0.5 * min(max(c.miou) for c in wrong if c.seed == space.baseline.seed)  # chance does harm
    plain = World(Recorded(space, known), 0)  # two runs differ by 0.002
    for number in range(20):
        settings = drawn(space, 0, number)
        assert plain.train(settings).best[-1] == pytest.approx(miou(settings), abs=0.1)


def test_the_best_so_far_is_what_a_recording_teaches(folder: Path) -> None:
    space = load_space(folder / "space.yaml")
    known = read_curves([folder / "curves.csv"])
    worse = [Curve(c.number, c.seed, c.settings, (*c.miou[:-1], 0.0), c.seconds, False) for c in known]
    recorded = Recorded(space, worse)
    assert (recorded.best[:, -1] == recorded.best[:, -2]).all()
    assert recorded.full_training() == 54.0
