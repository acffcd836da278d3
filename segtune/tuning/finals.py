"""Train trials that are scored by folds once more, on train, with the best epoch on val: so they have a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segtune.config import RunConfig
from segtune.errors import duration
from segtune.files.atomic import discard_folder
from segtune.files.folders import SearchFolder
from segtune.remarks import Say
from segtune.space.space import Space
from segtune.trials import Trial
from segtune.tuning.confirm_runs import ConfirmRuns, Ended, starter
from segtune.tuning.feed import Backend
from segtune.tuning.recovery import set_aside_damage
from segtune.tuning.repeats import RepeatRun
from segtune.tuning.retention import Retention
from segtune.tuning.stopping import Cause, EarlyEnd, Rules


class Finals:
    """Gives models to trials of one search, with their own settings and seeds.

    The folders of the runs are the only state, as in a confirmation. The runs count in the time of the search, and
    do not end with its time budget: without them it has no model.

    Parameters
    ----------
    space, folder, resolved, retention, rules, say: see `Confirming`.
    concurrent: runs at a time.
    """

    def __init__(
        self,
        space: Space,
        folder: SearchFolder,
        resolved: Callable[[RunConfig], RunConfig],
        concurrent: int,
        retention: Retention,
        rules: Rules,
        say: Say,
    ) -> None:
        self._space, self._folder, self._resolved = space, folder, resolved
        self._concurrent, self._retention, self._rules, self._say = concurrent, retention, rules, say
        self._failures: dict[str, str] = {}  # by run

    def train(self, backend: Backend, trials: Sequence[Trial]) -> Ended:
        """Train what is left, and let best/ hold the model of the winner, which is the first one."""
        runs = [RepeatRun(trial, 0, self._folder.final(trial.number)) for trial in trials]
        left = [run for run in runs if not run.done]
        for run in left:
            if damage := set_aside_damage(run.name, run.folder, run.trial.epochs + 1, "run"):
                self._say(damage)
        if left:
            self._say(f"{_named(left)} on train, to have a model: about {duration(_seconds(left))}")
            search = self._space.search
            start = starter(self._space, self._resolved)
            feed = ConfirmRuns(
                left, start, self._concurrent, search.retries, self._rules, False, lambda: None, self._ended
            )
            if (ended := feed.run_on(backend)) != Ended():
                return ended
        self._retention.update()
        for run in runs:
            run.folder.state.unlink(missing_ok=True)
        for earlier in self._folder.finals():  # of former winners
            if earlier not in [run.folder for run in runs]:
                discard_folder(earlier.best)
        reason = self._failures.get(runs[0].name) if runs else None
        return Ended(early=EarlyEnd(Cause.FAULT, reason)) if reason else Ended()

    def _ended(self, run: RepeatRun, reason: str | None) -> None:
        last = next(reversed(run.epochs()), None)
        if reason is not None:
            self._failures[run.name] = f"#{run.trial.number} has no model, since {run.name} failed: {reason}"
            self._say(self._failures[run.name])
        elif last and last.best_score is not None:
            self._say(f"{run.name}  {last.best_score:.4f} on val after {last.epoch} epochs in {duration(last.seconds)}")


def _named(runs: Sequence[RepeatRun]) -> str:
    names = ["the baseline" if run.trial.baseline else f"#{run.trial.number}" for run in runs]
    return f"{' and '.join(names)} {'trains' if len(names) == 1 else 'train'} once more"


def _seconds(runs: Sequence[RepeatRun]) -> float:
    return sum(run.expected_seconds / run.trial.folds for run in runs)
