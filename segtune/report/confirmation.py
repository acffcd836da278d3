"""What fresh seeds showed of the best trials, as a table and lines of the console and as records of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType

from segtune.confirmed import Confirmation, Confirmed, Look, named
from segtune.errors import counted
from segtune.evaluation.confirmation import few
from segtune.evaluation.intervals import Interval
from segtune.files.folders import SearchFolder
from segtune.report import record
from segtune.report.tables import add_figures, plain_table
from segtune.report.text import settings_text
from segtune.trials import Trial
from segtune.tuning.standing import standing


def confirmation_results(confirmation: Confirmation | None, trials: Sequence[Trial]) -> list[str | RenderableType]:
    """Return a table and lines with a confirmation that still counts; nothing where there is none."""
    if confirmation is None or confirmation.result is None or not confirmation.holds(trials):
        return []
    result = confirmation.result
    lines = [f"failed: {name}: {reason}" for name, reason in confirmation.failed.items()]
    objective = next(trial.objective for trial in trials)
    return [
        "",
        _table(result),
        result.sentence,
        *filter(None, [_probability(result)]),
        *_lines(result, objective),
        *lines,
        *(test_line(tested, result.winner.trial) for tested in confirmation.tests[-1:]),
    ]


def unconfirmed(confirmation: Confirmation | None, trials: Sequence[Trial], folder: SearchFolder) -> list[str]:
    """Return lines about a confirmation without a result that counts: what is done, or why it no longer counts.

    The last look at the test tiles is among them. Nothing is returned where there is no confirmation, or a result.
    """
    stands = standing(confirmation, trials, folder)
    if confirmation is None or stands is None or (confirmation.result and confirmation.holds(trials)):
        return []
    return [stands, *(test_line(tested, None) for tested in confirmation.tests[-1:])]


def _table(result: Confirmed) -> RenderableType:
    drawn = counted(result.tiles, "tile") + (f" in {counted(result.groups, 'group')}" if result.groups else "")
    over = not all(one.fits for one in result.configurations)
    order = "best mean first" + (", those over the limits last" if over else "")
    table = plain_table(f"Trained again with fresh seeds, {order} (intervals over seeds and {drawn})")
    table.add_column("candidate", overflow="fold")
    if over:
        table.add_column("limits")
    for column in ("mean", "deviation", "each seed", "in the search", "winner's lead (95%)", "probability"):
        add_figures(table, column)
    for one in result.configurations:
        table.add_row(
            named(result, one),
            *([] if not over else ["" if one.fits else "over"]),
            f"{one.mean:.4f}",
            "" if one.deviation is None else f"{one.deviation:.4f}",
            " ".join(f"{score:.4f}" for score in one.scores),
            "" if one.searched is None else f"{one.searched:.4f}",
            "" if one.lead is None else _interval(one.lead),
            "" if one.probability is None else f"{one.probability:.1%}",
        )
    return table


def _probability(result: Confirmed) -> str:
    """Return a line with the probability that the winner is better in truth; empty where it is not known."""
    winner, others = result.winner, result.configurations[1:]
    second = next((one for one in others if not one.baseline and one.fits == winner.fits), None)
    known = [(one, word) for one, word in ((second, "the runner-up"), (result.baseline, "the baseline")) if one]
    than = [
        f"{one.probability:.1%} than {word} (lead {one.lead.value:+.4f}, 95%: "
        f"{one.lead.low:+.4f} to {one.lead.high:+.4f})"
        for one, word in known
        if one.probability is not None and one.lead
    ]
    return f"probability that the winner is better: {', '.join(than)}" if than else ""


def _lines(result: Confirmed, objective: str) -> Iterator[str]:
    """Yield lines about the search's own numbers, about what was drawn, and about the model in best/."""
    winner = result.winner
    seeds = min(len(one.scores) for one in result.configurations)
    if result.unsure is None and (warning := few(seeds, result.tiles, result.groups)):
        yield warning
    if result.folds > 1:
        yield (
            "the search's own numbers do not stand beside these: they are means over folds, and these are of all tiles "
            "together"
        )
    if winner.optimism is not None:
        above = winner.optimism >= 0
        where, why = ("above", ", since a search chooses the largest of many numbers") if above else ("below", "")
        number = f"the search's own number of the winner, {winner.searched:.4f}"
        yield f"{number}, is {abs(winner.optimism):.4f} {where} its mean over fresh seeds{why}"
    if result.drawn:
        yield result.drawn
    if result.folds > 1:
        yield f"best/ holds the model of its training on train, from {winner.run}: those of folds are not kept"
        return
    yield f"best/ holds the model of its median seed: {objective} {winner.score:.4f}, from {winner.run}"


def test_line(tested: Look, winner: int | None) -> str:
    """Return what the test tiles showed, and how often they were looked at; `winner` is the trial that it is now."""
    now = tested.winner == winner
    text = f"{'winner' if now else f'trial #{tested.winner}, the winner then,'} {tested.miou:.4f}"
    if tested.interval:
        text += f" (95%: {tested.interval.low:.4f} to {tested.interval.high:.4f})"
    if tested.baseline is not None:
        text += f", baseline {tested.baseline:.4f}"
    if tested.gain:
        text += f", gain {_interval(tested.gain)}"
    if tested.unsure:
        text += f"; {tested.unsure}"
    where = f"{tested.split}, {counted(tested.tiles, 'tile')}"
    if tested.look > 1:
        return (
            f"test ({where}), looked at {tested.look} times: {text}; what was chosen after an earlier look makes this "
            f"too good"
        )
    return f"test ({where}), looked at once{', after everything else' if now else ''}: {text}"


def page_confirmation(confirmation: Confirmation | None, trials: Sequence[Trial]) -> record.Confirmation | None:
    """Return what the page shows of a confirmation that still counts; None where there is none."""
    if confirmation is None or confirmation.result is None or not confirmation.holds(trials):
        return None
    result = confirmation.result
    rows = [
        record.Candidate(
            named(result, one) + ("" if one.fits else ", over the limits"),
            settings_text(one.settings),
            one.searched,
            one.scores,
            one.gain,
            one.lead,
            one.probability,
        )
        for one in result.configurations
    ]
    known = [_probability(result), *(test_line(tested, result.winner.trial) for tested in confirmation.tests[-1:])]
    text = " ".join([result.sentence, *(f"{capital(line)}." for line in known if line)])
    lines = _lines(result, next(trial.objective for trial in trials))
    return record.Confirmation(capital(text), tuple(rows), tuple(f"{capital(line)}." for line in lines))


def _interval(found: Interval) -> str:
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def capital(text: str) -> str:
    """Return a text with a capital first letter, unless a path stands there."""
    return text if text.startswith("best/") else text[:1].upper() + text[1:]
