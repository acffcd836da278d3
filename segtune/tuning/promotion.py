"""Asynchronous successive halving with promotion: trials pause at rungs, and the best of them go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import TrialState

from segtune.errors import counted
from segtune.planning.rungs import rungs
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.tuning.scheduler import Decision
from segtune.tuning.study import PAUSED, WARM_START, begun, budget_of, note_pause

_BASELINE = 0
_SPARE = 10  # paused trials that a rung keeps below its places: each has its model and state on disk
_PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth"}


@dataclass
class Rung:
    """The trials that reached a number of epochs, and those of them that are paused there."""

    epochs: int
    scores: dict[int, float] = field(default_factory=dict)  # by trial: its best score after that many epochs
    paused: set[int] = field(default_factory=set)

    def ranking(self) -> list[int]:
        """Return the trials, best first; of equal ones, the earlier comes first."""
        return sorted(self.scores, key=lambda number: (-self.scores[number], number))

    def waiting(self) -> list[int]:
        """Return the paused trials, worst first."""
        return [number for number in reversed(self.ranking()) if number in self.paused] if self.paused else []


@dataclass
class Standings:
    """How trials compare with each other."""

    factor: int  # one in so many goes on
    rungs: tuple[Rung, ...]  # the lowest first
    exempt: int | None = None  # a trial that is compared but never pauses
    curves: dict[int, dict[int, float]] = field(default_factory=dict)  # by trial: its best score so far, by epoch


def promotable(standings: Standings, least: int = 0) -> int | None:
    """Return the paused trial that goes on next; None if none of them is worth it.

    It is among the best 1/factor of those that reached its rung, or among the best `least` of those that can pause. The
    highest rung comes first, then the best score (Li et al. 2020, arXiv:1810.05934, algorithm 2).
    """
    for rung in reversed(standings.rungs):
        if rung.paused:
            ranking = rung.ranking()
            best = ranking[: len(ranking) // standings.factor]
            best += [number for number in ranking if number != standings.exempt][:least]
            if found := [number for number in best if number in rung.paused]:
                return found[0]
    return None


Choose = Callable[[Standings, int], int | None]


class Promotion:
    """Asynchronous successive halving in which trials pause, and only promotion lets them go on.

    All state follows from the scores of the trials by epoch and from what runs: a search that continues has the same
    standings. Rungs count epochs, not seconds: a large encoder is compared with what others had reached after as many
    epochs, however long they take. A trial without a score is not compared.

    Parameters
    ----------
    epochs: the rungs, in order; the budget of a trial is not among them.
    factor: one in so many goes on from a rung.
    trials: how many the search will have; a paused trial that can no longer be among the best is stopped.
    late_baseline: whether the baseline, trial 0, pauses like others, and goes on at the latest when nothing else is
        left; otherwise it never pauses.
    choose: picks the paused trial that goes on; see `promotable`.
    """

    def __init__(
        self,
        epochs: Sequence[int],
        factor: int,
        trials: int,
        late_baseline: bool = False,
        choose: Choose = promotable,
    ) -> None:
        exempt = None if late_baseline else _BASELINE
        self.standings = Standings(factor, tuple(Rung(each) for each in epochs), exempt)
        self._trials, self._choose = trials, choose
        self._unfinished: set[int] = set()
        self._since: dict[int, int] = {}  # by trial: its epochs when it was last let go on

    @property
    def paused(self) -> Sequence[int]:
        """The trials that wait at a rung, from the worst at the lowest rung to the best at the highest."""
        return [number for rung in self.standings.rungs for number in rung.waiting()]

    def add(self, number: int, values: Mapping[int, float]) -> None:
        """Begin to compare a trial, or let it go on."""
        self._learn(number, values)
        self._leave(number)
        self._unfinished.add(number)
        self._since[number] = max(self.standings.curves[number], default=0)

    def decide(self, number: int, result: EpochResult) -> Decision:
        """Record an epoch of a trial, and decide whether it goes on.

        It goes on if a free slot would go to this very trial.
        """
        if result.best_score is not None:
            self._learn(number, {result.epoch: result.best_score})
        if result.epoch <= self._since[number] or self.pause(number, {}, result.epochs) is None:
            return Decision.CONTINUE
        if self.promotable(last=False) == number:
            self.add(number, {})
            return Decision.CONTINUE
        return Decision.STOP if number in self.hopeless() else Decision.PAUSE

    def pause(self, number: int, values: Mapping[int, float], budget: int) -> int | None:
        """Let a trial wait at the rung where it is, if its last epoch is the one in which it is compared there.

        A trial that has used its budget does not wait, and is still compared.
        """
        self._learn(number, values)
        self._unfinished.add(number)
        curve = self.standings.curves[number]
        reached = [rung for rung in self.standings.rungs if number in rung.scores]
        last = max(curve, default=0)
        if not reached or number == self.standings.exempt or not self._since.get(number, 0) < last < budget:
            return None
        if last > min(epoch for epoch in curve if epoch >= reached[-1].epochs):
            return None
        reached[-1].paused.add(number)
        return last

    def ended(self, number: int, last: EpochResult | None) -> None:
        """Record the end of a trial."""
        self._learn(number, {last.epoch: last.best_score} if last and last.best_score is not None else {})
        self._leave(number)
        self._unfinished.discard(number)

    def promotable(self, last: bool) -> int | None:
        """Return the paused trial that is to go on; at the very end at least the best one of each rung that can pause.

        The baseline goes on before these: every search is compared with it.
        """
        number = self._choose(self.standings, 0)
        if number is None and last:
            number = _BASELINE if _BASELINE in self.paused else self._choose(self.standings, 1)
        return number

    def hopeless(self) -> list[int]:
        """Return the paused trials below the places from which trials can go on, when all that may come have come.

        So are those far below the places of now. To go on, they would have to be better than nearly all of the next 30.
        """
        to_come = max(0, self._trials - len(self.standings.curves))
        found = []
        for rung in self.standings.rungs:
            if rung.paused:
                most = len(rung.scores) + to_come + len(self._unfinished - rung.scores.keys())
                # The best trial that can pause goes on in the end; a baseline that cannot may be before it.
                places = max(2, most // self.standings.factor)
                beyond = rung.ranking()[min(places, len(rung.scores) // self.standings.factor + _SPARE) :]
                found += [number for number in reversed(beyond) if number in rung.paused and number != _BASELINE]
        return found

    def why(self, number: int) -> str | None:
        """Return why a trial does not go on."""
        reached = [rung for rung in self.standings.rungs if number in rung.scores]
        if not reached:
            return None
        part = _PARTS.get(self.standings.factor, f"1/{self.standings.factor}")
        epochs = min(epoch for epoch in self.standings.curves[number] if epoch >= reached[-1].epochs)
        return f"after epoch {epochs} not among the best {part} of {counted(len(reached[-1].scores), 'trial')}"

    def _learn(self, number: int, values: Mapping[int, float]) -> None:
        """Add scores to a trial's curve; what is known of an epoch stays, since an epoch may be trained again."""
        curve = self.standings.curves.setdefault(number, {})
        for epoch, value in sorted(values.items()):
            curve.setdefault(epoch, value)
            for rung in self.standings.rungs:
                if epoch >= rung.epochs:
                    rung.scores.setdefault(number, value)

    def _leave(self, number: int) -> None:
        for rung in self.standings.rungs:
            rung.paused.discard(number)


def make_promotion(
    space: Space, study: optuna.Study, late_baseline: bool = False, choose: Choose = promotable
) -> Promotion | None:
    """Make the scheduler of a space, with the standings of the study's trials; None where the space asks for none.

    An unfinished trial whose last epoch is at a rung waits there, also if the search was killed before it could say so.
    """
    if space.search.scheduler == "none":
        return None
    *compared, _ = rungs(space)
    made = Promotion(compared, space.search.reduction_factor, space.trials(), late_baseline, choose)
    for trial in study.get_trials(deepcopy=False):
        if WARM_START in trial.user_attrs or not begun(trial):
            continue
        epochs = made.pause(trial.number, trial.intermediate_values, budget_of(trial))
        if trial.state is not TrialState.WAITING:
            made.add(trial.number, {})  # also those that ended
        elif epochs is not None and trial.user_attrs.get(PAUSED) != epochs:
            note_pause(study, trial, epochs)
        if trial.state.is_finished():
            made.ended(trial.number, None)
    return made
