"""Keep the winner's model and the best trials' weights on disk, and delete the others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from segtune.files.atomic import MODEL_FILES, discard_folder, recover_folder, replaced_folder
from segtune.files.checks import folder_bytes
from segtune.files.folders import RunFolder, SearchFolder
from segtune.models.card import write_card
from segtune.models.checkpoint import model_score
from segtune.space.settings import SearchSettings
from segtune.trials import Trial, by_score, front, ranked
from segtune.tuning.results import Results

_COPY_PAUSE = 20.0  # pause between two copies while trials run, as a multiple of the time that the last copy took


class Retention:
    """The winner's model in best/, and the trials' weights, kept current on disk while the search runs."""

    def __init__(self, results: Results, folder: SearchFolder, search: SearchSettings) -> None:
        self._results, self._folder, self._search = results, folder, search
        self._kept: tuple[int, float] | None = None  # number and score of the trial whose model best/ holds
        self._copy_at = 0.0  # by time.monotonic(): no copy before, while trials run

    def update(self) -> None:
        """Bring trials.csv, the winner in best/ and the kept weights up to date."""
        trials = self._results.write()
        order = ranked(trials)
        self._keep_winner(order)
        self._write_card(order)
        # By the search's own numbers: those of the best ones are needed again where a confirmation no longer counts.
        best = [trial for trial in by_score(trials) if trial.ended][: self._search.keep]
        # Another preference may choose one of the front.
        others = front(trials, self._search.costs) if self._search.costs else []
        kept = {trial.number for trial in (*order[:1], *best, *others)}
        for trial in trials:
            if trial.ended:
                _discard(self._folder.trial(trial.number), weights=trial.number not in kept)

    def too_large(self) -> str | None:
        """Delete the worst weights while the folder exceeds `disk_gb`; return why that is not enough, or None."""
        limit = self._search.disk_gb
        if limit is None:
            return None
        spare = [
            folder
            for trial in reversed(ranked(self._results.trials()))
            if trial.ended
            and (folder := self._folder.trial(trial.number)).best.exists()
            and not folder.path.is_symlink()
        ]
        while (size := folder_bytes(self._folder.path)) > limit * 1e9:
            if not spare:
                took = f"{self._folder.path} takes {size / 1e9:.2g} GB, more than {limit:g}"
                return f"disk_gb: {took}, and nothing is left to delete"
            # The search's best/ holds a copy of the winner's model by now.
            discard_folder(spare.pop(0).best)
        return None

    def follow(self, score: float) -> None:
        """Update best/ if a running trial may be the best with this score; limit the share of time spent on copying."""
        if self._search.folds or time.monotonic() < self._copy_at or (self._kept and score <= self._kept[1]):
            return
        start = time.monotonic()
        self._keep_winner(ranked(self._results.trials()))
        self._copy_at = time.monotonic() + _COPY_PAUSE * (time.monotonic() - start)

    def without_model(self) -> str | None:
        """Return a line if best/ does not hold the winner's model because that is gone; None otherwise."""
        if self._search.folds:  # the winner trains once more for it, and what that lacks is told there
            return None
        order, best = ranked(self._results.trials()), self._folder.best
        if not order or self._kept == self._kept_of(order[0]) or model_score(best) == self._kept_of(order[0])[1]:
            return None
        what = "is of another trial" if best.is_dir() else "is missing"
        return f"{best}: {what}; the best trial, #{order[0].number}, no longer has a model"

    def _keep_winner(self, order: Sequence[Trial]) -> None:
        """Copy the winner's model to the search's best/; called before anything of another trial is deleted."""
        if not order or self._kept == self._kept_of(order[0]):
            return
        winner, run = order[0], self._folder.trial(order[0].number)
        if winner.confirmed:
            run = RunFolder(self._folder.path / winner.confirmed.run)
        elif self._search.folds:
            run = self._folder.final(winner.number)
        ended = winner.ended or winner.confirmed is not None
        if ended or not run.held():
            recover_folder(run.best)
        if not run.best.is_dir() or (self._search.folds and not run.tiles.is_file()):
            return
        try:
            with replaced_folder(self._folder.best) as temporary:
                _copy_model(run.best, temporary, None if ended else winner.score)
        except _ReplacedError:
            return  # the study will be told of the better one
        self._kept = self._kept_of(winner)

    def _kept_of(self, winner: Trial) -> tuple[int, float]:
        """Return the number of the winner, and the score of the model that best/ holds of it."""
        if self._search.folds:
            return winner.number, model_score(self._folder.final(winner.number).best) or -1.0
        return winner.number, winner.confirmed.score if winner.confirmed else winner.score or 0.0

    def _write_card(self, order: Sequence[Trial]) -> None:
        """Say in the winner's card of how many trials it is the best: its own run knew of no other."""
        again = bool(order) and order[0].confirmed is not None and not self._search.folds
        fresh_seed = again and self._kept == self._kept_of(order[0])
        if self._folder.best.is_dir() and model_score(self._folder.best) is not None:
            write_card(self._folder.best, len(order), fresh_seed)


class _ReplacedError(Exception):
    """A running trial replaced its model while it was being copied."""


def _copy_model(source: Path, target: Path, score: float | None) -> None:
    """Copy a model's files; raise _ReplacedError unless all belong to the model with this score, where one is given.

    Models in a trial's best/ only get better: if the score is the same before and after, all copied files belong to it.
    """
    try:
        before = score if score is None else model_score(source)
        for name in MODEL_FILES:
            if (source / name).exists():
                shutil.copyfile(source / name, target / name)
        after = score if score is None else model_score(source)
    except FileNotFoundError:
        raise _ReplacedError from None
    if not before == after == score:
        raise _ReplacedError


def _discard(folder: RunFolder, weights: bool) -> None:
    """Delete what an ended trial no longer needs: its state, and its weights unless they are kept.

    A folder that is a link is left alone: it leads to a run elsewhere.
    """
    if folder.path.is_symlink():
        return
    for run in (folder, *folder.folds()):
        run.state.unlink(missing_ok=True)
    for run in (*([folder] if weights else []), *folder.folds()):
        discard_folder(run.best)
