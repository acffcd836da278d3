"""Networks with settings of the decoder and with stochastic depth: what is built, trained, saved and loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from segtune.config import RunConfig
from segtune.models.build import build_model
from segtune.models.compatibility import incompatibility
from segtune.models.networks import takes_drop_path
from segtune.vocabulary import ENCODERS
from tests.models.networks import ARCHITECTURES, ENCODER, VIT, step

SMALL = {
    "unet": {"decoder_channels": 32},
    "unetplusplus": {"decoder_channels": 256, "decoder_attention": "scse", "encoder": "resnet18"},
    "manet": {"decoder_channels": [32, 24, 16, 8, 4]},
    "linknet": {},
    "fpn": {"decoder_channels": 64, "dropout": 0.0},
    "pspnet": {"decoder_channels": 32, "dropout": 0.5},
    "deeplabv3": {"decoder_channels": 32, "dropout": 0.1},
    "deeplabv3plus": {"decoder_channels": 32, "dropout": 0.1},
    "pan": {"decoder_channels": 16, "image_size": 128},
    "upernet": {"decoder_channels": 32},
    "segformer": {"decoder_channels": 32},
    "dpt": {"decoder_channels": 32, "encoder": VIT},
}


def built(**settings: Any) -> nn.Module:
    config = RunConfig.from_settings({"encoder": ENCODER, "image_size": 64} | settings)
    torch.manual_seed(0)
    return build_model(config, 3, 1)


def widths(network: nn.Module) -> list[int]:
    return [part.out_channels for part in network.get_submodule("decoder").modules() if isinstance(part, nn.Conv2d)]


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_every_decoder_trains_with_the_settings_that_it_takes(model: str) -> None:
    network = built(model=model, **SMALL[model]).train()
    size = SMALL[model].get("image_size", 64)
    assert step(network, torch.optim.SGD(network.parameters(), lr=0.01), 2, size, channels=3) > 0
    if model != "linknet":
        assert sum(widths(network)) != sum(widths(built(model=model, encoder=SMALL[model].get("encoder", ENCODER))))


def rates(network: nn.Module) -> list[float]:
    def found() -> Iterator[float]:
        for module in network.get_submodule("encoder").modules():
            if rate := getattr(module, "drop_prob", 0) or getattr(module, "_drop_connect_rate", 0):
                yield float(rate)

    return list(found())


@pytest.mark.parametrize(
    ("encoder", "own"),
    [("efficientnet-b0", 0.2), ("timm-efficientnet-b0", 0.1875), ("mit_b0", 0.1), (ENCODER, 0.0), ("tu-resnet18", 0.0)],
)
def test_drop_path_is_the_largest_rate_or_else_the_encoders_own(encoder: str, own: float) -> None:
    assert max(rates(built(model="unet", encoder=encoder)), default=0.0) == pytest.approx(own)
    assert max(rates(built(model="unet", encoder=encoder, drop_path=0.5))) == pytest.approx(0.5, rel=0.15)
    assert rates(built(model="unet", encoder=encoder, drop_path=0.0)) == []


@pytest.mark.parametrize("encoder", ["efficientnet-b0", "mit_b0", ENCODER])
def test_drop_path_acts_in_training_alone(encoder: str) -> None:
    network = built(model="unet", encoder=encoder, drop_path=0.6)
    images = torch.randn(2, 3, 64, 64)

    def features() -> torch.Tensor:
        with torch.no_grad():
            return network.get_submodule("encoder")(images)[-1]

    network.eval()
    assert torch.equal(features(), features())
    for module in network.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(features(), features())


def test_an_encoder_without_stochastic_depth_refuses_it() -> None:
    for encoder in ("resnet18", "tu-vgg11", "tu-dla34"):
        message = incompatibility("unet", encoder, 64, 0.1)
        assert message == f"encoder {encoder} takes no drop_path (stochastic depth); leave it out"
        assert incompatibility("unet", encoder, 64) is None
    assert incompatibility("unet", ENCODER, 64, 0.0) is None


@pytest.mark.slow
def test_attention_that_an_encoder_has_too_few_channels_for_is_refused() -> None:
    message = incompatibility("unetplusplus", ENCODER, 64, None, "scse")
    assert message == f"decoder_attention scse does not work with encoder {ENCODER}: it has stages of few channels"
    assert incompatibility("unet", ENCODER, 64, None, "scse") is None
    assert incompatibility("unetplusplus", "tu-resnet18", 64, None, "scse") is None


@pytest.mark.slow
def test_the_list_of_smps_encoders_with_stochastic_depth_is_right() -> None:
    first = {encoder.rstrip("0123456789"): encoder for encoder in reversed(ENCODERS)}
    for encoder in first.values():
        # Rates need no weights; only mit's are computed on the device of the weights.
        with torch.device("cpu" if encoder.startswith("mit") else "meta"):
            found = rates(built(model="pspnet", encoder=encoder))
        assert bool(found) == takes_drop_path(encoder), encoder


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "unet", "decoder_channels": 256, "decoder_attention": "scse", "drop_path": 0.2},
        {"model": "fpn", "decoder_channels": 64, "dropout": 0.3, "encoder": "mit_b0", "drop_path": 0.2},
        pytest.param({"model": "unet", "encoder": "tu-swin_s3_tiny_224", "image_size": 96}, marks=pytest.mark.slow),
    ],
)
def test_a_saved_network_is_the_same_for_smp(tmp_path: Any, settings: dict[str, Any]) -> None:
    network = built(**settings).eval()
    network.config["encoder_weights"] = None  # type: ignore[index,operator,assignment]
    network.save_pretrained(tmp_path)  # type: ignore[operator]
    again = smp.from_pretrained(tmp_path)
    images = torch.randn(1, 3, settings.get("image_size", 64), settings.get("image_size", 64))
    with torch.no_grad():
        torch.testing.assert_close(again(images), network(images), rtol=1e-4, atol=1e-5)
