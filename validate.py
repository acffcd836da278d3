"""Measure a trained model, look at its predictions, predict new images, and export it.

    python validate.py -cd ray_results/quickstart -d data/demo/val            the winner of a search: metrics and plots
    python validate.py -cd logs/NAME -d DATASET/test --binary                 a run; writes the predicted masks
    python validate.py -cd logs/NAME -d scene.tif --polygons objects.gpkg     no masks: predicts a whole scene
    python validate.py -cd logs/NAME --export onnx                            a file for other programs

-cd takes the folder of a search, a run or a model. OUT (-o) gets metrics.json, metrics.csv and pictures of what was
measured, and a folder for each kind of file per tile: plots, binary, raw.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from segtune.cli.applicable import check_applicable, unused_overlap
from segtune.cli.described import description, description_line
from segtune.cli.exits import run_script
from segtune.cli.places import models_of, places_of
from segtune.cli.validate_flags import Wanted, band_order, check_validate_flags, validate_parser
from segtune.files.checks import check_writable
from segtune.models.foreign import manifest_of


def parse() -> Namespace:
    return validate_parser(__doc__ or "").parse_args()


def main() -> int:
    arguments = parse()
    check_validate_flags(arguments)
    wanted = Wanted.of(arguments)
    if arguments.output_dir:
        check_writable(Path(arguments.output_dir), "-o")
    models, averaged = models_of(arguments)
    described = description(models, arguments)
    manifests = {model: manifest_of(model, described).with_order(band_order(arguments)) for model in models}
    places = places_of(manifests, arguments, described, averaged)
    check_applicable(arguments, places, manifests, described)
    # torch takes seconds to import; --help and common mistakes do not wait for it.
    from segtune.cli.choosing import check_choice, store_threshold
    from segtune.cli.comparing import Compared, check_compared
    from segtune.cli.deploying import check_deploying, deploy
    from segtune.cli.predicting import check_predicting, predict
    from segtune.cli.validation import measure
    from segtune.pictures.window import check_screen, show
    from segtune.report.terminal import make_console
    from segtune.report.validation import several_table, validation_lines

    if arguments.vis:
        check_screen()
    check_choice(places, arguments)
    check_compared(places, arguments)
    check_deploying(manifests, arguments)
    check_predicting(places, arguments)
    console, found = make_console(), []
    compared = Compared(arguments, console)
    if line := unused_overlap(arguments, places, manifests):
        console.print(line)
    for place in places:
        if line := description_line(place):
            console.print(line)
        if not place.measurable:
            predict(place, arguments, wanted, console)
            continue
        measured = measure(place, arguments, wanted, console)
        found.append(measured)
        groups = measured.grouping.groups
        console.print(*validation_lines(measured.result, measured.intervals, measured.drawn, groups), sep="\n")
        if arguments.compare:
            console.print(compared.difference(place, measured))
        if arguments.store_threshold:
            console.print(store_threshold(measured.result))
        console.print(f"written to {place.out}")
    if len(found) > 1:
        console.print(several_table([(item.result, item.intervals) for item in found]))
    for model in models:
        split = next((place.data[0] for place in places if place.measurable), None)
        deploy(model, len(models), split, arguments, console, described)
    if arguments.vis and (plots := [item.plot for item in found if item.plot is not None]):
        show(plots[0], "validate.py")
    return 0


if __name__ == "__main__":
    run_script(main)
