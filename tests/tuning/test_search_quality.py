"""benchmarks/search_quality.py: record curves, read them, and describe them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import curves
import numpy as np
import pytest
import search_quality
from curves import Curve, drawn, read_curves
from recorded import read_sets

from segtune.data.demo import write_demo
from segtune.errors import InputError
from segtune.space.reader import load_space
from tests.tuning.curves_of_sets import CONFIGURATIONS, SETS, SPACE, write_curves


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space and recorded curves."""
    folder = tmp_path_factory.mktemp("quality")
    write_curves(folder)
    return folder


def command(folder: Path, *more: str, results: str = "results.csv") -> list[str]:
    given = ["replay", "--space", f"{folder / 'space.yaml'}", "--curves", f"{folder / 'north.csv'}"]
    given += ["--results", f"{folder / results}", "--workers", "1", "--seeds", "1", "--methods", "random"]
    return [*given, *more]


@pytest.fixture
def process_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the process of the tests as it is; recording would change it."""
    monkeypatch.setattr(curves.gc, "freeze", lambda: None)
    monkeypatch.setattr(curves.cv2, "setNumThreads", lambda threads: None)


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        search_quality.main([*arguments])
    (line,) = str(ended.value.code).splitlines()
    assert line.startswith("error: ")
    return line


# Mistakes


def test_results_of_other_curves_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search_quality.main(command(folder, "--landscapes", "table"))
    before = (folder / "results.csv").read_bytes()
    fewer = tmp_path / "north.csv"
    fewer.write_text("".join((folder / "north.csv").read_text().splitlines(keepends=True)[:-1]))
    assert "replayed over other curves" in error_of(capsys, *command(folder, "--curves", f"{fewer}"))
    assert (folder / "results.csv").read_bytes() == before


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
    short.write_text(SPACE.replace("epochs: 9", "epochs: 3"))
    for path in (other, short):
        assert "none of the space's" in error_of(capsys, *command(folder, "--space", f"{path}", results="o.csv"))
    binary, few = tmp_path / "weights.bin", tmp_path / "few.csv"
    binary.write_bytes(bytes(range(256)))
    few.write_text("".join((folder / "north.csv").read_text().splitlines(keepends=True)[:5]))
    expected = {binary: "not a file of recorded curves", few: "at least 10", tmp_path / "gone.csv": "cannot be read"}
    expected[folder / "space.yaml"] = "not a recorded curve"
    for path, text in expected.items():
        assert text in error_of(capsys, *command(folder, "--curves", f"{path}", results="o.csv"))
    assert "'bohb' is none of 'random'" in error_of(capsys, *command(folder, "--methods", "bohb"))
    assert "'moon' is none of 'surrogate', 'own', 'table'" in error_of(capsys, *command(folder, "--landscapes", "moon"))
    oracle = command(folder, "--methods", "tpe+asha wrong prior", "--picture", f"{tmp_path / 'p.png'}", results="o.csv")
    assert "oracles are not drawn" in error_of(capsys, *oracle)
    assert not (folder / "o.csv").exists()


def test_a_missing_library_is_named_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("report", "found", "judge"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert error_of(capsys, *command(folder)) == "error: scipy is missing: pip install -e '.[benchmarks]'"


# Record


def test_half_a_line_at_the_end_is_no_curve(folder: Path, tmp_path: Path) -> None:
    text = (folder / "north.csv").read_text()
    half = tmp_path / "half.csv"
    half.write_text(text[:-30])
    assert read_curves([half]) == read_curves([folder / "north.csv"])[:-1]
    with pytest.raises(InputError, match="there twice"):
        read_curves([half, folder / "north.csv"])


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
    assert [found[1] for found in drawn[1]] == [[255], [2, 4, 5]]
    assert "'moon' is none of demo, s2india" in error_of(capsys, "record", "--set", "moon", "--data", ".")
    assert "--curves: is needed" in error_of(capsys, "record", "--data", ".")


@pytest.mark.usefixtures("process_kept")
def test_a_recorded_curve_is_what_the_trainer_showed(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", train_tiles=8, val_tiles=4, size=32)
    space = tmp_path / "space.yaml"
    space.write_text(SPACE.replace("epochs: 9", "epochs: 2, worst: 0"))
    path = tmp_path / "curves.csv"
    arguments = ["record", "--space", f"{space}", "--data", f"{tmp_path / 'demo'}", "--curves", f"{path}"]
    search_quality.main([*arguments, "--most", "1"])
    (curve,) = read_curves([path])
    assert curve.settings == drawn(load_space(space), 0, 0)
    assert len(curve.miou) == len(curve.seconds) == 2
    assert 0 < curve.seconds[0] < curve.seconds[1]
    assert 0 < max(curve.miou) < 1
    assert not curve.failed


# Read and describe


def test_the_parts_of_a_data_set_are_one(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "north.csv").read_text().splitlines(keepends=True)
    for part, own in (("1", lines[1::2]), ("2", lines[2::2])):
        (tmp_path / f"north.{part}.csv").write_text(lines[0] + "".join(own))
    whole = read_sets([folder / "north.csv"], folder / "space.yaml")["north"]
    parts = read_sets(sorted(tmp_path.glob("*.csv")), folder / "space.yaml")
    assert list(parts) == ["north"]
    assert parts["north"].all == whole.all


def test_data_sets_of_the_list_have_the_common_space(tmp_path: Path) -> None:
    space = load_space(Path(search_quality.__file__).with_name("common.yaml"))
    rows = [",".join(["number", "seed", "status", *space.searched(), "miou", "seconds"])]
    for number in range(10):
        settings = drawn(space, 0, number)
        values = [str(settings.get(name, "")) for name in space.searched()]
        for seed in (42, 43) if number % 7 == 0 else (42,):
            rows.append(",".join([str(number), str(seed), "finished", *values, "0.5 " * 15 + "0.6", "1 " * 15 + "16"]))
    (tmp_path / "nuclei.csv").write_text("\n".join([*rows, ""]))
    (nuclei,) = read_sets([tmp_path / "nuclei.csv"]).values()
    assert (nuclei.space.fixed["image_size"], nuclei.epochs, len(nuclei.curves)) == (64, 16, 10)


def test_what_the_curves_hold_is_described(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"{folder / name}.csv" for name in SETS]
    search_quality.main(["describe", "--space", f"{folder / 'space.yaml'}", "--curves", *files])
    _, north, south = capsys.readouterr().out.splitlines()
    recorded = read_curves([folder / "north.csv"])
    best = max(curve.best()[-1] for curve in recorded if curve.seed == 42)
    assert north.split()[:5] == ["north", str(CONFIGURATIONS), "6", "0", "9"]
    assert north.split()[6] == f"{best:.4f}"
    assert "0.0014 (epoch 9)" in north  # two runs differ by 0.002
    assert south.split()[-2] == "18"  # seconds


def test_the_best_so_far_is_what_a_recording_teaches(folder: Path) -> None:
    known = read_sets([folder / "north.csv"], folder / "space.yaml")["north"]
    worse = [Curve(c.number, c.seed, c.settings, (*c.miou[:-1], 0.0), c.seconds, False) for c in known.all]
    recorded = type(known)("north", known.space, worse)
    assert (recorded.best[:, -1] == recorded.best[:, -2]).all()
    assert recorded.full_training() == 18.0
    assert recorded.normalized(np.array([recorded.best[:, -1].max(), np.median(recorded.best[:, -1])])).tolist() == [
        1,
        0,
    ]
