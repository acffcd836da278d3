"""benchmarks/report.py: what is printed of replays, and what is not compared with each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import replay
from curves import Curve, drawn
from picture import draw
from recorded import Recorded, read_sets
from report import tables
from simulation import BUDGETS, Ground, Key, Replay, simulate

from segtune.space.reader import load_space
from tests.tuning.curves_of_sets import EPOCHS, SETS, SPACE, write_curves


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    """Return the recorded data sets."""
    folder = tmp_path_factory.mktemp("report")
    write_curves(folder)
    return read_sets([folder / f"{name}.csv" for name in SETS], folder / "space.yaml")


def replays(landscape: str, name: str, method: str, *best: float) -> list[Replay]:
    """Return searches of three seeds that reach these scores after 1, 8 and 30 full trainings."""
    keys = [Key(landscape, name, method, 1, seed) for seed in range(3)]
    return [
        Replay(key, (3, 6, 12, 24), 9, 1.0, (1.0, 8.0, 30.0), tuple(score + 0.001 * key.seed for score in best))
        for key in keys
    ]


def test_a_data_set_with_a_space_of_its_own_has_its_table(sets: dict[str, Recorded], tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(SPACE.replace("[4, 8, 16]", "[4, 8]"))
    space = load_space(tmp_path / "old.yaml")
    runs = [(number, 42 + again) for number in range(12) for again in range(2 if number < 3 else 1)]
    old = Recorded(
        "old",
        space,
        [Curve(n, seed, drawn(space, 0, n), (0.3 + 0.01 * n,) * EPOCHS, (1.0,) * EPOCHS, False) for n, seed in runs],
    )
    found = [one for name in (*sets, "old") for one in replays("surrogate", name, "random", 0.3, 0.4, 0.5)]
    found += [one for name in sets for one in replays("surrogate", name, "random+asha+portfolio", 0.4, 0.5, 0.6)]
    text = "\n".join(tables(found, sets | {"old": old}))
    assert "best mIoU on north" in text
    assert "best mIoU on old" in text


def test_results_are_invalid_when_code_changes_that_decides_what_is_found() -> None:
    files = replay.deciding_code()
    segtune = {f"{path.parent.name}/{path.name}" for path in files}
    assert segtune >= {
        "tuning/prior.py",
        "space/prior.py",
        "tuning/study.py",
        "tuning/scheduler.py",
        "planning/rungs.py",
    }
    benchmarks = Path(replay.__file__).parent
    own = {path.stem for path in files if path.parent == benchmarks}
    left, imported = ["simulation"], set()
    while left:
        imported.add(name := left.pop())
        tree = ast.parse((benchmarks / f"{name}.py").read_text())
        found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        left += [name for name in found - imported if (benchmarks / f"{name}.py").is_file()]
    assert imported - own == {"machine"}


def test_oracles_have_a_table_of_their_own(sets: dict[str, Recorded], tmp_path: Path) -> None:
    found = [
        one
        for name in sets
        for method, best in (("random", 0.3), ("random+asha", 0.35), ("tpe+asha", 0.4), ("tpe+asha right prior", 0.8))
        for one in replays("surrogate", name, method, best, best + 0.05, best + 0.1)
    ]
    honest, oracles = "\n".join(tables(found, sets)).split("oracles: ")
    assert "right prior" not in honest
    assert "tpe+asha: " in honest
    rows = [line.split() for line in oracles.split("CPU seconds")[0].splitlines() if line.startswith("  tpe")]
    assert [row[0:2] for row in rows[:2]] == [["tpe+asha", "0.4010"], ["tpe+asha", "right"]]
    without = "\n".join(tables([one for one in found if "prior" not in one.key.method], sets))
    assert without.split("CPU seconds")[0].strip() == honest.strip()
    draw(found, sets, tmp_path / "all.png")
    draw([one for one in found if "prior" not in one.key.method], sets, tmp_path / "honest.png")
    assert (tmp_path / "all.png").read_bytes() == (tmp_path / "honest.png").read_bytes()


def test_others_are_said_to_have_later_what_the_default_has_early(sets: dict[str, Recorded]) -> None:
    scores = {"random": (0.3, 0.4, 0.6), "random+asha": (0.3, 0.5, 0.6), "tpe+asha": (0.3, 0.4, 0.45)}
    found = [
        one for name in sets for method, best in scores.items() for one in replays("surrogate", name, method, *best)
    ]
    found += [one for name in sets for one in replays("surrogate", name, "tpe+promotion+portfolio", 0.5, 0.6, 0.7)]
    lines = list(tables(found, sets))
    first = next(number for number, line in enumerate(lines) if "has what the default has after 5" in line) + 1
    assert [line.split() for line in lines[first : first + 3]] == [
        ["random", "30", "30"],
        ["random+asha", "8", "8"],
        ["tpe+asha", "never", "never"],
    ]


def test_a_table_is_reported_only_while_most_of_it_is_left(sets: dict[str, Recorded]) -> None:
    methods = (("random", 0.3), ("random+asha", 0.4))
    found = [
        one for name in sets for method, best in methods for one in replays("table", name, method, best, best, best + 1)
    ]
    lines = [line.strip() for line in tables(found, sets)]
    heads = [line.split() for line in lines if line.startswith("after")]
    assert heads == [["after", "5", "after", "10"], ["after", "5", "after", "10", "after", "20"]]
    assert not any("after 50" in line for line in lines)
    assert any(line.startswith("training time until the mIoU that random has after 20 full") for line in lines)
    shares = lines[next(number for number, line in enumerate(lines) if line.startswith("share of the recorded")) + 2]
    assert shares.split() == ["random", "10%", "20%", "40%"]  # of 30 configurations


def test_the_trials_of_a_replay_are_counted_by_budget(sets: dict[str, Recorded]) -> None:
    north = sets["north"]
    for method, least in (("random", 0), ("random+asha", 3)):
        replayed = simulate(Ground(north, {}, ()), Key("table", "north", method, 1, 0))
        full = [min(budget, len(north.curves)) for budget in BUDGETS]
        assert all(begun - whole >= least for begun, whole in zip(replayed.trials[:3], full[:3], strict=True))
        assert replayed.trials[-1] == len(north.curves)


def test_the_columns_of_tables_stand_below_their_heads(sets: dict[str, Recorded]) -> None:
    found = [one for name in sets for one in replays("surrogate", name, "tpe+promotion+portfolio", 0.4, 0.5, 0.6)]
    lines = list(tables(found, sets))
    head = next(number for number, line in enumerate(lines) if "after 5" in line)
    assert lines[head + 2].startswith("  tpe+promotion+portfolio (default) ")
    assert len(lines[head]) == len(lines[head + 2])
