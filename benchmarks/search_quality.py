"""Measure whether a search method finds a better model in less time: replay whole searches over recorded curves.

    python benchmarks/search_quality.py record --set landcover --data landcover --most 130

`record` trains random configurations of common.yaml to the end with segtune's own trainer, and appends their curves to
curves/landcover.csv; started again, it continues.

    python benchmarks/search_quality.py replay --curves benchmarks/curves/s2india64.csv --results replays.csv

`replay` searches over these curves in virtual time, with segtune's own searcher, sampler and ASHA: 30 seeds of every
method with 1, 4 and 16 workers. It prints the best mIoU by training spent. For a configuration that was not recorded, a
surrogate fitted to the recorded curves predicts the curve. Every search is added to the file of results; started again,
the command continues there. It needs `pip install -e '.[benchmarks]'`.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machine import machine_line

from segtune.errors import InputError
from segtune.files.yamlfile import read_yaml
from segtune.space.reader import load_space

SPACE = Path(__file__).with_suffix(".yaml")
COMMON = SPACE.with_name("common.yaml")
SETS = SPACE.with_name("sets.yaml")
CURVES = SPACE.with_name("curves")


def _record(given: argparse.Namespace) -> None:
    from curves import record

    if not given.curves and not given.set:
        raise InputError("--curves: is needed without --set")
    fixed = _of_set(given.set) if given.set else {}
    fixed |= {"dataset": str(given.data)} if given.data else {}
    space = load_space(COMMON if given.set else given.space, fixed)
    curves = given.curves or CURVES / f"{given.set}.csv"
    until = time.monotonic() + given.hours * 3600
    for curve in record(space, curves, given.seed, given.part, until, given.most):
        settings = ", ".join(f"{name} {value}" for name, value in curve.settings.items())
        best = f"{max(curve.miou):.4f}" if curve.miou else "none"
        end = f"{len(curve.miou)} epochs, {curve.seconds[-1] if curve.seconds else 0:.0f} s CPU"
        print(f"#{curve.number} {best} {'failed after' if curve.failed else 'in'} {end}: {settings}", flush=True)


def _of_set(name: str) -> dict[str, Any]:
    """Return the settings that the runs on a data set of `SETS` have."""
    sets = read_yaml(SETS)
    if name not in sets:
        raise InputError(f"--set: {name!r} is none of {', '.join(sets)}; add it to {SETS}")
    return dict(sets[name])


def _replay(given: argparse.Namespace) -> None:
    try:
        from replay import Plan, replay
        from report import Results, draw, report
    except ModuleNotFoundError as error:
        library = str(error.name).split(".")[0]
        raise InputError(f"{library} is missing: pip install -e '.[benchmarks]'") from None
    methods = _methods(given.methods)
    plan = Plan(given.space, tuple(given.curves), given.results, methods, tuple(given.workers), given.seeds)
    recorded = plan.recorded()
    searches = []
    for search in replay(plan, recorded, given.jobs):
        searches.append(search)
        if sys.stderr.isatty() or len(searches) == len(plan.keys()):
            print(f"\r{len(searches)} of {len(plan.keys())} searches ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(machine_line(*(f"{name} {version(name)}" for name in ("numpy", "scikit-learn"))))
    results = Results(searches)
    print("\n".join(report(results, recorded)))
    if given.picture:
        draw(results, recorded, given.picture)


def _methods(names: list[str] | None) -> tuple[str, ...]:
    from replay import METHODS

    if unknown := set(names or ()) - set(METHODS):
        raise InputError(f"--methods: {min(unknown)!r} is none of {', '.join(map(repr, METHODS))}")
    return tuple(names or METHODS)


def _number(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a number of at least 1 is needed")
    return int(text)


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r}: the first of two is 1/2, the second 2/2")
    return int(found[1]), int(found[2])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="record | replay")
    new = commands.add_parser("record", help="train random configurations and keep their curves")
    new.set_defaults(run=_record)
    new.add_argument("--space", type=Path, default=SPACE, help="space to draw from [search_quality.yaml]")
    new.add_argument("--data", type=Path, help="the data set [the space's]")
    new.add_argument("--set", metavar="NAME", help="a data set of sets.yaml, with the space common.yaml; needs --data")
    new.add_argument("--curves", type=Path, help="CSV that the curves are appended to [curves/NAME.csv]")
    new.add_argument("--hours", type=float, default=math.inf, help="begin no more runs after these [no limit]")
    new.add_argument("--most", type=int, default=sys.maxsize, help="curves that the file then holds [no limit]")
    new.add_argument("--seed", type=int, default=0, help="of the drawn configurations [0]")
    new.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="share the work with N - 1 others [1/1]")
    old = commands.add_parser("replay", help="search over recorded curves in virtual time, and compare methods")
    old.set_defaults(run=_replay)
    old.add_argument("--space", type=Path, default=SPACE, help="space that was drawn from [search_quality.yaml]")
    old.add_argument("--curves", type=Path, nargs="+", required=True, help="what was recorded, one or several parts")
    old.add_argument("--results", type=Path, required=True, help="CSV that every search is appended to")
    old.add_argument("--methods", nargs="+", help="such as random 'tpe+asha pruned' [all]")
    old.add_argument("--workers", type=_number, nargs="+", default=[1, 4, 16], help="trials at a time [1 4 16]")
    old.add_argument("--seeds", type=_number, default=30, help="searches of each method and number of workers [30]")
    old.add_argument("--jobs", type=_number, default=1, help="processes [1]")
    old.add_argument("--picture", type=Path, help="PNG of best mIoU over spent training seconds [none]")
    return parser


def main(arguments: list[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
    except InputError as error:
        sys.exit("\n".join(f"error: {mistake}" for mistake in error.mistakes))


if __name__ == "__main__":
    main()
