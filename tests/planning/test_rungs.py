"""How many of all epochs ASHA trains."""

from __future__ import annotations

import random

import pytest

from segtune.planning.rungs import asha_share
from segtune.tuning.promotion import Promotion
from segtune.tuning.scheduler import Decision
from tests.epochs import epoch_result


@pytest.mark.parametrize(
    ("trials", "grace", "factor", "epochs"), [(60, 5, 3, 45), (16, 4, 3, 12), (9, 9, 2, 9), (30, 2, 2, 31)]
)
def test_asha_share_is_that_of_the_scheduler_on_random_scores(
    trials: int, grace: int, factor: int, epochs: int
) -> None:
    compared = [rung for rung in (grace * factor**i for i in range(9)) if rung < epochs]
    shares = [trained(random.Random(seed), trials, compared, factor, epochs) for seed in range(40)]
    share = sum(shares) / (len(shares) * trials * epochs)
    assert asha_share(trials, compared, factor, epochs) == pytest.approx(share, rel=0.08)


def trained(generator: random.Random, trials: int, compared: list[int], factor: int, epochs: int) -> int:
    """Train trials with random scores, one after another; return the number of epochs."""
    scheduler, scores, done = Promotion(compared, factor, trials), [], dict.fromkeys(range(trials), 0)

    def next_one() -> int | None:
        if (number := scheduler.promotable(last=False)) is not None:
            return number
        if len(scores) < trials:
            scores.append(generator.random())
            return len(scores) - 1
        return scheduler.promotable(last=True)

    while (number := next_one()) is not None:
        scheduler.add(number, {})
        decision = Decision.CONTINUE
        while decision is Decision.CONTINUE and done[number] < epochs:
            done[number] += 1
            decision = scheduler.decide(number, epoch_result(done[number], scores[number], epochs=epochs))
        if decision is not Decision.PAUSE:
            scheduler.ended(number, None)
    return sum(done.values())
