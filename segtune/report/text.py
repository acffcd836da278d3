"""Runs and searches as text: durations, settings, winners, failures and the commands to type next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segtune.config import RunConfig
from segtune.data.splits import split_places
from segtune.data.tiles import TRAIN, VAL
from segtune.errors import InputError, counted, duration
from segtune.files.folders import RunFolder, SearchFolder
from segtune.files.yamlfile import read_yaml
from segtune.models.ensemble import ensemble_of
from segtune.models.run_yaml import settings_of
from segtune.report.answer import Answer, Verdict, answer
from segtune.report.commands import script_command, tensorboard_command
from segtune.training.loaders import Waiting
from segtune.training.runlog import epochs_done, read_results, stale_epochs
from segtune.training.stopwatch import PHASES
from segtune.trials import UNKNOWN, Trial, ranked
from segtune.vocabulary import yaml_text

_UNFINISHED = ("stopped", "paused", "failed")  # statuses
_AFTER_CHANCE = "keep the settings of the baseline, or search others; to be sure, train both again with other seeds"


def value_text(value: Any) -> str:
    """Format the value of a setting: numbers with three digits, and everything else as in YAML."""
    return f"{value:.3g}" if isinstance(value, float) else yaml_text(value)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Format settings on one line: ``encoder resnet18, lr 0.002``."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in settings.items())


def waiting_text(waiting: Waiting, setting: str) -> str:
    """Return a line that says how much training waited for tiles, and what would help.

    `setting` is how the user types the number of workers: ``-w`` or ``--set workers=``.
    """
    idle = f"{'GPU idle' if waiting.gpu else 'training waits for tiles'} {waiting.share:.0%} of the time"
    if waiting.better == waiting.workers:
        return f"{idle}: no core is left for another loader; more cores or a lighter augmentation would help"
    if waiting.left:
        return f"{idle}: {setting}{waiting.better}, as many as the cores can serve, would make it {waiting.left:.0%}"
    return f"{idle}: {setting}{waiting.better} would remove it"


def weights_text(runs: Iterable[Mapping[str, Any]], subject: str = "encoders") -> str:
    """Return with which weights the encoders of runs with these settings started: ``encoders: random weights``."""
    names = {"imagenet": "pretrained (ImageNet)", "none": "random weights"}
    found = dict.fromkeys(str(settings.get("encoder_weights", "none")) for settings in runs)
    return f"{subject}: {', '.join(names.get(weights, f'weights of {weights}') for weights in found)}"


def run_summary(folder: RunFolder, log_dir: str) -> list[str]:
    """Return lines with the result of a single run and the commands to type next."""
    content = read_yaml(folder.run_yaml)
    config = RunConfig.from_settings(settings_of(content), f"{folder.run_yaml}: ")
    results = read_results(folder, config.epochs)
    score = results[-1].best_score if results else None
    lines = []
    if score is not None:
        best = f"best: {config.objective} {score:.4f} in epoch {results[-1].best_epoch}"
        lines.append(best if score else f"nothing learnt: {config.objective} 0")
        lines[-1] += f"{_some_of_the_tiles(content['data'], config.use_only_add_val)}; next:"
        split = scored_split(config)
        lines += [f"  {_validation(folder.path, split)}"] if split else []
    return [weights_text([config.settings()], "encoder"), *lines, f"  {tensorboard_command(log_dir)}"]


def stopped_early(folder: RunFolder, config: RunConfig) -> str | None:
    """Return a line about a run that `early_stopping` ended before its last epoch; None where it did not."""
    done, stale = epochs_done(folder), stale_epochs(folder)
    if done >= config.epochs or not 0 < config.early_stopping <= stale:
        return None
    return (
        f"stopped early after {done} of {counted(config.epochs, 'epoch')}, {stale} of them without a better score; "
        "a larger --early-stopping, or 0, trains it longer"
    )


def how_it_ended(folder: RunFolder, config: RunConfig) -> str | None:
    """Return how a single run ended, and what trains it longer; None for a run that has epochs to train."""
    if (done := epochs_done(folder)) >= config.epochs:
        return f"{counted(done, 'epoch')}; a larger --epochs trains it longer"
    return stopped_early(folder, config)


def _some_of_the_tiles(data: Mapping[str, Any], only_added: bool) -> str:
    """Return on how many validation tiles a run was scored, if not on all; `data` is that section of run.yaml."""
    tiles, others = (
        sum(count for split, count in data.get(name, {}).items() if split == VAL or (only_added and split != TRAIN))
        for name in ("tiles", "left_out")
    )
    return f" (on {tiles} of {tiles + others} validation tiles)" if others else ""


def scored_split(config: RunConfig) -> Path | None:
    """Return the split that a run is scored on, or the first of several; None where its data is gone."""
    try:
        places = split_places(config)
    except InputError:
        return None
    place = next(place for name, place in places.items() if name != TRAIN).absolute()
    here = Path.cwd()
    return place.relative_to(here) if place.is_relative_to(here) else place


def summary(trials: Sequence[Trial], ended: bool = True) -> list[str]:
    """Return lines with the winner: its score, its settings, and its gain over the baseline.

    A trial that is the best by chance is not called a winner. `ended` is false for a search that was interrupted.
    """
    found = answer(trials, ended)
    best, verdict = found.best, found.verdict
    if best is None:
        return ["no trial reached a score"]
    if verdict is Verdict.ALL_FAILED:
        return ["no winner: every trial failed"]
    if verdict is Verdict.NOTHING_LEARNT:
        yet = "" if ended else " yet"
        return [
            f"no trial learnt anything{yet}: the best {best.objective} is {best.score:.4f}, of trial #{best.number}"
        ]
    name = {Verdict.BY_CHANCE: "best", Verdict.WINNER: "winner"}.get(verdict, "best so far")
    if best.confirmed:
        which = f"trial #{best.number}{', the baseline' if best.baseline else ''}"
        own = "" if best.folds > 1 else f" ({best.score:.4f} in the search)"  # a mean over folds is another score
        mean = f"mean {best.objective} {best.confirmed.mean:.4f} over fresh seeds{own}"
        return [f"{name}: {which}, {mean}", f"  {settings_text(best.searched)}"]
    where = f"trial #{best.number}, {best.objective} {best.score:.4f}{where_text(best)}{limit_text(best.settings)}"
    lines = [f"{name}: {where}", f"  {settings_text(best.searched)}"]
    if verdict is Verdict.BY_CHANCE:
        by_chance = (
            f"no winner: trial #{best.number} is {found.gain:.4f} better than the baseline, "
            f"and other seeds alone may bring {found.margin:.4f}"
        )
        return [by_chance, *lines, _AFTER_CHANCE]
    return lines if found.baseline is None else [*lines, _gain(found, found.baseline, len(ranked(trials)), ended)]


def where_text(trial: Trial) -> str:
    """Return where a trial reached its score: in an epoch, or over folds."""
    if trial.folds == 1:
        return f" in epoch {trial.best_epoch}"
    missing = trial.folds - trial.folds_done
    return f", the mean over {trial.folds} folds" + (f" ({missing} to come count 0)" if missing else "")


def limit_text(settings: Mapping[str, Any]) -> str:
    """Return on how many validation tiles a trial was scored, if its settings limit them."""
    limits = [limit for name in ("limit_tiles", "val_samples") if (limit := settings.get(name)) is not None]
    return f" (on at most {min(limits)} tiles of each validation set)" if limits else ""


def _gain(found: Answer, baseline: Trial, scored: int, ended: bool) -> str:
    """Return the gain of the best trial over the baseline, or why there is none; `scored` trials have a score."""
    if found.best is baseline and scored == 1:
        return "it is the baseline; no other trial has a score"
    if found.best is baseline:
        within = " within the limits of costs" if found.over else ""
        best = f"the baseline itself is the best: nothing that was tried{within} beats it"
        better = f"it is the baseline; no other trial{within} is better yet"
        return f"{best}; keep its settings, or search others" if ended else better
    if found.gain is None or baseline.score is None:
        why = "failed" if baseline.status == "failed" else "has no score yet"
        return f"the gain over the baseline is unknown: it {why}"
    text = f"gain over the baseline: {found.gain:+.4f} (baseline {baseline.score:.4f}"
    if not baseline.learnt:
        return f"{text}, which learnt nothing)"
    if not baseline.fits:
        return f"{text}, which costs more than the limits allow)"
    if found.margin is None:
        return f"{text} after {baseline.epochs_done} of {counted(baseline.epochs, 'epoch')}: not comparable)"
    return f"{text}); other seeds alone may bring {found.margin:.4f}"


def failures(trials: Iterable[Trial]) -> list[str]:
    """Return a line for each reason why trials failed."""
    reasons: dict[str, list[int]] = {}
    for trial in trials:
        if trial.status == "failed":
            reasons.setdefault(trial.error or UNKNOWN, []).append(trial.number)
    return [f"failed: {', '.join(f'#{number}' for number in numbers)}: {reason}" for reason, numbers in reasons.items()]


def next_commands(folder: SearchFolder, config: RunConfig, results_dir: str) -> dict[str, str]:
    """Return the commands to type after a search, by what they do; those for the winner only if there is one."""
    split, found = scored_split(config), {}
    if folder.best.is_dir():
        if split:
            found["measure the winner again"] = _validation(folder.path, split)
            if seeds := _models_of_seeds(folder):
                found[f"measure the mean of the models of the winner's {seeds} seeds"] = _validation(
                    folder.path, split, "--ensemble"
                )
        train = script_command("run_single.py", ["--from-search", str(folder.path), "--epochs", "N"])
        found["train the winner again, for N epochs"] = train
    return found | {"see the curves of all trials in TensorBoard": tensorboard_command(results_dir)}


def _models_of_seeds(folder: SearchFolder) -> int:
    """Return how many models `--ensemble` averages; 0 where the search was not confirmed, or models are gone."""
    try:
        return len(ensemble_of(folder.path))
    except InputError:
        return 0


def _validation(folder: Path, split: Path, *flags: str) -> str:
    return script_command("validate.py", ["-cd", str(folder), "-d", str(split), *flags])


def paused_line(trials: Iterable[Trial]) -> str:
    """Return which trials are paused: ``paused after 3 epochs: #4, #6; after 9 epochs: #2``."""
    groups: dict[int, list[str]] = {}
    for trial in trials:
        if trial.status == "paused":
            groups.setdefault(trial.epochs_done, []).append(f"#{trial.number}")
    parts = (f"after {counted(epochs, 'epoch')}: {', '.join(names)}" for epochs, names in sorted(groups.items()))
    return f"paused {'; '.join(parts)}"


def training_line(trials: Sequence[Trial]) -> str | None:
    """Return the training time of all trials, and its share in trials that did not finish; None if there is none.

    ``training time: 3 h 12 min; 41% in 9 stopped trials, 2% in 1 failed``
    """
    seconds = {status: [t.seconds for t in trials if t.status == status and t.seconds] for status in _UNFINISHED}
    total = sum(trial.seconds or 0.0 for trial in trials)
    if not total:
        return None
    shares = [f"{sum(some) / total:.0%} in {len(some)} {status}" for status, some in seconds.items() if some]
    if shares:
        shares[0] += " trial" if len(next(filter(None, seconds.values()))) == 1 else " trials"
    return f"training time: {duration(total)}{'; ' if shares else ''}{', '.join(shares)}"


def spent_line(trials: Sequence[Trial]) -> str | None:
    """Return how the time of the trials was spent: ``time of the trials: 92% training, ...``; None if unknown."""
    seconds = {name: sum(trial.spent.get(name, 0.0) for trial in trials) for name in PHASES}
    total = sum(seconds.values())
    if not total:
        return None
    shares = sorted(seconds.items(), key=lambda item: -item[1])
    return f"time of the trials: {', '.join(f'{share / total:.0%} {name}' for name, share in shares)}"
