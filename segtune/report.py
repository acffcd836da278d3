"""A finished search -> tables. Gets plain data; knows nothing of Ray or Optuna."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from segtune.trials import Trial, ranked

_SHOWN = 10  # trials in the ranking; trials.csv has all


def duration(seconds: float) -> str:
    """Seconds as people say them: 8.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def value_text(value: Any) -> str:
    """A setting's value, short: numbers with three digits, lists without quotes."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return str(value)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings on one line: ``encoder resnet18, lr 0.002``."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in settings.items())


def ranking(trials: Sequence[Trial]) -> Table:
    """The best trials, best first, with the settings that were searched."""
    order = ranked(trials)
    names = list(dict.fromkeys(name for trial in trials for name in trial.searched))
    table = _table(f"Trials by mIoU ({min(_SHOWN, len(order))} of {len(trials)}; all in trials.csv)")
    for name in ("rank", "trial", "miou", "status", "epochs", "time"):
        table.add_column(name, justify="left" if name == "status" else "right")
    for name in names:
        table.add_column(name)
    for place, trial in enumerate(order, start=1):
        if place <= _SHOWN or trial.baseline:
            table.add_row(
                str(place),
                f"#{trial.number}",
                f"{trial.miou:.4f}",
                "baseline" if trial.baseline else trial.status,
                f"{trial.epochs}/{trial.settings['epochs']}",
                duration(trial.seconds or 0.0),
                *(value_text(trial.searched[name]) if name in trial.searched else "" for name in names),
            )
    return table


def comparison(trials: Sequence[Trial], name: str) -> Table:
    """Best and median mIoU, parameters and seconds for each value of one setting.

    Only finished trials count, and of the configurations only those that every value finished.
    """
    by_configuration: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        if trial.status == "finished":
            others = repr({key: value for key, value in trial.searched.items() if key != name})
            by_configuration.setdefault(others, {})[value_text(trial.searched[name])] = trial
    values = list(dict.fromkeys(value for group in by_configuration.values() for value in group))
    shared = [group for group in by_configuration.values() if len(group) == len(values)]
    table = _table(f"{name}: {len(shared)} configurations that each one finished, equal budget")
    for column in (name, "best miou", "median miou", "parameters", "seconds"):
        table.add_column(column, justify="left" if column == name else "right")
    if not shared:
        return table
    columns = {value: [group[value] for group in shared] for value in values}
    for value, members in sorted(columns.items(), key=lambda item: -max(_scores(item[1]))):
        table.add_row(
            value,
            f"{max(_scores(members)):.4f}",
            f"{statistics.median(_scores(members)):.4f}",
            f"{(members[0].parameters or 0) / 1e6:.1f} M",
            f"{statistics.median(trial.seconds or 0.0 for trial in members):.1f}",
        )
    return table


def _scores(trials: Iterable[Trial]) -> list[float]:
    return [trial.miou or 0.0 for trial in trials]


def summary(trials: Sequence[Trial], ended: bool = True) -> list[str]:
    """The winner in words: its score, its settings, and what it gains over the baseline.

    `ended` is false for a search that was interrupted.
    """
    best = next(iter(ranked(trials)), None)
    if best is None:
        return ["no trial reached a score"]
    name = "winner" if ended else "best so far"
    lines = [f"{name}: trial #{best.number}, miou {best.miou:.4f} in epoch {best.best_epoch}"]
    lines.append(f"  {settings_text(best.searched)}")
    baseline = next((trial for trial in trials if trial.baseline and trial.miou is not None), None)
    if baseline is best:
        lines.append("the baseline itself is the best: nothing that was tried beats it")
    elif baseline is not None:
        gain = (best.miou or 0.0) - (baseline.miou or 0.0)
        lines.append(f"gain over the baseline: {gain:+.4f} (baseline {baseline.miou:.4f})")
    return lines


def failures(trials: Iterable[Trial]) -> list[str]:
    """One line for each reason that trials failed for."""
    reasons: dict[str, list[int]] = {}
    for trial in trials:
        if trial.status == "failed":
            reasons.setdefault(trial.error, []).append(trial.number)
    return [f"failed: {', '.join(f'#{number}' for number in numbers)}: {reason}" for reason, numbers in reasons.items()]


def class_table(classes: Sequence[int], iou: Mapping[str, float | None]) -> Table:
    """IoU per class, and of the background where there is one."""
    table = _table()
    table.add_column("class")
    table.add_column("iou", justify="right")
    for label in [*map(str, classes), "background"]:
        if label in iou:
            value = iou[label]
            table.add_row(label, "not in the masks" if value is None else f"{value:.4f}")
    return table


def _table(title: str | None = None) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
