"""Settings of the decoder: which architecture takes which, and what smp is told."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
import segmentation_models_pytorch as smp

from segtune.config import RunConfig
from segtune.errors import InputError
from segtune.vocabulary import Architecture

ARCHITECTURES = get_args(Architecture)
SMP = {model: inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[model].__init__).parameters for model in ARCHITECTURES}


def arguments(**settings: Any) -> dict[str, Any]:
    return RunConfig.from_settings(settings).decoder.arguments()


def mistake(**settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        RunConfig.from_settings(settings)
    (line,) = caught.value.mistakes
    return line


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_an_architecture_keeps_its_own_unless_told_otherwise(model: str) -> None:
    assert arguments(model=model) == {}


@pytest.mark.parametrize("settings", [{"decoder_channels": 128}, {"decoder_attention": "scse"}, {"dropout": 0.1}])
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_an_argument_exists_in_smp_or_its_setting_is_refused(model: str, settings: dict[str, Any]) -> None:
    (name,) = settings
    settings = {"decoder_channels": 256} | settings if name == "decoder_attention" else settings
    part = name if name == "dropout" else name.removeprefix("decoder_")
    taking = [given for given in SMP[model] if part in given and given not in ("classes", "in_channels")]
    if model == "manet":
        taking = [given for given in taking if "pab" not in given]
    if model == "linknet" or (name != "decoder_channels" and not taking):
        assert model in mistake(model=model, **settings)
    else:
        assert arguments(model=model, **settings).keys() <= SMP[model].keys()
        assert arguments(model=model, **settings)


def test_a_number_is_the_width_and_stages_halve_it() -> None:
    assert arguments(model="unet", decoder_channels=128) == {"decoder_channels": [128, 64, 32, 16, 8]}
    assert arguments(model="unet", decoder_channels=256)["decoder_channels"] == [256, 128, 64, 32, 16]  # smp's own
    assert arguments(model="manet", decoder_channels=[64, 32, 32, 16, 16])["decoder_channels"] == [64, 32, 32, 16, 16]
    wide = {"decoder_pyramid_channels": 256, "decoder_segmentation_channels": 128}  # smp's own
    assert arguments(model="fpn", decoder_channels=256) == wide
    assert arguments(model="pspnet", decoder_channels=512, dropout=0.4) == {"psp_out_channels": 512, "psp_dropout": 0.4}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"model": "unet", "dropout": 0.1}, "model unet takes no dropout, as fpn, pspnet, deeplabv3, deeplabv3plus do"),
        ({"model": "fpn", "decoder_attention": "scse"}, "decoder_attention scse is for unet and unetplusplus"),
        ({"model": "fpn", "decoder_channels": 64, "image_size": 32}, "image_size 32 is below 64, which model fpn with"),
        ({"model": "fpn", "decoder_channels": 100}, "decoder_channels 100 is not a multiple of 64, which model fpn"),
        ({"model": "linknet", "decoder_channels": 100}, "model linknet takes no decoder_channels"),
        ({"model": "pan", "decoder_channels": [16] * 5}, "decoder_channels is a list, but the decoder of model pan"),
        (
            {"model": "unet", "decoder_channels": 128, "decoder_attention": "scse"},
            "decoder_attention scse needs 16 channels in each stage of the decoder, but decoder_channels 128 leaves 8",
        ),
        ({"decoder_channels": [1, 2]}, "decoder_channels: must be a whole number from 16 to 4096, or a list of 5"),
        ({"decoder_channels": 8}, "decoder_channels: must be a whole number from 16 to 4096, or a list of 5"),
        ({"decoder_channels": 64.0}, "decoder_channels: must be a whole number from 16 to 4096, or a list of 5"),
        ({"decoder_channels": True}, "decoder_channels: must be a whole number from 16 to 4096, or a list of 5"),
        ({"model": "fpn", "dropout": 1}, "dropout: must be less than 1"),
    ],
)
def test_what_cannot_be_is_one_clear_line(settings: dict[str, Any], line: str) -> None:
    assert mistake(**settings).startswith(line)
