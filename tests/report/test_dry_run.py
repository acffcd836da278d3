"""What a search says it would do: --dry-run through run_search.py, and what it measures."""

from __future__ import annotations

import random
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from segtune.cli.flags import SEARCH_FLAGS
from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.data.scan import scan
from segtune.errors import InputError, NonFiniteLossError
from segtune.models import compatibility
from segtune.planning.cost import probe
from segtune.planning.feasibility import check_space
from segtune.planning.rungs import asha_share
from segtune.planning.samples import draw_samples, measured_runs
from segtune.report import dry_run as dry_run_module
from segtune.space.reader import load_space
from segtune.training.resolve import resolve
from segtune.tuning.asha import OBJECTIVE, Asha
from tests.conftest import WriteDataSet
from tests.scripts import call

SMALL = "model: unet, encoder: tu-mobilenetv3_small_050, image_size: 32, workers: 0, augmentation: safe"


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


def test_a_dry_run_shows_all_and_leaves_nothing(dry_run, tiles: Path, tmp_path: Path, monkeypatch) -> None:
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
        "search: {trials: 12, max_concurrent: 1, gpus_per_trial: 0, cpus_per_trial: 1, grace_period: 3}\n"
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
    assert len(re.findall(r"^  (?:baseline|run \d): \d+ ms a step, .* 9 epochs in about ", out, re.MULTILINE)) == 4
    assert re.search(r"^about .* in all, an estimate from:$", "\n".join(lines), re.MULTILINE)
    assert re.search(
        r"asha leaves about \d\d% of all epochs: it stops trials after 3 of 9$", "\n".join(lines), re.MULTILINE
    )
    assert list(left.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"s.yaml", "ray_results", "left"}
    assert list(Path("ray_results/s").iterdir()) == []


def test_a_dry_run_of_a_grid_shows_its_first_runs_and_refuses_what_a_search_refuses(dry_run, tiles: Path) -> None:
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
    assert "not cached: every tile is decoded anew" in out
    assert "  5 trials of " in out  # of the twenty asked for
    assert "every trial trains to its end" in out
    status, _, err = dry_run(text.replace("classes: [3, 7, 255]", "classes: [9]"))
    assert status == 2
    assert "contains 9" in err


def test_every_flag_of_a_search_sets_the_setting_of_its_name(dry_run, tiles: Path, monkeypatch) -> None:
    seen = {}
    monkeypatch.setattr(dry_run_module, "show_dry_run", lambda console, space, *more: seen.update(space=space) or 0)
    flags = "--trials 7 --time-budget 2h --patience 5 --seed 3 --disk-gb 2.5 --max-concurrent 2 --gpus-per-trial 0"
    wanted = {"trials": 7, "time_budget": 7200.0, "patience": 5, "seed": 3, "disk_gb": 2.5, "max_concurrent": 2}
    wanted |= {"gpus_per_trial": 0.0, "cpus_per_trial": 1}
    assert set(wanted) == set(SEARCH_FLAGS)
    text = f"dataset: {tiles}\nclasses: [3, 7, 255]\nrun: {{{SMALL}}}\nspace: {{lr: [1e-3, 1e-2]}}\n"
    status, _, err = dry_run(text, *flags.split(), "--cpus-per-trial", "1")
    assert (status, err) == (0, "")
    assert {name: getattr(seen["space"].search, name) for name in wanted} == wanted
    assert seen["space"].baseline.seed == RunConfig().seed  # which is the run's own


@pytest.mark.parametrize("name", ["../up", "", "a/b", "what?"])
def test_a_name_that_no_search_can_have_is_refused(name: str, dry_run, tiles: Path) -> None:
    status, _, err = dry_run(f"dataset: {tiles}\nspace: {{lr: [1e-3, 1e-2]}}\n", "--name", name)
    assert (status, len(err.splitlines())) == (2, 1)
    assert err.startswith(f"error: --name: {name!r} is not a name for a search")


def test_draws_are_the_seed_s_and_only_what_a_search_may_try(tmp_path: Path, tiles: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"dataset: {tiles}\nclasses: [3, 7, 255]\nspace:\n"
        "  model: [unet, linknet, fpn]\n  encoder: [resnet18, mit_b0]\n"
        "  warmup_epochs: [0, 60]\n  epochs: [50, 70]\n  image_size: [32, 40]\n"
        "forbid: [{model: unet, warmup_epochs: 60}]\nbaseline: {model: unet, encoder: resnet18}\n"
    )
    space = load_space(tmp_path / "s.yaml")
    info = scan(space.baseline)
    samples = draw_samples(space, info)
    assert samples == draw_samples(space, info)
    assert len(samples.runs) == len(samples.searched) == 10
    for run, searched in zip(samples.runs, samples.searched, strict=True):
        assert space.forbidden(run.settings()) is None
        assert compatibility.incompatibility(run.model, run.encoder, run.image_size) is None
        assert run.warmup_epochs < run.epochs
        assert {name: getattr(run, name) for name in searched} == searched


def test_no_configuration_is_shown_or_measured_twice(tmp_path: Path, tiles: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"dataset: {tiles}\nclasses: [3, 7, 255]\nspace: {{lr: [1e-3, 1e-2], batch_size: [2, 6]}}\n"
    )
    space = load_space(tmp_path / "s.yaml")
    info = scan(space.baseline)
    first, samples = resolve(space.baseline, info), draw_samples(space, info).runs
    assert len(samples) == 4 == len({(run.lr, run.batch_size) for run in samples})
    runs = measured_runs(first, samples)
    assert runs.pop("baseline") == first
    assert len(runs) == 3
    assert {(run.lr, run.batch_size) for run in (first, *runs.values())} == {
        (run.lr, run.batch_size) for run in samples
    }
    assert all(samples[int(name.split()[1]) - 1] is run for name, run in runs.items())


# What is measured.


@pytest.fixture(scope="module")
def info(tiles: Path) -> DataInfo:
    return scan(run_of(tiles))


def run_of(tiles: Path, **settings: object) -> RunConfig:
    small: dict[str, object] = {"model": "unet", "encoder": "tu-mobilenetv3_small_050", "image_size": 32, "workers": 0}
    return RunConfig(dataset=str(tiles), classes=[3, 7, 255], device="cpu", **{**small, "batch_size": 2} | settings)


@pytest.mark.parametrize(("batch_size", "samples", "steps", "batches"), [(2, None, 4, 2), (4, 10, 3, 1), (3, 9, 3, 2)])
def test_a_probe_extrapolates_a_step_and_a_batch_to_an_epoch(
    tiles: Path, info: DataInfo, batch_size: int, samples: int | None, steps: int, batches: int
) -> None:
    config = run_of(tiles, batch_size=batch_size, samples_per_epoch=samples, epochs=40, warmup_epochs=3)
    cost = probe(resolve(config, info), info, threads=1)
    assert cost.peak_bytes is None
    assert cost.step_seconds > 0
    assert cost.batch_seconds > 0
    assert cost.epoch_seconds == pytest.approx(cost.step_seconds * steps + cost.batch_seconds * batches)


def test_a_run_that_cannot_be_measured_says_why(tiles: Path, info: DataInfo) -> None:
    with pytest.raises(NonFiniteLossError, match="loss became"):
        probe(resolve(run_of(tiles, lr=1e30, grad_clip=0.0, optimizer="sgd"), info), info)


@pytest.mark.parametrize(
    ("trials", "grace", "factor", "epochs"), [(60, 5, 3, 45), (16, 4, 3, 12), (9, 9, 2, 9), (30, 2, 2, 31)]
)
def test_the_share_of_epochs_is_what_asha_trains_of_trials_in_random_order(
    trials: int, grace: int, factor: int, epochs: int
) -> None:
    shares = []
    for seed in range(40):
        scheduler, generator, spent = Asha(grace, factor, epochs), random.Random(seed), 0
        for number in range(trials):
            config, score = {"number": number, "baseline": number == 0}, generator.random()
            trial = SimpleNamespace(trial_id=str(number), config=config)
            scheduler.on_trial_add(None, trial)
            for epoch in range(1, epochs + 1):
                spent += 1
                result = {"epoch": epoch, "epochs": epochs, OBJECTIVE: score}
                if scheduler.on_trial_result(None, trial, result) != "CONTINUE":
                    break
        shares.append(spent / (trials * epochs))
    compared = [rung for rung in (grace * factor**i for i in range(9)) if rung < epochs]
    assert asha_share(trials, compared, factor, epochs) == pytest.approx(sum(shares) / len(shares), rel=0.08)


# What goes together.


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("space: {model: [unet, linknet], encoder: [mit_b0, resnet18]}", []),
        (
            "space: {model: [linknet, unetplusplus], encoder: [mit_b0, resnet18]}",
            ["model linknet does not work with encoder mit_b0"],
        ),
        (
            "space: {model: [unet, linknet], encoder: [mit_b0, resnet18]}\nbaseline: {model: linknet, encoder: mit_b0}",
            [
                "model linknet does not work with encoder mit_b0; the first run has both, and another one stands under"
                " baseline:"
            ],
        ),
        (
            "space: {model: [unet, linknet], encoder: [mit_b0, resnet18]}\nsearch: {sampler: grid}",
            [
                "model linknet does not work with encoder mit_b0; a grid tries every combination that is not under"
                " forbid:"
            ],
        ),
        (
            "space: {model: [unet, linknet], encoder: [mit_b0, resnet18]}\nsearch: {sampler: grid}\n"
            "forbid: [{model: linknet, encoder: mit*}]",
            [],
        ),
        (
            "space: {model: [unet, pan], image_size: [64, 128]}\nrun: {encoder: resnet18}",
            [],
        ),
        (
            "space: {model: [fpn, linknet], image_size: [65, 128]}\nrun: {encoder: resnet18}",
            ["image_size 65 is not a multiple of 32, which model fpn needs"],
        ),
    ],
)
def test_only_what_goes_with_nothing_is_a_mistake(tmp_path: Path, text: str, mistakes: list[str]) -> None:
    path = tmp_path / "s.yaml"
    first = "" if "baseline" in text or "encoder: [" not in text else "\nbaseline: {encoder: resnet18, model: unet}"
    path.write_text(text + first)
    space = load_space(path)
    if not mistakes:
        check_space(space)
        return
    with pytest.raises(InputError) as caught:
        check_space(space)
    assert caught.value.mistakes == [f"{path}: {mistake}" for mistake in mistakes]
