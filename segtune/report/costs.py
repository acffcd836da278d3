"""Costs of trials as text, and lines about the front of a search: the trials not beaten in score and costs together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segtune.errors import counted, duration
from segtune.space.prefer import UNITS
from segtune.trials import Trial, front


def latency_note(trials: Sequence[Trial], costs: Sequence[str]) -> str | None:
    """Return how far latencies can be compared; None where none is shown."""
    if "latency" not in costs or all(trial.latency is None for trial in trials):
        return None
    # The finalists are not measured again alone: others would keep their numbers, and no two could be compared.
    return (
        "latency is of one image, measured once in each trial; trials that ran beside it on the device may have made "
        "it longer (max_concurrent: 1 avoids that)"
    )


def cost_text(name: str, value: float | None) -> str:
    """Return a cost as people read it: 12.1 ms, 4.2 M, 3.5 GB or 2 min; an empty text where it is not known."""
    if value is None:
        return ""
    if name == "seconds":
        return duration(value)
    if name == "parameters":
        return f"{value / 1e6:.1f} M"
    number = f"{value:.0f}" if value >= 100 else f"{value:#.3g}"  # three digits: 8.20, 15.0, 1234
    return f"{number} {next(iter(UNITS[name]))}"


def front_lines(trials: Sequence[Trial], costs: Sequence[str], prefer: str | None) -> Iterator[str]:
    """Yield lines about the front, latencies, and the limits that the winner or no trial keeps; none without costs."""
    if found := front(trials, costs) if costs else []:
        names = ", ".join(f"#{trial.number}" for trial in found)
        used = "all epochs" if found[0].share == 1 else f"{found[0].share:.0%} of their epochs"
        yield f"front by {found[0].objective}, {', '.join(costs)} (*), among trials with {used}: {names}"
    if note := latency_note(trials, costs):
        yield note
    if line := limits_line(trials, prefer):
        yield line


def limits_line(trials: Sequence[Trial], prefer: str | None) -> str | None:
    """Return how many trials keep the limits of costs, and what follows; None without limits, or without a score."""
    scored = [trial for trial in trials if trial.score is not None]
    if not prefer or not scored:
        return None
    kept = sum(trial.fits for trial in scored)
    best = "the winner is the best of them" if kept else "so the best of all is taken"
    return f"prefer {prefer}: kept by {counted(kept, 'trial') if kept else 'no trial'}; {best}"
