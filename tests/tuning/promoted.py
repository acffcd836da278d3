"""Searches with promotion in memory, with one worker; they can be killed before any write to the study."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from segtune.files.folders import SearchFolder
from segtune.space.space import Space
from segtune.tuning.promotion import make_promotion
from segtune.tuning.proposals import Planned, Proposals
from segtune.tuning.sampler import build_sampler
from segtune.tuning.scheduler import Decision, Scheduler
from segtune.tuning.searcher import Searcher
from segtune.tuning.stopping import Rules
from segtune.tuning.study import NOTE, ORIGIN, PAUSED, is_paused, wait
from tests.epochs import epoch_result

EPOCHS = 9  # rungs after 1 and 3 epochs
SPACE = """
run: {epochs: 9, model: unet, batch_size: 4}
space: {lr: [1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4, 8e-4, 9e-4, 1e-3, 2e-3, 3e-3]}
baseline: {lr: 1e-4}
search: {sampler: grid, trials: 10, grace_period: 1, reduction_factor: 3}
"""
BUDGETS = """
run: {model: unet, batch_size: 4}
space: {lr: [1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4], epochs: [3, 9]}
baseline: {lr: 1e-4, epochs: 9}
search: {sampler: grid, trials: 12, grace_period: 1, reduction_factor: 3}
"""
DRAWN = """
run: {epochs: 9, model: unet, batch_size: 4}
space:
  lr: {low: 1e-5, high: 1e-1, log: true}
  optimizer: [adamw, adam]
  weight_decay: {low: 1e-6, high: 0.1, log: true}
baseline: {lr: 1e-4, optimizer: adamw, weight_decay: 0.01}
prior: {lr: 3e-4}
search: {sampler: tpe, trials: 9, grace_period: 1, reduction_factor: 3}
"""
PLANNED = (
    Planned("portfolio", {"lr": 1e-3, "optimizer": "adam", "weight_decay": 1e-3}),
    Planned("portfolio", {"lr": 2e-3, "optimizer": "adamw", "weight_decay": 1e-4}),
)
Compared = Callable[[Space, optuna.Study], Scheduler | None]


class KilledError(BaseException):
    """Ends the search as kill -9 would: whatever is not in the study or on disk is lost."""


class Stored(optuna.storages.InMemoryStorage):
    """A storage that counts what is written to it, and kills the search before a given write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes, self.kill_at = 0, -1

    def _count(self) -> None:
        self.writes += 1
        if self.writes == self.kill_at:
            raise KilledError

    def create_new_trial(self, *given: Any, **named: Any) -> int:
        self._count()
        return super().create_new_trial(*given, **named)

    def set_trial_param(self, *given: Any, **named: Any) -> None:
        self._count()
        super().set_trial_param(*given, **named)

    def set_trial_state_values(self, *given: Any, **named: Any) -> bool:
        self._count()
        return super().set_trial_state_values(*given, **named)

    def set_trial_intermediate_value(self, *given: Any, **named: Any) -> None:
        self._count()
        super().set_trial_intermediate_value(*given, **named)

    def set_trial_user_attr(self, *given: Any, **named: Any) -> None:
        self._count()
        super().set_trial_user_attr(*given, **named)


def curve(lr: float) -> list[float]:
    """Return the best mIoU so far by epoch of a trial with this learning rate; curves cross."""
    generator = random.Random(repr((26, lr)))
    scores, best = [], generator.uniform(0.1, 0.5)
    for _ in range(EPOCHS):
        best += generator.uniform(0, 0.1)
        scores.append(round(best, 3))
    return scores


@dataclass
class Search:
    """A search with one worker whose trials look their scores up; what it trained outlives its kills."""

    space: Space
    compared: Compared = make_promotion
    planned: Sequence[Planned] = ()
    storage: Stored = field(default_factory=Stored)
    trained: list[tuple[int, float, int]] = field(default_factory=list)  # trial, lr, epoch: as on disk
    begun: list[int] = field(default_factory=list)  # the trial of every start

    def __post_init__(self) -> None:
        self.study = optuna.create_study(storage=self.storage, study_name="s", direction="maximize")

    def run(self, stop: Callable[[Searcher], bool] = lambda searcher: False) -> Searcher:
        """Start the search, or continue it, as run_search.py does; `stop` interrupts it after an epoch."""
        self._reconcile()
        self.study.sampler = build_sampler(self.space)
        proposals = Proposals(self.study, self.space, SearchFolder(Path("none")), lambda config: config, self.planned)
        scheduler = self.compared(self.space, self.study)
        rules = Rules(self.space.with_search({"trials": self.space.trials()}).search, self.study)
        searcher = Searcher(self.study, SearchFolder(Path("none")), proposals, 1, 0, scheduler, rules, Unheard())
        while start := searcher.next_trial():
            self.begun.append(start.number)
            budget = start.config.epochs
            for epoch in range(self.done(start.number) + 1, budget + 1):
                value = curve(start.config.lr)[epoch - 1]
                self.trained.append((start.number, start.config.lr, epoch))
                result = epoch_result(epoch, value, epochs=budget)
                decision = searcher.epoch(start.number, result)
                if stop(searcher):
                    searcher.interrupt()
                if decision is not Decision.CONTINUE or searcher.interrupted:
                    break
            else:
                if self.done(start.number) == budget:  # a trial with no epoch left yields its last one again
                    last = curve(start.config.lr)[budget - 1]
                    searcher.epoch(start.number, epoch_result(budget, last, epochs=budget))
            searcher.ended(start.number)
        assert searcher.error is None
        return searcher

    def done(self, number: int) -> int:
        return max((epoch for trial, _, epoch in self.trained if trial == number), default=0)

    def _reconcile(self) -> None:
        """Do to the study what `reconcile` does with the folders of trials."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state is TrialState.RUNNING:
                wait(self.study, trial._trial_id)
            for number, lr, epoch in self.trained:
                if number == trial.number and not trial.state.is_finished() and epoch not in trial.intermediate_values:
                    self.storage.set_trial_intermediate_value(trial._trial_id, epoch, curve(lr)[epoch - 1])

    def history(self) -> tuple[Any, ...]:
        trials = self.study.get_trials(deepcopy=False)
        kept = ("settings", NOTE, ORIGIN)
        return self.trained, [(t.state, t.params, t.intermediate_values, *map(t.user_attrs.get, kept)) for t in trials]

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.get_trials(deepcopy=False)]

    def paused(self) -> dict[int, int]:
        trials = self.study.get_trials(deepcopy=False)
        return {trial.number: trial.user_attrs[PAUSED] for trial in trials if is_paused(trial)}


class Unheard:
    def epoch(self, number: int, result: Any) -> None:
        pass

    def ended(self, number: int) -> None:
        pass

    def repeated(self, number: int, reason: str) -> None:
        pass
