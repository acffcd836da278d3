"""Build the network that a config.json of smp describes, without trusting the file."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from segtune.errors import InputError, first_few, one_line, short
from segtune.models.compatibility import unknown_encoder
from segtune.models.foreign import architecture_in, read_config

# What smp passes on to encoders of timm, and what earlier releases of smp wrote. Other words are refused: timm takes
# some that load files or ask servers.
_PASSED_ON = ("drop_path_rate", "img_size", "dynamic_img_size", "decoder_use_batchnorm", "psp_use_batchnorm")
# Without an activation the network gives logits. A second head would only classify whole images.
_FIXED = {"encoder_weights": None, "activation": None, "aux_params": None}


_LARGEST = 8192  # of channels and the like


@dataclass(frozen=True)
class ForeignNetwork:
    """A network as a config.json describes it."""

    path: Path
    kind: type[nn.Module]
    arguments: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> ForeignNetwork:
        """Read a config.json; raise InputError if it names an architecture, encoder or argument that smp lacks."""
        content = read_config(path)
        kind = smp.MODEL_ARCHITECTURES_MAPPING[architecture_in(path, content)]
        encoder = content.get("encoder_name")
        if not isinstance(encoder, str) or (mistake := unknown_encoder(encoder)):
            raise InputError(f"{path}: encoder_name: {mistake if isinstance(encoder, str) else short(encoder)}")
        given = {name: value for name, value in content.items() if not name.startswith("_")}
        known = {*inspect.signature(kind.__init__).parameters, *_PASSED_ON}
        if unknown := sorted(given.keys() - known):
            raise InputError(f"{path}: smp's {kind.__name__} takes no {first_few(unknown, 3)}")
        if large := [name for name, value in given.items() if any(number > _LARGEST for number in _numbers(value))]:
            raise InputError(f"{path}: {large[0]}: {short(given[large[0]])} is more than any network has")
        return cls(path, kind, given | _FIXED)

    @property
    def needs_numbers(self) -> bool:
        """Whether the encoder reads numbers while it is built, so that it cannot be built without memory."""
        return str(self.arguments["encoder_name"]).startswith("mit_")

    def create(self) -> nn.Module:
        """Create the network with random weights; nothing is downloaded. Raises InputError if smp cannot build it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # timm and smp warn about their own code, and of earlier names
                return self.kind(**self.arguments)
        except Exception as error:
            # smp and timm have no error of their own for this.
            raise InputError(f"{self.path}: smp cannot build this network ({one_line(error)})") from None


def _numbers(value: object) -> list[float]:
    """Return the numbers in an argument."""
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, int | float) else []
