"""What the decoder of each architecture takes: a width, attention, dropout; and smp's names for these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from segtune.mistakes import clash

_STAGES = 5  # of a decoder like that of U-Net
_IN_STAGES = ("unet", "unetplusplus", "manet")
_LEAST_FOR_SCSE = 16  # it squeezes channels to a sixteenth
_FPN_STRIDE = 32
_FPN_STEP = 64  # half of the width goes through group normalization with 32 groups
# smp's name of the width; linknet has none, because its decoder has the channels of the encoder.
WIDTH = {
    **dict.fromkeys((*_IN_STAGES, "deeplabv3", "deeplabv3plus", "pan", "upernet"), "decoder_channels"),
    "fpn": "decoder_pyramid_channels",
    "pspnet": "psp_out_channels",
    "segformer": "decoder_segmentation_channels",
    "dpt": "decoder_fusion_channels",
}
ATTENTION = ("unet", "unetplusplus")  # the architectures that take it
DROPOUT = {
    "fpn": "decoder_dropout",
    "pspnet": "psp_dropout",
    "deeplabv3": "decoder_aspp_dropout",
    "deeplabv3plus": "decoder_aspp_dropout",
}


@dataclass(frozen=True)
class Decoder:
    """The settings of a decoder: where one is None, or attention is none, the architecture keeps its own."""

    model: str
    channels: int | Sequence[int] | None
    attention: str
    dropout: float | None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of smp's architecture that the settings stand for."""
        arguments: dict[str, Any] = {}
        if self.channels is not None:
            arguments[WIDTH[self.model]] = self._stages() if self.model in _IN_STAGES else self.channels
        if self.model == "fpn" and isinstance(self.channels, int):
            arguments["decoder_segmentation_channels"] = self.channels // 2
        if self.attention != "none":
            arguments["decoder_attention_type"] = self.attention
        if self.dropout is not None:
            arguments[DROPOUT[self.model]] = self.dropout
        return arguments

    def too_small(self, image_size: int) -> str | None:
        """Return why a decoder of this width does not take images of this side; None if it does."""
        # FPN normalizes groups of channels at 1/32 of the side; a group of one channel needs more than one pixel.
        if self.model == "fpn" and self.channels == _FPN_STEP and image_size < 2 * _FPN_STRIDE:
            return f"image_size {image_size} is below {2 * _FPN_STRIDE}, which model fpn with decoder_channels 64 needs"
        return None

    def clash(self) -> PydanticCustomError | None:
        """Return the error for a setting that the architecture does not take; None if it takes all."""
        model = self.model
        if self.attention != "none" and model not in ATTENTION:
            text = f"decoder_attention {self.attention} is for {' and '.join(ATTENTION)}, not for model {model}"
            return clash(text, "decoder_attention", "model")
        if self.dropout is not None and model not in DROPOUT:
            text = f"model {model} takes no dropout, as {', '.join(DROPOUT)} do; leave it out"
            return clash(text, "dropout", "model")
        return self._channels_clash()

    def _channels_clash(self) -> PydanticCustomError | None:
        model, channels, text = self.model, self.channels, None
        if channels is None:
            return None
        if model not in WIDTH:
            text = f"model {model} takes no decoder_channels: its decoder has the channels of its encoder"
        elif not isinstance(channels, int) and model not in _IN_STAGES:
            text = f"decoder_channels is a list, but the decoder of model {model} has one width; give a number"
        elif isinstance(channels, int) and model == "fpn" and channels % _FPN_STEP:
            text = f"decoder_channels {channels} is not a multiple of {_FPN_STEP}, which model fpn needs"
        if text:
            return clash(text, "decoder_channels", "model")
        if self.attention == "scse" and (narrowest := min(self._stages())) < _LEAST_FOR_SCSE:
            text = f"decoder_attention scse needs {_LEAST_FOR_SCSE} channels in each stage of the decoder"
            text = f"{text}, but decoder_channels {channels} leaves {narrowest}"
            return clash(text, "decoder_attention", "decoder_channels")
        return None

    def _stages(self) -> list[int]:
        """Return the channels of each stage; from a number, each stage has half of those of the one before."""
        if isinstance(self.channels, int):
            return [self.channels >> stage for stage in range(_STAGES)]
        return list(self.channels or ())
