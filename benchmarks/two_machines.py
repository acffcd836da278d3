"""Join recordings of the same data sets that were made on two machines, in the first one's seconds.

    python benchmarks/two_machines.py --first first/*.csv --second second/*.csv --to benchmarks/curves

How fast the second machine is follows from the curves: the logarithm of a run's seconds is a sum of terms of the data
set together with encoder, augmentation and batch size, of loss and optimizer, and of the machine (least squares).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from curves import Curve, read_curves, write_curves
from machine import machine_line
from recorded import COMMON, files_by_set

from segtune.errors import InputError
from segtune.space.reader import load_space

Recordings = Mapping[str, Sequence[Curve]]  # by data set
_WITH_SET = ("encoder", "augmentation", "batch_size")  # settings whose cost is another one on each data set
_ALONE = ("loss", "optimizer")


def speed(first: Recordings, second: Recordings) -> tuple[float, float, float]:
    """Return the second machine's seconds as a multiple of the first one's.

    Also returns the standard error of the multiple's logarithm, and the deviation of a run's log seconds from the
    fitted ones. Failed runs are left out. Raises InputError where the machines have no term in common.
    """
    runs = [(name, curve, 0) for name in first for curve in first[name]]
    runs += [(name, curve, 1) for name in second for curve in second[name]]
    runs = [(name, curve, machine) for name, curve, machine in runs if not curve.failed]
    terms = [_terms(name, curve) for name, curve, _ in runs]
    column = {term: place for place, term in enumerate(sorted({term for row in terms for term in row}))}
    x = np.zeros((len(runs), len(column) + 1))
    for row, (_, _, machine) in enumerate(runs):
        x[row, [column[term] for term in terms[row]]] = 1
        x[row, -1] = machine
    rank = np.linalg.matrix_rank(x)
    if rank == np.linalg.matrix_rank(x[:, :-1]):
        raise InputError("--second: has no encoder, loss or other setting in common with --first")
    y = np.log([curve.seconds[-1] for _, curve, _ in runs])
    found, *_ = np.linalg.lstsq(x, y)
    deviation = math.sqrt(np.sum((y - x @ found) ** 2) / (len(y) - rank))
    error = deviation * math.sqrt(np.linalg.pinv(x.T @ x)[-1, -1])
    return math.exp(found[-1]), error, deviation


def _terms(name: str, curve: Curve) -> list[str]:
    own = [f"{name} {setting} {curve.settings[setting]}" for setting in _WITH_SET]
    return own + [f"{setting} {curve.settings[setting]}" for setting in _ALONE]


def in_seconds_of_the_first(curve: Curve, multiple: float) -> Curve:
    """Return the curve with the seconds that its run would have taken on the first machine."""
    return replace(curve, seconds=tuple(round(seconds / multiple, 2) for seconds in curve.seconds))


def _read(paths: Sequence[Path]) -> Recordings:
    return {name: read_curves(parts) for name, parts in files_by_set(paths).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--first", "--second"):
        parser.add_argument(name, nargs="+", type=Path, required=True, metavar="CSV", help="recorded curves")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="folder of the joined files")
    given = parser.parse_args()
    try:
        first, second = _read(given.first), _read(given.second)
        if first.keys() != second.keys():
            raise InputError("--second: needs the same data sets as --first")
        for name, curves in first.items():
            if twice := {(c.number, c.seed) for c in curves} & {(c.number, c.seed) for c in second[name]}:
                raise InputError(f"--second: has configuration {min(twice)[0]} of {name}, which --first has, too")
        multiple, error, deviation = speed(first, second)
        for name, curves in first.items():
            later = [in_seconds_of_the_first(curve, multiple) for curve in second[name]]
            write_curves(given.to / f"{name}.csv", load_space(COMMON).searched(), [*curves, *later])
    except InputError as mistakes:
        sys.exit("\n".join(f"error: {mistake}" for mistake in mistakes.mistakes))
    print(machine_line())
    print(f"{sum(map(len, first.values()))} runs of the first machine, {sum(map(len, second.values()))} of the second")
    print(f"the second machine's seconds are {multiple:.3f} times the first one's (standard error {error:.1%})")
    print(f"deviation of a run's seconds from the fitted ones: {deviation:.0%}")


if __name__ == "__main__":
    main()
