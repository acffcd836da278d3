"""Propose the next trial to begin: an enqueued one, the next planned one, or what the grid or the sampler has."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.fields import OF_THE_MACHINE
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.transforms_file import TransformsFile
from segtune.models.weights import weights_file
from segtune.space.space import Space
from segtune.trials import Origin
from segtune.tuning.points import FromTrial, encode, signature
from segtune.tuning.sampler import SpaceSampler
from segtune.tuning.study import FOLDS, ORIGIN, WARM_START, ask, begun, enqueue, origin_of, waiting

_PLANNED = "planned"  # user attribute of the study: the planned trials, each as [origin, point]


@dataclass(frozen=True)
class TrialStart:
    """A trial that starts or continues."""

    number: int
    config: RunConfig  # drawn, checked and resolved: what is trained
    path: Path  # its folder
    asked: float = field(default_factory=time.time)  # when, in seconds of the clock
    transforms: TransformsFile | None = None  # the file that `augmentation` names, as the search read it
    folded: bool = False  # it trains once for each fold
    counts_tiles: bool = False  # at its end, write what its best model counts on each validation tile

    @property
    def folder(self) -> RunFolder:
        """Return the trial's folder."""
        return RunFolder(self.path)


@dataclass(frozen=True)
class Planned:
    """A point of the space that a new search tries after the baseline, before the sampler draws one."""

    origin: Origin
    point: Mapping[str, Any]  # {key: value}


class Proposals:
    """Asks the study for trials, and resolves the run of each.

    The planned points are recorded in the study before its first trial, and each one is enqueued when its turn comes.
    So a search that is killed at any moment goes on with the same points, and one of a former release gets none.

    Parameters
    ----------
    study: the Optuna study; its trial 0 is the baseline.
    space: where settings are drawn from.
    folder: the search's folder, which names each trial's own.
    resolve: fills in the settings that depend on the data.
    planned: what a new search tries after the baseline and the expected values of `prior:`, in this order; a grid has
        no such points.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        folder: SearchFolder,
        resolve: Callable[[RunConfig], RunConfig],
        planned: Sequence[Planned] = (),
    ) -> None:
        self._study, self._space, self._folder, self._resolve = study, space, folder, resolve
        self._grid: Iterator[dict[str, Any]] | None = space.grid() if space.search.sampler == "grid" else None
        self.exhausted = False  # every point was tried before there were as many trials as requested
        if not study.get_trials(deepcopy=False):
            planned = [*_expected(space, study.sampler), *planned]
            study.set_user_attr(_PLANNED, [[first.origin, encode(first.point)] for first in planned])
            self._enqueue_baseline()

    def next(self, enough: Callable[[], bool]) -> optuna.Trial | None:
        """Return the next trial, an enqueued one before a new one; None where no new one is left.

        `enough` says whether there are as many trials as requested.
        """
        if all(begun(trial) for trial in waiting(self._study)):
            if enough():
                return None
            if self._grid is not None:
                point = self._next_point(self._grid)
                if point is None:
                    return None
                enqueue(self._study, point, "grid")
            elif planned := self._next_planned():
                enqueue(self._study, planned.point, planned.origin)
            elif isinstance(self._study.sampler, SpaceSampler) and self._study.sampler.exhausted(self._study):
                self.exhausted = True
                return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return ask(self._study)

    def start(self, trial: optuna.Trial) -> TrialStart:
        """Draw, check, resolve and record a trial's settings; raise InputError where they do not go together."""
        kept = trial.user_attrs.get("settings")
        if kept is not None:
            settings = self._moved(kept, trial.number)
            trial.set_user_attr("settings", settings)
            config = RunConfig.from_settings(settings)
        else:
            if ORIGIN not in trial.user_attrs:  # before its parameters: a killed search draws only those it lacks
                trial.set_user_attr(ORIGIN, self._drawn_origin(trial))
            drawn = self._space.baseline.settings() if trial.number == 0 else {}
            if trial.number > 0 or self._space.locate(drawn) is not None:
                drawn |= self._space.draw(FromTrial(trial))
            try:
                config = self._resolve(RunConfig.from_settings(drawn))
            except InputError:
                trial.set_user_attr("settings", RunConfig.from_settings({}).settings() | drawn)
                raise
            trial.set_user_attr("settings", config.settings())
            if self._space.search.folds:
                trial.set_user_attr(FOLDS, self._space.search.folds)
        path, transforms = self._folder.trial(trial.number).path, self._space.transforms_of(config.augmentation)
        folded = self._space.search.folds is not None
        return TrialStart(trial.number, config, path, transforms=transforms, folded=folded)

    def _drawn_origin(self, trial: optuna.Trial) -> Origin:
        """Let the sampler draw a trial that was not enqueued, and return why it was tried."""
        drawn = bool(trial.relative_params)
        around_prior = drawn and trial.number == getattr(self._study.sampler, "latest_around_prior", None)
        return "prior" if around_prior else origin_of(trial, self._grid is not None)

    def _next_point(self, grid: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
        trials = self._study.get_trials(deepcopy=False)
        known = {signature(trial.params) for trial in trials if WARM_START not in trial.user_attrs}
        return next((point for point in map(encode, grid) if signature(point) not in known), None)

    def _next_planned(self) -> Planned | None:
        """Return the first planned point that no trial has tried, those of a warm start included."""
        known = {signature(trial.params) for trial in self._study.get_trials(deepcopy=False)}
        planned = (Planned(origin, point) for origin, point in self._study.user_attrs.get(_PLANNED, ()))
        return next((one for one in planned if signature(one.point) not in known), None)

    def _moved(self, settings: dict[str, Any], number: int) -> dict[str, Any]:
        """Return a trial's settings with the data paths and the machine of this start, which may differ from before."""
        return moved(settings, self._space, self._resolve, self._folder.trial(number))

    def _enqueue_baseline(self) -> None:
        point = self._space.locate(self._space.baseline.settings())
        # Outside the space, the first trial has no parameters in the study: the sampler learns nothing from it.
        enqueue(self._study, encode(point or {}), "baseline")


def moved(
    settings: dict[str, Any], space: Space, resolve: Callable[[RunConfig], RunConfig], run: RunFolder
) -> dict[str, Any]:
    """Return a trial's settings with the data paths and the machine of this start, for a run in a folder."""
    here = resolve(space.baseline).settings()
    found = settings | {name: here[name] for name in (*OF_THE_MACHINE, "class_names")}
    found |= {"threads": here["threads"]} if space.baseline.threads else {}
    if not run.state.is_file():  # else it goes on with the weights in its state
        known = (*space.values_of("encoder_weights"), space.baseline.encoder_weights)
        found["encoder_weights"] = _found_again(settings["encoder_weights"], known)
    return found


def _expected(space: Space, sampler: BaseSampler) -> list[Planned]:
    """Return the point that `prior:` expects to be good, if there is one and it can be run."""
    point = space.prior_point()
    impossible = point is None or (isinstance(sampler, SpaceSampler) and not sampler.allows(encode(point)))
    return [] if point is None or impossible else [Planned("prior", point)]


def _found_again(kept: str, known: Iterable[str]) -> str:
    """Return where a trial's file of initial weights is now, found in the space by its name and relative path."""
    file = weights_file(kept)
    if file is None or file.is_file():
        return kept
    same = [path for path in map(weights_file, known) if path is not None and path.name == file.name]
    return str(max(same, key=lambda path: kept.endswith(f"{os.sep}{path}"), default=file).absolute())
