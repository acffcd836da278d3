"""What a search says it would do: --dry-run through run_search.py, and what it measures."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from segtune.cli.flags import SEARCH_FLAGS
from segtune.config import RunConfig
from segtune.report import dry_run as dry_run_module
from tests.conftest import WriteDataSet
from tests.scripts import call

SMALL = (
    "model: unet, encoder: tu-mobilenetv3_small_050, decoder_channels: 64, image_size: 32, workers: 0, "
    "augmentation: safe"
)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory, data_set: WriteDataSet) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "tiles", train=8, val=4, size=(32, 48), labels=(0, 3, 7, 255))


@pytest.fixture
def dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """run_search.py --dry-run in an empty folder, on a space of this text: status, what it printed, its errors."""
    monkeypatch.chdir(tmp_path)

    def typed(text: str, *arguments: str) -> tuple[int, str, str]:
        Path("s.yaml").write_text(text, encoding="utf-8")
        ended = call("run_search", "--space", "s.yaml", "--dry-run", *arguments)
        return ended.status, ended.out, ended.err

    return typed


def test_a_dry_run_shows_everything_and_writes_nothing(dry_run, tiles: Path, tmp_path: Path, monkeypatch) -> None:
    def download(encoder: str) -> None:
        raise AssertionError(f"{encoder} was about to be downloaded")

    monkeypatch.setattr("segtune.models.build.fetch_weights", download)
    left = tmp_path / "left"
    left.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(left))
    Path("ray_results/s").mkdir(parents=True)  # a search of this name is none of its business
    status, out, err = dry_run(
        f"dataset: {tiles}\nclasses: [3, 7]\nignore: [255]\nchannels: [nir]\n"
        f"run: {{image_size: 32, epochs: 9, workers: 0, encoder_weights: imagenet}}\n"
        "space:\n"
        "  model: [unet, linknet, fpn]\n"
        "  encoder: [tu-mobilenetv3_small_050, mit_b0]\n"
        "  optimizer: {adamw: {lr: {low: 1e-4, high: 1e-2, log: true}}, sgd: {momentum: [0.8, 0.9]}}\n"
        "  batch_size: {low: 2, high: 4, step: 2}\n"
        "forbid: [{model: fpn, encoder: mit*}]\n"
        "baseline: {model: unet, encoder: tu-mobilenetv3_small_050}\n"
        "search: {trials: 12, max_concurrent: 1, gpus_per_trial: 0, grace_period: 3, time_budget: 8h}\n"
    )
    assert (status, err) == (0, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[lines.index("s.yaml: 6 settings searched, continuous") :][:12] == [
        "s.yaml: 6 settings searched, continuous",
        "├── model: unet, linknet, fpn",
        "├── encoder: tu-mobilenetv3_small_050, mit_b0",
        "├── optimizer",
        "│   ├── adamw",
        "│   │   └── lr: 0.0001 to 0.01, log",
        "│   └── sgd",
        "│       └── momentum: 0.8, 0.9",
        "├── batch_size: 2 to 4 in steps of 2",
        "└── forbid",
        "    └── {model: fpn, encoder: mit*}",
        "",
    ]
    assert "encoder_weights imagenet" in out
    assert "epochs 9" in out
    # mit_b0 goes with unet alone: forbidden with fpn, impossible with linknet.
    redrawn, draws = map(int, re.search(r"10 drawn at random; (\d+) of (\d+) draws had to be", out).groups())
    assert 0 < redrawn == draws - 10
    assert not re.search(r"^ \d+ +(linknet|fpn) +mit_b0", out, re.MULTILINE)
    assert re.search(r"^ size +48 x 32 +48 x 32$", "\n".join(lines), re.MULTILINE)
    for name in ("class 3", "class 7", "background", "ignored"):
        assert re.search(rf"^ {name} +\d+\.\d\d% +\d+\.\d\d%$", "\n".join(lines), re.MULTILINE)
    assert "bands: image:1, image:2, image:3, nir (uint8 in memory)" in lines
    assert any(line.startswith("cached: resize-32, 0.1 MB in ") for line in lines)
    assert "1 trial at a time, each on" in out
    assert any(re.match(r"start: baseline, then .*portfolio entr.* this space \(", line) for line in lines)
    assert len(re.findall(r"^  (?:baseline|run \d): \d+ ms a step, .* 9 epochs in about ", out, re.MULTILINE)) == 4
    assert re.search(r"^about .* in all, an estimate from:$", "\n".join(lines), re.MULTILINE)
    assert re.search(
        r"asha leaves about \d\d% of all epochs: trials pause after 3 of 9$", "\n".join(lines), re.MULTILINE
    )
    assert "  but time_budget ends the trials after 6 h 00 min, and the rest of it is for the confirmation" in lines
    assert "  then the confirmation trains the 3 best trials and the baseline again, 3 seeds each: about " in out
    assert list(left.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"s.yaml", "ray_results", "left"}
    assert list(Path("ray_results/s").iterdir()) == []


def test_a_dry_run_says_where_nothing_can_be_confirmed(dry_run, data_set: WriteDataSet, tmp_path: Path) -> None:
    data = data_set(tmp_path / "one", train=4, val=1)
    status, out, _ = dry_run(
        f"dataset: {data}\nrun: {{{SMALL}, cache_dir: none}}\nspace: {{lr: [1e-3, 1e-2]}}\n"
        "search: {trials: 2, max_concurrent: 1, gpus_per_trial: 0, time_budget: 8h}\n"
    )
    assert status == 0
    assert "  but time_budget ends the trials after 8 h 00 min\n" in out
    few = "an interval needs at least 2 validation tiles, and there is 1"
    assert f"  then the winner is not confirmed: {few}\n" in out


def test_a_dry_run_refuses_a_group_that_no_tile_matches(dry_run, tiles: Path) -> None:
    status, out, err = dry_run(
        f"dataset: {tiles}\nclasses: [3, 7]\nignore: [255]\nrun: {{{SMALL}, cache_dir: none}}\n"
        "space: {lr: [1e-3, 1e-2]}\n"
        "search: {trials: 2, max_concurrent: 1, gpus_per_trial: 0, confirm: {group: 'nothing_(x)'}}\n"
    )
    assert status == 2
    assert "Some of the runs" not in out
    assert "search.confirm.group: 'nothing_(x)' does not match 4 of 4 tiles" in err


def test_a_dry_run_of_a_grid_shows_its_first_runs_and_checks_it(dry_run, tiles: Path) -> None:
    text = (
        f"dataset: {tiles}\nclasses: [3, 7, 255]\nrun: {{{SMALL}, cache_dir: none}}\n"
        "space: {lr: [1e-3, 1e-2], loss: [ce, dice, focal]}\nforbid: [{lr: 1e-2, loss: focal}]\n"
        "search: {sampler: grid, scheduler: none, trials: 20, max_concurrent: 1,"
        " gpus_per_trial: 0, cpus_per_trial: 1}\n"
    )
    status, out, _ = dry_run(text, "--set", "epochs=2")
    assert status == 0
    assert "s.yaml: 2 settings searched, 5 combinations\n" in out
    assert "the first 5 of a grid of 5" in out
    assert re.findall(r"^ *(baseline|\d) +(0\.\d+) +(\w+) *$", out, re.MULTILINE) == [
        ("baseline", "0.001", "dice"),  # which the grid holds, too
        *(("1", "0.001", "ce"), ("2", "0.001", "focal"), ("3", "0.01", "ce"), ("4", "0.01", "dice")),
    ]
    assert "not cached: every tile is decoded anew" in out
    assert "  5 trials of " in out  # of the twenty asked for
    assert "every trial trains to its end" in out
    assert "start:" not in out
    status, _, err = dry_run(text.replace("classes: [3, 7, 255]", "classes: [9]"))
    assert status == 2
    assert "contains 9" in err


def test_every_flag_of_a_search_sets_the_setting_of_its_name(dry_run, tiles: Path, monkeypatch) -> None:
    seen = {}
    monkeypatch.setattr(dry_run_module, "show_dry_run", lambda console, space, *more: seen.update(space=space) or 0)
    flags = "--trials 7 --time-budget 2h --patience 5 --seed 3 --disk-gb 2.5 --max-concurrent 2 --gpus-per-trial 0"
    wanted = {"trials": 7, "time_budget": 7200.0, "patience": 5, "seed": 3, "disk_gb": 2.5, "max_concurrent": 2}
    wanted |= {"gpus_per_trial": 0.0, "cpus_per_trial": 1, "prefer": "latency < 20ms", "log_to": "none"}
    assert set(wanted) == set(SEARCH_FLAGS)
    text = f"dataset: {tiles}\nclasses: [3, 7, 255]\nrun: {{{SMALL}}}\nspace: {{lr: [1e-3, 1e-2]}}\n"
    status, _, err = dry_run(
        text, *flags.split(), "--cpus-per-trial", "1", *("--prefer", "latency<0.02s", "--log-to", "none")
    )
    assert (status, err) == (0, "")
    assert {name: getattr(seen["space"].search, name) for name in wanted} == wanted
    assert seen["space"].baseline.seed == RunConfig().seed  # which is the run's own


@pytest.mark.parametrize("name", ["../up", "", "a/b", "what?"])
def test_a_name_that_no_search_can_have_is_refused(name: str, dry_run, tiles: Path) -> None:
    status, _, err = dry_run(f"dataset: {tiles}\nspace: {{lr: [1e-3, 1e-2]}}\n", "--name", name)
    assert (status, len(err.splitlines())) == (2, 1)
    assert err.startswith(f"error: --name: {name!r} is not a name for a search")
