"""Give the runs of a confirmation to a backend, and record how they end; the search's sampler never learns of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.machine import signals_noted
from segtune.space.space import Space
from segtune.training.result import EpochResult
from segtune.tuning.failures import LOST, Failure, Fault
from segtune.tuning.feed import Backend, OrderlyEnd
from segtune.tuning.proposals import TrialStart, moved
from segtune.tuning.repeats import RepeatRun
from segtune.tuning.scheduler import Decision
from segtune.tuning.stopping import Cause, EarlyEnd, Rules

_NOTE_EVERY_S = 30.0  # seconds between records of the time spent

Start = Callable[[RepeatRun, int], TrialStart]  # a run and its number -> what is trained
OnEpoch = Callable[[], object]
OnEnd = Callable[[RepeatRun, "str | None"], object]  # a run and why it failed; None where it is done


@dataclass(frozen=True)
class Ended:
    """How runs ended before their end: by a signal, or for a reason; both None where they are complete."""

    signal: int | None = None
    early: EarlyEnd | None = None


def starter(space: Space, resolved: Callable[[RunConfig], RunConfig], folded: bool = False) -> Start:
    """Return what prepares a run of a search: with the data paths and the machine of this start.

    Parameters
    ----------
    space: what was searched.
    resolved: fills in the settings of a run that depend on the data and the machine.
    folded: the runs train once for each fold.
    """

    def start(run: RepeatRun, number: int) -> TrialStart:
        config = RunConfig.from_settings(moved(dict(run.settings), space, resolved, run.folder))
        transforms = space.transforms_of(config.augmentation)
        return TrialStart(number, config, run.folder.path, transforms=transforms, folded=folded, counts_tiles=True)

    return start


class ConfirmRuns(OrderlyEnd):
    """The runs that are left of a confirmation, as a backend asks for them. They train to the end, whatever they reach.

    Parameters
    ----------
    runs: in the order in which they start.
    start: prepares one; it may raise InputError.
    concurrent: runs at a time.
    retries: how often a run is repeated after a failure that its settings did not cause.
    rules: keeps the time; the runs count in the time of the search.
    limited: end when the search's time budget is used up.
    on_epoch, on_end: who is told.
    """

    def __init__(
        self,
        runs: Sequence[RepeatRun],
        start: Start,
        concurrent: int,
        retries: int,
        rules: Rules,
        limited: bool,
        on_epoch: OnEpoch,
        on_end: OnEnd,
    ) -> None:
        super().__init__()
        self._runs, self._start = list(runs), start
        self._concurrent, self._retries = concurrent, retries
        self._rules, self._limited = rules, limited
        self._on_epoch, self._on_end = on_epoch, on_end
        self._waiting = list(range(len(self._runs)))
        self._live: set[int] = set()
        self._repeats: Counter[int] = Counter()
        self.out_of_time = False

    @property
    def live(self) -> frozenset[int]:
        """The numbers of the runs that were started and have not ended."""
        return frozenset(self._live)

    def live_names(self) -> list[str]:
        """Return the names of the runs that run now."""
        return [self._runs[number].name for number in self._live]

    def next_trial(self) -> TrialStart | None:
        """Return the next run to start; None for "not now" or "no more"."""
        self.poll()
        with self.guarded():
            while self._waiting and not self.interrupted and len(self._live) < self._concurrent:
                number = self._waiting.pop(0)
                try:
                    start = self._start(self._runs[number], number)
                except InputError as error:
                    self._on_end(self._runs[number], error.mistakes[0])
                    continue
                self._live.add(number)
                return start
        return None

    def epoch(self, number: int, result: EpochResult) -> Decision:
        """Take note of an epoch; every run uses its whole budget."""
        with self.guarded():
            if number in self._live:
                self._on_epoch()
        return Decision.CONTINUE

    def ended(self, number: int, failure: Failure | None = None) -> None:
        """Record that a run no longer runs: it is done, it failed, or it waits."""
        with self.guarded():
            if number in self._live:
                self._live.discard(number)
                self._rules.note_time()
                self._ended(number, failure)

    def poll(self) -> None:
        """Note the time spent, now and then; end when the time budget is used up."""
        with self.guarded():
            self._rules.note_time(_NOTE_EVERY_S)
            if self._limited and self._rules.out_of_time():
                self.out_of_time = True
                self.interrupt()

    def run_on(self, backend: Backend) -> Ended:
        """Train the runs; raise what kept a record from being written."""
        with signals_noted(self.interrupt) as caught:
            try:
                backend.run(self)
            finally:
                self._rules.note_time()
        if self.error:
            raise self.error
        if caught:
            return Ended(signal=caught[0])
        return Ended(early=EarlyEnd(Cause.FAULT, self.fault)) if self.fault else Ended()

    def _ended(self, number: int, failure: Failure | None) -> None:
        run = self._runs[number]
        if run.done:
            self._on_end(run, None)
            return
        if self.interrupted and (failure is None or failure.fault in (Fault.TRANSIENT, Fault.PLACE)):
            return  # it waits
        failure = failure or Failure(LOST)
        again = self._repeats[number] < self._retries
        transient = failure.fault in (Fault.TRANSIENT, Fault.PLACE)
        if failure.fault is Fault.DISK or (failure.fault is Fault.PLACE and not again):
            self.halt(failure.reason)
        elif transient and again:
            self._repeats[number] += 1
            self._waiting.insert(0, number)
        else:
            self._on_end(run, failure.reason)
