"""Confirm the winner of a search: train the best trials and the baseline again with fresh seeds, and compare them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from segtune.config import RunConfig
from segtune.confirmed import Confirmation, Confirmed, Look, chosen, sentence
from segtune.data.dataset import DataInfo
from segtune.data.splits import test_place
from segtune.errors import InputError, SegtuneError, counted, duration, one_line
from segtune.evaluation.measure import Measure
from segtune.evaluation.overlap import TileCounts
from segtune.evaluation.tile_counts import read_tiles
from segtune.files.atomic import discard_folder, set_aside
from segtune.files.folders import SearchFolder
from segtune.planning.resources import Plan
from segtune.remarks import Say
from segtune.space.confirm import Confirm
from segtune.space.space import Space
from segtune.trials import Trial
from segtune.tuning.confirm_looks import groups_of, look_at, too_few_tiles
from segtune.tuning.confirm_result import compared_runs
from segtune.tuning.confirm_runs import ConfirmRuns, Ended, starter
from segtune.tuning.feed import Backend
from segtune.tuning.finals import Finals
from segtune.tuning.recovery import set_aside_damage
from segtune.tuning.repeats import RepeatRun, runs_of
from segtune.tuning.results import Results
from segtune.tuning.retention import Retention
from segtune.tuning.standing import confirm_command
from segtune.tuning.stopping import Cause, EarlyEnd, Rules

_FEWEST = 2  # finished runs of a configuration that can be compared
_TABLE_EVERY = 10  # epochs between updates of trials.csv
_MARGIN = 1.15  # times the estimated time must fit into the time that is left


@dataclass(frozen=True)
class Asked:
    """What the user asked for beside the settings of the search.

    `alone` confirms a search as it stands, without going on with it, and takes the time that it needs. `test_again`
    measures the winner on the test tiles once more. `top` and `seeds` are the numbers of a confirmation; None leaves
    them as they are.
    """

    alone: bool = False
    test_again: bool = False
    top: int | None = None
    seeds: int | None = None


AS_SET = Asked()  # nothing: the search goes on, and confirms its winner if its settings say so


class Confirming:
    """Confirms the winner of one search, as far as that is not done.

    The folders of the runs and confirmation.json are its only state: a run whose tiles.npz is there is done, and every
    other one goes on from its last epoch.

    Parameters
    ----------
    space, info: what was searched, and the scan of its data.
    folder: the folder of the search; absolute.
    resolved: fills in the settings of a run that depend on the data and the machine.
    plan: how runs share the machine.
    results, retention, rules, finals: those of the search.
    asked: what the user asked for.
    say: receives lines for the user.
    """

    def __init__(
        self,
        space: Space,
        info: DataInfo,
        folder: SearchFolder,
        resolved: Callable[[RunConfig], RunConfig],
        plan: Plan,
        results: Results,
        retention: Retention,
        rules: Rules,
        finals: Finals,
        asked: Asked,
        say: Say,
    ) -> None:
        self._space, self._info, self._folder, self._resolved = space, info, folder, resolved
        self._plan, self._results, self._retention, self._rules = plan, results, retention, rules
        self._finals, self._asked, self._say = finals, asked, say
        self._measure = Measure.named(space.search.objective, space.baseline.classes)
        self._epochs = 0

    def run(self, backend: Backend) -> Ended:
        """Train what is left, compare, and measure the winner and the baseline on the test tiles, once.

        Where time is short, what is done is compared. What goes wrong ends the confirmation, not the search.
        """
        try:
            return self._run(backend)
        except SegtuneError as error:
            reason = " ".join(str(error).split())
            return Ended(early=EarlyEnd(Cause.FAULT, f"the winner is not confirmed: {reason}"))

    def _run(self, backend: Backend) -> Ended:
        trials = self._results.trials()
        wanted = self._wanted(trials)
        confirmation = self._planned(wanted, trials) if wanted else None
        if wanted is None or confirmation is None:
            return Ended()
        self._note(confirmation)
        left = [run for run in self._runs() if not run.done and run.name not in confirmation.failed]
        for run in left:
            # A run that has all epochs but no counts needs its state, too: it goes on from there.
            if damage := set_aside_damage(run.name, run.folder, run.trial.epochs + 1, "run"):
                self._say(damage)
        ended = self._train(backend, left) if left else Ended()
        if ended.signal or (ended.early and ended.early.cause is Cause.FAULT):
            return ended
        if self._compare(wanted) and not ended.early:
            if self._space.search.folds and (ended := self._give_models(backend)) != Ended():
                return ended
            self._look_at_test(wanted)
        return ended

    def _give_models(self, backend: Backend) -> Ended:
        """Train the winner, and the baseline where there are test tiles, to have models of them."""
        result = self._confirmation.result
        assert result
        wanted = [result.winner.trial, *([0] if test_place(self._space.baseline) and result.baseline else [])]
        trials = {trial.number: trial for trial in self._results.trials()}
        return self._finals.train(backend, [trials[number] for number in dict.fromkeys(wanted)])

    @property
    def _confirmation(self) -> Confirmation:
        assert self._results.confirmation
        return self._results.confirmation

    def _runs(self) -> list[RepeatRun]:
        return list(runs_of(self._confirmation, self._results.trials(), self._folder))

    def _note(self, confirmation: Confirmation, live: Callable[[], Sequence[str]] = tuple) -> None:
        """Write the state of the confirmation, and let everybody use it."""
        confirmation.write(self._folder.confirmation)
        self._results.confirm(confirmation, live)

    # What is to be trained

    def _wanted(self, trials: Sequence[Trial]) -> Confirm | None:
        """Return what to confirm, by the settings of the search; None for nothing.

        Where they ask for nothing, --confirm does, and one that it began goes on while its trials are the best ones.
        Numbers that flags gave hold until flags give others.
        """
        before, asked, setting = self._results.confirmation, self._asked, self._space.search.confirms()
        if not (setting or asked.alone or (before and before.repeats_the_best(trials))):
            return None
        found = setting or Confirm()
        if before and (before.by_flags or not setting):
            found = replace(found, top=before.top, seeds=before.wanted)
        return replace(found, top=asked.top or found.top, seeds=asked.seeds or found.seeds)

    def _planned(self, wanted: Confirm, trials: Sequence[Trial]) -> Confirmation | None:
        """Return what is to be trained: as an earlier start decided it, where that still fits; None for nothing."""
        before, best = self._without_failures(), chosen(trials, wanted.top)
        if before is None and self._folder.confirmation.exists():
            aside = set_aside(self._folder.confirmation, f"lost_{self._folder.confirmation.name}")
            self._say(f"{self._folder.confirmation}: damaged, moved to {aside}; the runs that are done are used again")
        if reason := self._impossible(best):
            self._say(f"the winner is not confirmed: {reason}")
            return None
        same = before and (before.top, before.wanted) == (wanted.top, wanted.seeds)
        if before and same and not before.reduced and list(before.trials) == best:
            return before
        if before and same and before.reduced and before.holds(trials) and not self._asked.alone:
            return before
        by_flags = bool(self._asked.top or self._asked.seeds or (before and before.by_flags))
        whole = Confirmation(wanted.top, wanted.seeds, tuple(best), wanted.seeds, by_flags=by_flags)
        if before:
            # What was found counts until something else is: best/ holds the model of its winner.
            result = before.result if before.holds(trials) else None
            whole = replace(whole, failed=before.failed, tests=before.tests, result=result)
        return self._affordable(whole, trials)

    def _without_failures(self) -> Confirmation | None:
        """Return the state of an earlier start; a failed run whose folder is gone trains again, with --confirm all."""
        before = self._results.confirmation
        if before is None:
            return None
        kept = {} if self._asked.alone else before.failed
        failed = {name: reason for name, reason in kept.items() if (self._folder.path / name).exists()}
        return replace(before, failed=failed)

    def _impossible(self, best: Sequence[int]) -> str | None:
        """Return why nothing can be compared; None where something can."""
        if not any(number > 0 for number in best):
            return "no trial beside the baseline learnt anything"
        if len(best) < 2:
            return "there is nothing to compare it with"
        return too_few_tiles(self._resolved(self._space.baseline), self._info)

    def _affordable(self, whole: Confirmation, trials: Sequence[Trial]) -> Confirmation | None:
        """Return the largest confirmation that fits into the time that is left; None where none does."""
        left = None if self._asked.alone else self._rules.left()
        if left is None:
            return whole
        base, others = [n for n in whole.trials if n == 0], [n for n in whole.trials if n > 0]
        sizes = [(top, whole.seeds) for top in range(len(others), 0, -1)]
        for top, seeds in [*sizes, *((1, number) for number in range(whole.seeds - 1, _FEWEST - 1, -1))]:
            fewer = replace(whole, trials=(*base, *others[:top]), seeds=seeds)
            fewer = replace(fewer, reduced=(fewer.trials, seeds) != (whole.trials, whole.seeds))
            if (needed := _MARGIN * self._seconds(fewer, trials)) <= left:
                return fewer
        self._say(
            f"the winner is not confirmed: that takes up to {duration(needed)}, and "
            f"{duration(max(0.0, left))} of the time budget are left; {confirm_command(self._folder)} does it later"
        )
        return None

    def _seconds(self, confirmation: Confirmation, trials: Sequence[Trial]) -> float:
        """Estimate how long the runs take that are left, from how long their trials took."""
        runs = [run for run in runs_of(confirmation, trials, self._folder) if not run.done]
        each = [run.expected_seconds for run in runs]
        at_once = min(self._plan.concurrent, len(runs)) or 1
        return sum(each) / at_once if len(runs) % at_once == 0 else max(each) * math.ceil(len(runs) / at_once)

    # The training

    def _train(self, backend: Backend, left: Sequence[RepeatRun]) -> Ended:
        confirmation = self._confirmation
        names = ["the baseline" if number == 0 else f"#{number}" for number in confirmation.trials]
        took = duration(self._seconds(confirmation, self._results.trials()))
        self._say(
            f"confirming the winner: {', '.join(names)} train again with {counted(confirmation.seeds, 'fresh seed')} "
            f"each; {counted(len(left), 'run')} to go, about {took}"
        )
        feed = ConfirmRuns(
            left,
            starter(self._space, self._resolved, self._space.search.folds is not None),
            self._plan.concurrent,
            self._space.search.retries,
            self._rules,
            not self._asked.alone,
            self._epoch,
            self._ended,
        )
        self._results.confirm(confirmation, feed.live_names)
        try:
            ended = feed.run_on(backend)
        finally:
            self._results.confirm(self._confirmation)
            self._results.write()
        if ended != Ended():
            return ended
        if feed.out_of_time:
            waiting = sum(not run.done and run.name not in self._confirmation.failed for run in left)
            rest = f"{counted(waiting, 'run')} of the confirmation {'waits' if waiting == 1 else 'wait'}"
            reason = f"the time budget is used up, and {rest}; {confirm_command(self._folder)} goes on"
            return Ended(early=EarlyEnd(Cause.TIME, reason))
        return Ended()

    def _epoch(self) -> None:
        self._epochs += 1
        if self._epochs % _TABLE_EVERY == 0:
            self._results.write()

    def _ended(self, run: RepeatRun, reason: str | None) -> None:
        """Record the end of a run, and say so; make room where the folder is too large."""
        which = f"seed {run.seed} of {'the baseline' if run.trial.baseline else f'#{run.trial.number}'}"
        if reason is None:
            last = next(reversed(run.epochs()), None)  # none where its metrics.csv is damaged
            score = f"{last.best_score:.4f}" if last and last.best_score is not None else "  -   "
            took = f" {counted(last.epoch, 'epoch')} in {duration(last.seconds)}" if last else ""
            self._say(f"{run.name}  {score}  finished{took}  ({which})")
        else:
            failed = {**self._confirmation.failed, run.name: reason}
            confirmation = replace(self._confirmation, failed=failed)
            confirmation.write(self._folder.confirmation)
            self._results.confirmation = confirmation
            self._say(f"{run.name}  failed: {reason}  ({which})")
        self._results.write()
        if problem := self._retention.too_large():
            raise SegtuneError(problem)

    # What it showed

    def _compare(self, wanted: Confirm) -> bool:
        """Compare the configurations, let best/ hold the winner's model, and return whether there is a result."""
        runs = [run for run in self._runs() if run.done]
        counts = {run.name: _read(run) for run in runs}
        of_trial = {number: [run for run in runs if run.trial.number == number] for number in self._confirmation.trials}
        compared = {number: found for number, found in of_trial.items() if len(found) >= _FEWEST}
        if len(compared) < 2:
            waits = len(runs) + len(self._confirmation.failed) < len(self._runs())
            why = "too few runs are done" if waits else "too many runs failed"
            self._say(f"the winner is not confirmed: {why}")
            return False
        names = {tuple(names) for names, _ in counts.values()}
        if len(names) > 1:
            raise InputError(f"{self._folder.path}: the runs with fresh seeds were measured on different tiles")
        grouping = groups_of(wanted, names.pop(), self._space.baseline)
        tiles = {name: counted for name, (_, counted) in counts.items()}
        limits = self._space.search.preference
        result = compared_runs(compared, tiles, grouping, self._measure, limits.limits_text if limits else None)
        self._note(replace(self._confirmation, result=replace(result, sentence=sentence(result))))
        self._keep(result, runs)
        return True

    def _keep(self, result: Confirmed, runs: Sequence[RepeatRun]) -> None:
        """Copy the winner's model to best/, then delete what is no longer needed.

        Models stay of all runs: if more seeds are added, another one is the median. Where `disk_gb` is short, they stay
        of all seeds of the winner, and of the median seed of the others.
        """
        medians = {one.run for one in result.configurations}
        self._retention.update()
        for run in runs:
            run.folder.state.unlink(missing_ok=True)
        spare = [run for run in runs if run.name not in medians and run.trial.number != result.winner.trial]
        while (problem := self._retention.too_large()) and spare:
            discard_folder(spare.pop().folder.best)
        if line := self._retention.without_model():
            place = self._folder.path / result.winner.run
            self._say(f"{line}; to train it again, delete {place} and type {confirm_command(self._folder)}")
        if problem:
            raise SegtuneError(problem)

    def _look_at_test(self, wanted: Confirm) -> None:
        """Measure the winner and the baseline on the test tiles: once, unless the user asks for another look."""
        confirmation, place = self._confirmation, test_place(self._space.baseline)
        result = confirmation.result
        assert result
        if place is None:
            return
        known = max(self._results.looks(), confirmation.tests, key=len)
        if known and not self._asked.test_again:
            self._note_looks(known)
            if known[-1].winner != result.winner.trial:
                self._say(
                    f"{place}: was looked at before, for another winner; --test-again looks again, and the number is "
                    f"then no longer that of tiles that played no part"
                )
            return
        device = self._space.baseline.device if self._plan.gpus_per_trial else "cpu"
        try:
            tested = look_at(place, result, wanted, self._folder, device)
        except (SegtuneError, OSError) as error:
            self._say(f"{place}: the winner is not measured there: {one_line(error)}")
            return
        self._note_looks((*known, replace(tested, look=len(known) + 1)))

    def _note_looks(self, looks: tuple[Look, ...]) -> None:
        """Record the looks at the test tiles, in the study as well: confirmation.json may get lost."""
        self._results.note_looks(looks)
        if looks != self._confirmation.tests:
            self._note(replace(self._confirmation, tests=looks))


def _read(run: RepeatRun) -> tuple[list[str], TileCounts]:
    try:
        return read_tiles(run.folder.tiles)
    except InputError as error:
        raise InputError(f"{error}; delete {run.folder.path}, and run_search.py --confirm trains it again") from None
