"""benchmarks/build_portfolio.py: the shipped portfolio is chosen from recorded curves."""

from __future__ import annotations

import shutil
from pathlib import Path

import build_portfolio
import pytest
import search_quality
import yaml
from curves import drawn

from segtune.planning.portfolio import read_portfolio
from segtune.space.reader import load_space

BENCHMARKS = Path(search_quality.__file__).parent
RECORDED = BENCHMARKS / "curves" / "s2india64.csv"


@pytest.fixture
def curves(tmp_path: Path) -> list[str]:
    """Write curves of two data sets, one of them in parts, and an older recording with a space of its own."""
    space = load_space(BENCHMARKS / "common.yaml")
    head = ",".join(["number", "seed", "status", *space.searched(), "miou", "seconds"])
    for name, numbers in (("nuclei.1", range(0, 12, 2)), ("nuclei.2", range(1, 12, 2)), ("demo", range(8))):
        rows = [head]
        for number in numbers:
            settings = drawn(space, 0, number)
            values = [str(settings.get(setting, "")) for setting in space.searched()]
            rows.append(",".join([f"{number}", "42", "finished", *values, f"{0.3 + 0.02 * number}", f"{9 + number}"]))
        (tmp_path / f"{name}.csv").write_text("\n".join([*rows, ""]))
    shutil.copy(RECORDED, tmp_path)
    return [f"{path}" for path in sorted(tmp_path.glob("*.csv"))]


def test_the_command_takes_all_recorded_files(curves: list[str], tmp_path: Path) -> None:
    to = tmp_path / "portfolio.yaml"
    build_portfolio.main(["--curves", *curves, "--to", f"{to}"])
    portfolio = read_portfolio(to)
    assert portfolio.about["from"] == {"demo": "8 curves", "nuclei": "12 curves"}
    assert "miou" not in yaml.safe_load(to.read_text())["entries"][0]["settings"]
    build_portfolio.main(["--curves", *curves, "--to", f"{to}", "--without", "demo"])
    assert read_portfolio(to).about["from"] == {"nuclei": "12 curves"}


def test_a_data_set_with_two_curves_teaches_nothing(
    curves: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo, to = tmp_path / "demo.csv", tmp_path / "none.yaml"
    demo.write_text("\n".join([*demo.read_text().splitlines()[:3], ""]))
    build_portfolio.main(["--curves", *curves, "--measure"])
    assert "| greedy by regret per second | 1.000 |" in capsys.readouterr().out  # nuclei from demo: nothing is known
    with pytest.raises(SystemExit, match="error: --curves: no data set has 3 configurations"):
        build_portfolio.main(["--curves", f"{demo}", "--to", f"{to}"])
    assert not to.exists()


def test_mistakes_are_told_in_one_line(curves: list[str], tmp_path: Path) -> None:
    to = tmp_path / "none.yaml"
    for given, complaint in (
        (["--curves", f"{RECORDED}"], "at least one of demo, s2india"),
        (["--curves", f"{tmp_path / 'demo.gone.csv'}"], "cannot be read"),
        (["--curves", *curves, "--without", "moon"], "'moon' is none of demo, nuclei"),
    ):
        with pytest.raises(SystemExit) as ended:
            build_portfolio.main([*given, "--to", f"{to}"])
        (line,) = f"{ended.value.code}".splitlines()
        assert line.startswith("error: ")
        assert complaint in line
    assert not to.exists()
