"""A finding on a data set: one typed record for everything that `python -m segtune.tools check` can find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

# error: training cannot begin, or would learn something wrong; warning: results are worse or look better than they are;
# note: nothing is wrong, but one should know.
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
Pair = tuple[str, str]  # names of two tiles


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set, or worth knowing; names of tiles are SPLIT/NAME."""

    severity: Severity
    kind: str  # what sort of thing, such as "unpaired"; the same word in every release
    what: str  # one sentence for people
    do: str  # what to do about it; empty for a note that asks for nothing
    tiles: tuple[str, ...] = ()  # all tiles that it is about, sorted
    pairs: tuple[Pair, ...] = ()  # where it is about two tiles each, such as duplicates: all of them
    leave_out: tuple[str, ...] = ()  # the fewest tiles without which the finding is gone; empty where that is no help

    def plain(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings with errors first; those of one severity keep their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
