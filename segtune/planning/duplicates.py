"""Find values of a space that mean the same run on its data, such as `ce` and `bce` with a single class."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from segtune.config import RunConfig
from segtune.data.dataset import DataInfo
from segtune.mistakes import SettingsError
from segtune.space.combinations import that_draw
from segtune.space.parameters import Choice, RandomSuggest
from segtune.space.space import Space
from segtune.training.resolve import resolve
from segtune.vocabulary import loss_terms, yaml_text

_DRAWS = 10  # runs in which two values are compared


def same_values(space: Space, info: DataInfo) -> Iterator[str]:
    """Yield a line for each two values of a choice that mean the same run, whatever the other settings are."""
    for parameter, narrowed in that_draw(space.parameters):
        if not isinstance(parameter, Choice) or any(parameter.branches):
            continue
        suggest, around = RandomSuggest(random.Random(0)), replace(space, parameters=narrowed)
        runs = [around.draw(suggest) for _ in range(_DRAWS)]
        meant = {
            position: [_meaning(run | {parameter.name: value}, info) for run in runs]
            for position, value in enumerate(parameter.values)
        }
        for one, other in itertools.combinations(meant, 2):
            both = [pair for pair in zip(meant[one], meant[other], strict=True) if None not in pair]
            if both and all(first == second for first, second in both):
                names = f"{yaml_text(parameter.values[one])} and {yaml_text(parameter.values[other])}"
                yield f"space.{parameter.key}: {names} mean the same run on this data; keep one of the two"


def _meaning(settings: Mapping[str, Any], info: DataInfo) -> str | None:
    """Return what a run does, as a text that is equal for equal runs; None for a run that is not possible."""
    try:
        run = resolve(RunConfig.from_settings(settings), info)
    except SettingsError:
        return None
    single = {"ce": "bce"} if len(run.classes) == 1 else {}
    loss = sorted((single.get(name, name), weight) for weight, name in loss_terms(run.loss))
    decoder = {"decoder_channels": None, "decoder_attention": None, "dropout": None}
    return repr((run.settings() | decoder | {"loss": loss}, run.decoder.arguments()))
