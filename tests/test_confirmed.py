"""What fresh seeds showed, as data and as a sentence; and who trains again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segtune.confirmed import Confirmation, Confirmed, Look, Repeated, chosen, named, sentence
from segtune.errors import InputError
from segtune.evaluation.intervals import Interval
from segtune.report.confirmation import confirmation_results, page_confirmation
from segtune.report.confirmation import test_line as line_of_test
from segtune.report.page import page
from segtune.trials import Trial, ranked
from tests.report.reports import parsed, report


def trial(number: int, miou: float | None, status: Any = "finished", **settings: Any) -> Trial:
    plain = {"epochs": 9, "encoder": f"encoder{number}", "seed": 42, "threads": 1}
    return Trial(number, status, plain | settings, epochs_done=9, miou=miou, best_epoch=9)


def repeated(number: int, mean: float, lead: tuple[float, float, float] | None = None, **others: Any) -> Repeated:
    settings = {"encoder": "resnet34", "loss": "dice+ce", "lr": 1e-3}
    plain: dict[str, Any] = {"seconds": 100.0, "searched": mean + 0.01, "settings": settings}
    scores = (mean - 0.01, mean, mean + 0.01)
    plain |= {"times": (90.0, 100.0, 110.0), "latencies": (9.0, 10.0, 11.0)}
    plain |= {"lead": Interval(*lead) if lead else None, "probability": 0.9 if lead else None}
    run = f"confirm_{number:04d}_s2"
    return Repeated(
        trial=number, seeds=(1, 2, 3), scores=scores, mean=mean, deviation=0.01, run=run, **{**plain, **others}
    )


RUNNER_UP = repeated(
    7,
    0.877,
    (0.003, -0.006, 0.012),
    times=(170.0, 180.0, 190.0),
    settings={"encoder": "resnet50", "loss": "dice+ce", "lr": 1e-3},
    gain=Interval(0.018, 0.002, 0.034),
)
BASELINE = repeated(0, 0.859, (0.021, 0.009, 0.033))
FOUND = Confirmed((repeated(12, 0.880, gain=BASELINE.lead), RUNNER_UP, BASELINE), 54, None)
TESTED = Look("DATASET/test", 20, 12, 0.86, Interval(0.86, 0.83, 0.89), 0.84, Interval(0.02, 0.01, 0.03))


def confirmation(found: Confirmed = FOUND, **others: Any) -> Confirmation:
    return Confirmation(2, 3, (0, 12, 7), 3, result=replace(found, sentence=sentence(found)), **others)


SURE = (
    "probability that the winner is better: 90.0% than the runner-up (lead +0.0030, 95%: -0.0060 to +0.0120), "
    "90.0% than the baseline (lead +0.0210, 95%: +0.0090 to +0.0330)"
)

TRIALS = [trial(0, 0.85), trial(7, 0.92), trial(12, 0.95)]


def test_the_sentence_says_what_is_better_and_what_cannot_be_told_apart() -> None:
    assert sentence(FOUND) == (
        "trial #12 (resnet34) is better than the baseline by 0.021 (95%: 0.009 to 0.033); trial #7 (resnet50) is not "
        "distinguishable from it (0.003, -0.006 to 0.012), and 1.8 times slower to train."
    )


@pytest.mark.parametrize("name", ["times", "latencies"])
@pytest.mark.parametrize("values", [(100.0, 150.0, 160.0), (115.0, 118.0, 119.0), ()])
def test_a_pace_is_not_told_where_runs_overlap_or_hardly_differ(name: str, values: tuple[float, ...]) -> None:
    pace: dict[str, Any] = {"times": (), "latencies": ()}
    winner = replace(FOUND.winner, **pace | {name: (90.0, 100.0, 110.0)})
    other = replace(RUNNER_UP, **pace | {name: values})
    assert "times" not in sentence(replace(FOUND, configurations=(winner, other, BASELINE)))


@pytest.mark.parametrize(
    ("configurations", "said"),
    [
        (
            (repeated(12, 0.88), repeated(0, 0.87, (0.01, -0.02, 0.04))),
            "trial #12 has the best mean, but is not distinguishable from the baseline (0.010, -0.020 to 0.040).",
        ),
        (
            (repeated(0, 0.88), repeated(12, 0.87, (0.01, -0.02, 0.04), latencies=(4.0, 5.0, 6.0))),
            "the baseline has the best mean over its seeds, 0.880: nothing that was tried beats it; trial #12 is not "
            "distinguishable from it (0.010, -0.020 to 0.040), and 2.0 times faster to predict.",
        ),
        (
            (
                repeated(12, 0.88),
                repeated(3, 0.8, (0.08, 0.05, 0.11), settings={"encoder": "resnet34", "loss": "dice+ce", "lr": 0.02}),
            ),
            "trial #12 (lr 0.001) has the best mean over its seeds, 0.880; the baseline could not be repeated.",
        ),
        (
            (
                repeated(12, 0.88),
                repeated(7, 0.9, (-0.02, -0.03, -0.01), fits=False),
                repeated(0, 0.89, (-0.01, -0.02, 0.0), fits=False),
            ),
            "trial #12 has the best mean over its seeds of those that keep the limits (latency < 20ms), 0.880; the "
            "baseline is over the limits, and the gain over it is -0.010 (95%: -0.020 to 0.000); trial #7 is over the "
            "limits, and the gain over it is -0.020 (95%: -0.030 to -0.010).",
        ),
        (
            (repeated(12, 0.88), repeated(0, 0.89, fits=False)),
            "trial #12 has the best mean over its seeds of those that keep the limits (latency < 20ms), 0.880; the "
            "baseline is over the limits, and has 0.890.",
        ),
        (
            (repeated(0, 0.88), repeated(12, 0.9, (-0.02, -0.03, -0.01), fits=False)),
            "the baseline has the best mean over its seeds of those that keep the limits (latency < 20ms), 0.880: "
            "nothing that was tried and keeps them beats it; trial #12 is over the limits, and the gain over it is "
            "-0.020 (95%: -0.030 to -0.010).",
        ),
    ],
    ids=["by chance", "the baseline", "without baseline", "limited", "limited, unsure", "limited baseline"],
)
def test_the_sentence_of_other_ends(configurations: tuple[Repeated, ...], said: str) -> None:
    limits = None if all(one.fits for one in configurations) else "latency < 20ms"
    assert sentence(Confirmed(configurations, 54, None, limits=limits)) == said


def test_limits_are_named_where_a_trial_over_them_did_not_train_again() -> None:
    found = Confirmed((repeated(0, 0.88), repeated(12, 0.8, (0.08, 0.05, 0.11))), 54, None, limits="latency < 20ms")
    assert sentence(found) == (
        "the baseline has the best mean over its seeds of those that keep the limits (latency < 20ms), 0.880: nothing "
        "that was tried and keeps them beats it."
    )


def test_settings_set_apart_what_a_name_says() -> None:
    assert [named(FOUND, one) for one in FOUND.configurations] == [
        "trial #12 (resnet34)",
        "trial #7 (resnet50)",
        "the baseline",
    ]


def test_the_best_trials_and_the_baseline_train_again() -> None:
    trials = [
        trial(0, 0.5),
        trial(1, 0.9, "failed"),
        trial(2, 0.7, "stopped"),
        trial(3, 0.8),
        trial(4, 0.79, encoder="encoder3", seed=7),  # the same as 3
        trial(5, 0.78, encoder="encoder0"),  # the same as the baseline
        trial(6, None),
        trial(7, 0.6, "paused"),
        replace(trial(8, 0.95), collapsed=True),
    ]
    assert chosen(trials, 9) == [0, 3, 2, 7]
    assert chosen(trials, 2) == [0, 3, 2]
    assert chosen([replace(trials[0], status="failed"), *trials[1:]], 2) == [3, 5]


def test_the_file_holds_everything(tmp_path: Path) -> None:
    whole = confirmation(failed={"confirm_0007_s3": "nan"}, tests=(TESTED, replace(TESTED, look=2)))
    whole.write(tmp_path / "confirmation.json")
    assert Confirmation.read(tmp_path / "confirmation.json") == whole
    assert Confirmation.read(tmp_path / "other.json") is None
    (tmp_path / "confirmation.json").write_text("{}")
    with pytest.raises(InputError, match=r"confirmation\.json: damaged, not a confirmation \("):
        Confirmation.read(tmp_path / "confirmation.json")


def test_the_winner_over_fresh_seeds_comes_first() -> None:
    found = Confirmed((RUNNER_UP, repeated(12, 0.8, (0.05, -0.01, 0.09)), BASELINE), 54, None)
    attached = confirmation(found).attached(TRIALS)
    assert [one.number for one in ranked(attached)] == [7, 12, 0]
    assert [one.number for one in ranked(TRIALS)] == [12, 7, 0]
    better = [*TRIALS, trial(13, 0.99)]
    assert confirmation(found).attached(better) == better  # it no longer counts


def test_the_console_says_how_sure_the_winner_is() -> None:
    _, _, *lines = confirmation_results(confirmation(tests=(TESTED,)), TRIALS)
    assert lines == [
        sentence(FOUND),
        SURE,
        "the search's own number of the winner, 0.8900, is 0.0100 above its mean over fresh seeds, since a search "
        "chooses the largest of many numbers",
        "best/ holds the model of its median seed: miou 0.8800, from confirm_0012_s2",
        line_of_test(TESTED, 12),
    ]
    assert confirmation_results(None, TRIALS) == []
    assert confirmation_results(confirmation(), [*TRIALS, trial(13, 0.99)]) == []


def test_a_look_at_the_test_tiles_is_marked_as_such() -> None:
    first, second = line_of_test(TESTED, 12), line_of_test(replace(TESTED, look=2), 12)
    assert first == (
        "test (DATASET/test, 20 tiles), looked at once, after everything else: winner 0.8600 (95%: 0.8300 to 0.8900), "
        "baseline 0.8400, gain +0.0200 (+0.0100 to +0.0300)"
    )
    assert "looked at 2 times" in second
    assert second.endswith("what was chosen after an earlier look makes this too good")


def test_the_page_has_the_gain_over_the_baseline() -> None:
    found = page_confirmation(confirmation(tests=(TESTED,)), TRIALS)
    assert found
    assert [one.gain for one in found.candidates] == [BASELINE.lead, Interval(0.018, 0.002, 0.034), None]
    assert found.sentence.startswith("Trial #12 (resnet34) is better than the baseline by 0.021")
    assert "Test (DATASET/test" in found.sentence


def test_the_page_says_what_the_console_says_of_fresh_seeds() -> None:
    found = page_confirmation(confirmation(), TRIALS)
    assert found
    assert found.sentence.endswith(f"P{SURE[1:]}.")
    *_, own, model = confirmation_results(confirmation(), TRIALS)
    assert found.lines == (f"T{str(own)[1:]}.", f"{model}.")
    text = parsed(page(replace(report(), confirmation=found))).text
    top, seeds = text.partition("Other seeds")[0], text.rpartition("Other seeds")[2]
    assert f"P{SURE[1:]}." in top
    for said in ("+0.0030 (-0.0060 to +0.0120) 90.0%", "+0.0210 (+0.0090 to +0.0330) 90.0%", *found.lines):
        assert said in seeds


def test_few_tiles_are_warned_of_on_console_and_page() -> None:
    few = confirmation(replace(FOUND, tiles=8))
    said = "arning: 8 tiles are few to make intervals of"
    found = page_confirmation(few, TRIALS)
    assert found
    for lines in (found.lines, confirmation_results(few, TRIALS)):
        assert sum(said in str(line) for line in lines) == 1
    without = confirmation(replace(FOUND, tiles=8, unsure="only one tile holds class 3"))
    assert not any(said in str(line) for line in confirmation_results(without, TRIALS))


def test_by_folds_a_line_says_why_the_searchs_own_numbers_are_missing() -> None:
    folded = replace(FOUND, folds=4, configurations=tuple(replace(one, searched=None) for one in FOUND.configurations))
    why = "they are means over folds, and these are of all tiles together"
    found = page_confirmation(confirmation(folded), TRIALS)
    assert found
    for lines in (found.lines, confirmation_results(confirmation(folded), TRIALS)):
        assert sum(why in str(line) for line in lines) == 1
    assert not any(why in str(line) for line in confirmation_results(confirmation(), TRIALS))


def test_where_intervals_cannot_be_told_the_sentence_and_the_look_say_why(tmp_path: Path) -> None:
    why = "only one tile holds class 3, so how sure its IoU is cannot be said"
    found = Confirmed((repeated(12, 0.880), repeated(7, 0.877), repeated(0, 0.859)), 54, None, unsure=why)
    look = replace(TESTED, interval=None, gain=None, objective="iou/3", unsure=why)
    assert sentence(found) == f"trial #12 has the best mean over its seeds, 0.880, and the baseline has 0.859; {why}."
    assert line_of_test(look, 12).endswith(f"winner 0.8600, baseline 0.8400; {why}")
    confirmation(found, tests=(look,)).write(tmp_path / "confirmation.json")
    assert Confirmation.read(tmp_path / "confirmation.json") == confirmation(found, tests=(look,))
    assert not any("probability" in str(line) for line in confirmation_results(confirmation(found), TRIALS))
    shown = page_confirmation(confirmation(found), TRIALS)
    assert shown
    assert why in shown.sentence


def test_a_file_of_an_earlier_release_is_of_miou(tmp_path: Path) -> None:
    path = tmp_path / "confirmation.json"
    confirmation(tests=(TESTED,)).write(path)
    plain = json.loads(path.read_text())
    for record in (plain["result"], *plain["tests"]):
        del record["objective"], record["unsure"]
    path.write_text(json.dumps(plain))
    assert Confirmation.read(path) == confirmation(tests=(TESTED,))
    assert TESTED.objective == FOUND.objective == "miou"
