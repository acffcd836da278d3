"""How many of all epochs ASHA trains."""

from __future__ import annotations

import random

import pytest

from segtune.planning.rungs import asha_share
from segtune.tuning.asha import Asha
from tests.epochs import epoch_result


@pytest.mark.parametrize(
    ("trials", "grace", "factor", "epochs"), [(60, 5, 3, 45), (16, 4, 3, 12), (9, 9, 2, 9), (30, 2, 2, 31)]
)
def test_asha_share_is_that_of_the_scheduler_on_random_scores(
    trials: int, grace: int, factor: int, epochs: int
) -> None:
    shares = []
    for seed in range(40):
        scheduler, generator, spent = Asha(grace, factor, epochs), random.Random(seed), 0
        for number in range(trials):
            score = generator.random()
            scheduler.add(number)
            for epoch in range(1, epochs + 1):
                spent += 1
                if scheduler.stops(number, epoch_result(epoch, score, epochs=epochs)):
                    break
        shares.append(spent / (trials * epochs))
    compared = [rung for rung in (grace * factor**i for i in range(9)) if rung < epochs]
    assert asha_share(trials, compared, factor, epochs) == pytest.approx(sum(shares) / len(shares), rel=0.08)
