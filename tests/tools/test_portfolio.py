"""python -m segtune.tools portfolio: what did well in one's own searches becomes the start of new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segtune.files.folders import SearchFolder
from segtune.planning.first_runs import first_runs
from segtune.planning.portfolio import read_portfolio, shipped_portfolio
from segtune.space.reader import load_space
from segtune.tools.portfolio import Tried, own_portfolio
from segtune.tuning.promotion import make_promotion
from segtune.tuning.search_yaml import store_space
from segtune.tuning.study import same_data
from tests.scripts import Ended, call
from tests.tuning.bench import SPACE, Bench


def portfolio(*arguments: object) -> Ended:
    """Type the command."""
    return call("segtune.tools.__main__", "portfolio", *arguments)


def search(folder: Path, data: str, scores: list[float], run: str = "") -> Path:
    """Leave a search with these scores, one by trial, and a trial that still runs; `run` is fixed in it."""
    seed = len(data) + ord(data[-1])  # searches draw different configurations
    text = SPACE.replace("trials: 8", f"seed: {seed}").replace("run: {", f"run: {{{run}")
    bench = Bench(SearchFolder(folder), f"dataset: data/{data}\n{text}")
    same_data(bench.study, data)
    store_space(bench.folder, bench.study, bench.space)
    for score in scores:
        bench.finish(bench.start().number, score)
    bench.start()
    bench.close()
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_best_of_ones_own_searches_are_written(tmp_path: Path) -> None:
    Path("ray_results/other").mkdir(parents=True)
    for name, scores in (("a", [0.6, 0.1, 0.7, 0.65]), ("b", [0.8, 0.9, 0.2, 0.85])):
        search(tmp_path / "ray_results" / name, f"of_{name}", scores)
    Path("ray_results/index.html").touch()  # ray_results/* names it too
    ended = portfolio(
        "ray_results/a", "ray_results/b", "ray_results/index.html", "ray_results/other", "--to", "own.yaml"
    )
    assert (ended.status, ended.err) == (0, "")
    first, second, third, last = ended.out.splitlines()
    assert first == "ray_results/a: 4 trials on data/of_a"
    assert second == "ray_results/b: 4 trials on data/of_b"
    assert third.startswith("left out: ray_results/other: no search")
    assert last.startswith("own.yaml: ")
    assert last.endswith(" from 8 trials on 2 data sets; search: {start: own.yaml} uses it")
    found = read_portfolio(Path("own.yaml"))
    assert found.entries[0].learnt_from == ("a #2",)  # b #1, nearly the same, is the best on the other data set
    assert found.entries[0].settings.keys() >= {"encoder_weights", "optimizer", "encoder"}
    assert found.entries[0].settings["batch_size"] == 4  # the search fixed it, and it is not the default
    assert "epochs" not in found.entries[0].settings

    (tmp_path / "later.yaml").write_text(f"{SPACE}baseline: {{encoder: efficientnet-b0}}\n")
    space = load_space(tmp_path / "later.yaml", search_overrides={"start": "own.yaml", "sampler": "tpe"})
    assert len(first_runs(found, space, lambda settings: None).points) == min(2, len(found.entries))

    again = portfolio("ray_results/a", "--to", "own.yaml", "--with-shipped")
    assert again.status == 0
    both = read_portfolio(Path("own.yaml")).entries
    assert both[0].learnt_from == ("a #2",)
    assert both[1] == shipped_portfolio().entries[0]


def test_what_a_search_fixes_is_part_of_its_configurations() -> None:
    search(Path("a"), "same", [0.5, 0.4, 0.7, 0.6], "loss: lovasz, ")
    search(Path("b"), "same", [0.9, 0.1, 0.2, 0.3], "loss: focal, ")
    assert portfolio("a", "b", "--to", "own.yaml").status == 0
    entries = read_portfolio(Path("own.yaml")).entries
    best = entries[0]
    assert best.learnt_from == ("b #0",)
    assert {name: best.settings[name] for name in ("loss", "model", "lr")} == {
        "loss": "focal",
        "model": "unet",
        "lr": 1e-3,
    }
    assert [entry.settings["loss"] == "focal" for entry in entries] == [
        entry.learnt_from[0].startswith("b") for entry in entries
    ]


def test_scores_after_another_budget_are_not_compared() -> None:
    search(Path("short"), "same", [0.1, 0.3, 0.2, 0.15], "samples_per_epoch: 20, loss: lovasz, ")
    search(Path("long"), "same", [0.6, 0.61, 0.72, 0.65], "samples_per_epoch: 900, loss: focal, ")
    assert portfolio("short", "long", "--to", "own.yaml").status == 0
    entries = read_portfolio(Path("own.yaml")).entries
    assert {"short #1", "long #2"} <= {name for entry in entries for name in entry.learnt_from}
    assert not any("samples_per_epoch" in entry.settings for entry in entries)


def test_too_few_trials_make_no_portfolio() -> None:
    search(Path("one"), "of_one", [0.4, 0.5])
    search(Path("two"), "of_two", [0.6])
    (mistake,) = portfolio("one", "two", "--to", "own.yaml").mistakes
    assert "no data set has 3 trials with a score that can be compared: with the same epochs" in mistake
    assert not Path("own.yaml").exists()


def test_paused_trials_count(tmp_path: Path) -> None:
    """A search that ended by its time leaves its best unfinished trials so."""
    text = f"dataset: data/a\n{SPACE}".replace("epochs: 3", "epochs: 9")
    bench = Bench(SearchFolder(tmp_path / "a"), text, concurrent=9, compared=make_promotion)
    same_data(bench.study, "a")
    store_space(bench.folder, bench.study, bench.space)
    bench.start()
    for score in (0.4, 0.6, 0.5):
        number = bench.start().number
        for epoch in (1, 2, 3):
            bench.report(number, epoch, score, epochs=9)
        bench.searcher.ended(number)
    bench.close()
    ended = portfolio("a", "--to", "own.yaml")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == "a: 3 trials on data/a"
    assert read_portfolio(Path("own.yaml")).entries[0].learnt_from == ("a #2",)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("a", "--to", "own.txt"), "--to: the name of a portfolio ends in .yaml or .yml, but got own.txt"),
        (("a", "--to", "space.yaml"), "--to: only a portfolio is replaced, but space.yaml: is no portfolio"),
        (("none", "--to", "own.yaml"), "no trial of these searches has a score"),
        (("a",), "the following arguments are required: --to"),
        (("a", "--to", "own.yaml", "--encoders", "x"), "unknown flag '--encoders'"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], complaint: str) -> None:
    Path("space.yaml").write_text("space: {lr: [1, 2]}\n")
    (mistake,) = portfolio(*arguments).mistakes
    assert complaint in mistake
    assert not Path("own.yaml").exists()


def tried(data: str, miou: float, **settings: Any) -> Tried:
    usual = {"encoder_weights": "none", "optimizer": "adamw", "encoder": "resnet18", "lr": 1e-3}
    return Tried({**usual, **settings}, data, miou, 60.0, f"{data} {miou}")


def chosen(trials: list[Tried]) -> list[str]:
    return [entry.learnt_from[0] for entry in own_portfolio(trials).entries]


def test_what_is_good_everywhere_comes_first() -> None:
    trials = [
        *(tried("a", miou, lr=lr) for miou, lr in ((0.80, 1e-3), (0.82, 1e-1), (0.6, 1e-5), (0.5, 1e-6))),
        *(tried("b", miou, lr=lr) for miou, lr in ((0.40, 1e-3), (0.10, 1e-1), (0.2, 1e-5), (0.1, 1e-6))),
    ]
    assert chosen(trials)[:2] == ["a 0.8", "a 0.82"]


def test_a_score_on_another_data_set_is_predicted_from_what_is_similar() -> None:
    trials = [
        *(tried("a", miou, lr=lr) for miou, lr in ((0.80, 1e-3), (0.81, 1e-1), (0.6, 1e-5), (0.5, 1e-6))),
        *(tried("b", miou, lr=lr) for miou, lr in ((0.40, 2e-3), (0.10, 2e-1), (0.2, 2e-5), (0.1, 2e-6))),
    ]
    assert chosen(trials)[0] in ("a 0.8", "b 0.4")


def test_of_nearly_equal_configurations_the_best_is_enough() -> None:
    trials = [tried("a", miou, lr=lr) for miou, lr in ((0.8, 1e-3), (0.78, 1.01e-3), (0.795, 1e-1), (0.5, 1e-5))]
    assert chosen(trials) == ["a 0.8", "a 0.795"]


def test_pretrained_and_random_weights_both_have_entries() -> None:
    trials = [
        tried("a", miou, encoder_weights=weights, lr=lr)
        for weights, lift in (("imagenet", 0.3), ("none", 0.0))
        for miou, lr in ((0.2 + lift, 1e-3), (0.1 + lift, 1e-2), (0.15 + lift, 1e-4))
    ]
    found = [(entry.settings["encoder_weights"], entry.settings["lr"]) for entry in own_portfolio(trials).entries]
    assert found == [("imagenet", 1e-3), ("none", 1e-3)]
