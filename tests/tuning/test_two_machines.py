"""benchmarks/two_machines.py: recordings of two machines in the seconds of the first one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import two_machines
from curves import Curve, drawn, read_curves, write_curves
from recorded import COMMON
from two_machines import speed

from segtune.errors import InputError
from segtune.space.reader import load_space

COST = {"resnet34": 2.0, "tu-tf_efficientnet_lite2": 1.5}  # of an encoder; of all others 1
FASTER = 0.6


def recording(name: str, numbers: range, multiple: float) -> list[Curve]:
    """Runs of drawn configurations, whose cost depends on the data set, the encoder and chance."""
    space = load_space(COMMON)
    found = []
    for number in numbers:
        settings = drawn(space, 0, number)
        chance = np.random.default_rng(number).normal(0, 0.1)
        cost = (30 if name == "demo" else 50) * COST.get(settings["encoder"], 1.0) * np.exp(chance) * multiple
        found.append(Curve(number, 42, settings, (0.1, 0.2), (cost / 2, cost), failed=False))
    return found


def test_the_speed_of_a_machine_is_found_from_other_configurations() -> None:
    first = {name: recording(name, range(60), 1.0) for name in ("demo", "nuclei")}
    second = {name: recording(name, range(60, 120), FASTER) for name in ("demo", "nuclei")}
    multiple, error, deviation = speed(first, second)
    assert abs(np.log(multiple / FASTER)) < 3 * error
    assert 0.005 < error < 0.03
    assert 0.08 < deviation < 0.13


def test_a_failed_run_tells_nothing_of_the_speed() -> None:
    first = {"demo": recording("demo", range(60), 1.0)}
    second = {"demo": recording("demo", range(60, 120), FASTER)}
    failed = [replace(curve, seconds=(0.01,), miou=(0.1,), failed=True) for curve in recording("demo", range(9), 1.0)]
    assert speed(first, {"demo": second["demo"] + failed}) == speed(first, second)


def test_recordings_without_a_common_setting_are_refused() -> None:
    curves = recording("demo", range(60), 1.0)
    one = [curve for curve in curves if curve.settings["encoder_weights"] == "none"]
    other = [
        replace(curve, settings=dict.fromkeys(curve.settings, "other"))
        for curve in curves
        if curve.settings["encoder_weights"] == "imagenet"
    ]
    with pytest.raises(InputError, match="--second: has no encoder"):
        speed({"demo": one}, {"demo": other})


def given(folder: Path, to: Path) -> list[str]:
    """The command line that joins the recordings in first/ and second/."""
    paths = [str(folder / name / "demo.csv") for name in ("first", "second")]
    return ["two_machines.py", "--first", paths[0], "--second", paths[1], "--to", str(to)]


def test_the_script_joins_the_files_in_the_seconds_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    searched = load_space(COMMON).searched()
    first, second = recording("demo", range(60), 1.0), recording("demo", range(60, 120), FASTER)
    for folder, curves in (("first", first), ("second", second)):
        (tmp_path / folder).mkdir()
        write_curves(tmp_path / folder / "demo.csv", searched, curves)
    (tmp_path / "joined").mkdir()
    monkeypatch.setattr("sys.argv", given(tmp_path, tmp_path / "joined"))
    two_machines.main()
    said = capsys.readouterr().out
    multiple, _, _ = speed({"demo": first}, {"demo": second})
    assert f"{multiple:.3f} times" in said
    joined = read_curves([tmp_path / "joined" / "demo.csv"])
    assert [curve.number for curve in joined] == list(range(120))
    assert joined[:60] == first
    assert joined[60].miou == second[0].miou
    assert joined[60].seconds[-1] == pytest.approx(second[0].seconds[-1] / multiple, abs=0.02)


def test_a_run_of_both_recordings_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = load_space(COMMON).searched()
    for folder, numbers in (("first", range(60)), ("second", range(59, 120))):
        (tmp_path / folder).mkdir()
        write_curves(tmp_path / folder / "demo.csv", searched, recording("demo", numbers, 1.0))
    monkeypatch.setattr("sys.argv", given(tmp_path, tmp_path / "first"))
    before = (tmp_path / "first" / "demo.csv").read_text()
    with pytest.raises(SystemExit) as ended:
        two_machines.main()
    # A text as the status: Python prints it as the only line on stderr, and ends with 1.
    assert ended.value.code == "error: --second: has configuration 59 of demo, which --first has, too"
    assert (tmp_path / "first" / "demo.csv").read_text() == before
