"""Measure whether a search method finds a better model in less time: replay whole searches over recorded curves.

    python benchmarks/search_quality.py record --set landcover --data landcover --most 130

`record` trains random configurations of common.yaml to the end with segtune's own trainer, and appends their curves to
curves/landcover.csv; started again, it continues.

    python benchmarks/search_quality.py replay --curves benchmarks/curves/*.csv --results replays.csv

`replay` searches over these curves in virtual time, with segtune's own searcher, sampler and ASHA: 30 seeds of every
method with 1 and 4 workers, on every data set. What a method learns before the search, it learns from the other data
sets alone. It prints the best mIoU by training spent on three landscapes. `surrogate` is fitted to the curves of all
data sets, and predicts those of other configurations; so it partly assumes that data sets are alike, which methods that
learn from other data sets live on. `own` is fitted to the curves of the searched data set alone, and `table` has its
recorded configurations alone. Every search is added to the file of results; started again, the command continues there.

    python benchmarks/search_quality.py describe --curves benchmarks/curves/*.csv
    python benchmarks/search_quality.py judge --curves benchmarks/curves/*.csv

`describe` prints what the curves hold, `judge` how well several regressions predict curves that they have not seen. All
but `record` need `pip install -e '.[benchmarks]'`. The files of a data set are NAME.csv, or NAME.1.csv, NAME.2.csv.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machine import machine_line

from segtune.errors import InputError

CURVES = Path(__file__).with_name("curves")


def _record(given: argparse.Namespace) -> None:
    from curves import record
    from recorded import COMMON, SPACE, settings_of

    from segtune.space.reader import load_space

    if not given.curves and not given.set:
        raise InputError("--curves: is needed without --set")
    fixed = settings_of(given.set) if given.set else {}
    fixed |= {"dataset": str(given.data)} if given.data else {}
    space = load_space(COMMON if given.set else given.space or SPACE, fixed)
    curves = given.curves or CURVES / f"{given.set}.csv"
    until = time.monotonic() + given.hours * 3600
    for curve in record(space, curves, given.seed, given.part, until, given.most):
        settings = ", ".join(f"{name} {value}" for name, value in curve.settings.items())
        best = f"{max(curve.miou):.4f}" if curve.miou else "none"
        end = f"{len(curve.miou)} epochs, {curve.seconds[-1] if curve.seconds else 0:.0f} s CPU"
        print(f"#{curve.number} {best} {'failed after' if curve.failed else 'in'} {end}: {settings}", flush=True)


def _read(given: argparse.Namespace) -> dict[str, Any]:
    from recorded import read_sets

    return read_sets(given.curves, given.space)


def _replay(given: argparse.Namespace) -> None:
    from methods import METHODS
    from picture import draw
    from recorded import pools
    from replay import Plan, replay
    from report import report
    from simulation import LANDSCAPES

    plan = Plan(
        curves=tuple(given.curves),
        results=given.results,
        space=given.space,
        methods=_known("--methods", given.methods, METHODS),
        workers=tuple(given.workers),
        seeds=given.seeds,
        landscapes=_known("--landscapes", given.landscapes, LANDSCAPES),
    )
    if given.picture and all(METHODS[method].oracle for method in plan.methods):
        raise InputError("--picture: oracles are not drawn; add another method to --methods")
    sets = plan.read()
    searches, wanted = [], len(plan.keys(sets))
    for search in replay(plan, sets, given.jobs):
        searches.append(search)
        if sys.stderr.isatty() or len(searches) == wanted:
            print(f"\r{len(searches)} of {wanted} searches ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _print_machine()
    print("\n".join(report(searches, sets)))
    if given.picture:
        drawn = [search for search in searches if search.key.landscape == plan.landscapes[0]]
        draw(drawn, {own.name: own for own in max(pools(sets), key=len)}, given.picture)


def _describe(given: argparse.Namespace) -> None:
    from describe import describe

    print("\n".join(describe(_read(given))))


def _judge(given: argparse.Namespace) -> None:
    from judge import compare

    _print_machine()
    for line in compare(_read(given)):
        print(line, flush=True)


def _print_machine() -> None:
    print(machine_line(*(f"{name} {version(name)}" for name in ("numpy", "scipy", "scikit-learn"))))


def _known(flag: str, names: list[str] | None, known: Collection[str]) -> tuple[str, ...]:
    if unknown := set(names or ()) - set(known):
        raise InputError(f"{flag}: {min(unknown)!r} is none of {', '.join(map(repr, known))}")
    return tuple(names or known)


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
    commands = parser.add_subparsers(required=True, metavar="record | replay | describe | judge")
    new = commands.add_parser("record", help="train random configurations and keep their curves")
    new.set_defaults(run=_record)
    new.add_argument("--space", type=Path, help="space to draw from [search_quality.yaml]")
    new.add_argument("--data", type=Path, help="the data set [the space's]")
    new.add_argument("--set", metavar="NAME", help="a data set of sets.yaml, with the space common.yaml; needs --data")
    new.add_argument("--curves", type=Path, help="CSV that the curves are appended to [curves/NAME.csv]")
    new.add_argument("--hours", type=float, default=math.inf, help="begin no more runs after these [no limit]")
    new.add_argument("--most", type=int, default=sys.maxsize, help="curves that the file then holds [no limit]")
    new.add_argument("--seed", type=int, default=0, help="of the drawn configurations [0]")
    new.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="share the work with N - 1 others [1/1]")
    old = commands.add_parser("replay", help="search over recorded curves in virtual time, and compare methods")
    old.set_defaults(run=_replay)
    _add_curves(old)
    old.add_argument("--results", type=Path, required=True, help="CSV that every search is appended to")
    old.add_argument("--methods", nargs="+", help="such as random tpe+asha [all]")
    old.add_argument("--workers", type=_number, nargs="+", default=[1, 4], help="trials at a time [1 4]")
    old.add_argument("--seeds", type=_number, default=30, help="searches of each method and number of workers [30]")
    old.add_argument("--landscapes", nargs="+", help="surrogate (of all curves), own (of the set's), table [all]")
    old.add_argument("--jobs", type=_number, default=1, help="processes [1]")
    old.add_argument("--picture", type=Path, help="PNG of the regret over spent training [none]")
    for name, run, text in (
        ("describe", _describe, "print what the curves of each data set hold"),
        ("judge", _judge, "compare regressions on curves that they have not seen"),
    ):
        more = commands.add_parser(name, help=text)
        more.set_defaults(run=run)
        _add_curves(more)
    return parser


def _add_curves(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--curves",
        type=Path,
        nargs="+",
        required=True,
        help="recorded curves; up to the first dot, a file's name is that of its data set",
    )
    parser.add_argument("--space", type=Path, help="space of all curves [common.yaml for a data set of sets.yaml]")


def main(arguments: list[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
    except InputError as error:
        sys.exit("\n".join(f"error: {mistake}" for mistake in error.mistakes))
    except ModuleNotFoundError as error:
        sys.exit(f"error: {str(error.name).split('.')[0]} is missing: pip install -e '.[benchmarks]'")


if __name__ == "__main__":
    main()
