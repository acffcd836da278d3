"""What is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.errors import InputError
from segtune.training.resolve import check_input, check_run
from tests.training.runs import (
    run,
    small_unet,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def refusal(config: RunConfig) -> list[str]:
    with pytest.raises(InputError) as caught:
        check_run(config)
    return caught.value.mistakes


def test_check_run_names_an_unknown_encoder_and_an_impossible_pair(tiles: Path) -> None:
    assert "did you mean 'resnet18'?" in refusal(small_unet(tiles, encoder="resnet81"))[0]
    assert "linknet" in refusal(small_unet(tiles, model="linknet", encoder="mit_b0", decoder_channels=None))[0]
    assert "image_size 48" in refusal(small_unet(tiles, model="fpn", image_size=48, decoder_channels=None))[0]
    check_run(small_unet(tiles))


def test_a_class_cannot_be_a_second_background(tiles: Path) -> None:
    config = small_unet(tiles, classes=[255], class_names=["Background"])
    with pytest.raises(InputError) as caught:
        check_input(config, scan(config))
    assert caught.value.mistakes == [
        "class_names: label 255 is named 'Background', but pixels that classes and ignore do not list are background "
        "already; give it another name"
    ]
    every = small_unet(tiles, classes=[0, 255], class_names=["background", "water"])
    assert not scan(every).labels.background
    check_input(every, scan(every))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(tiles: Path, tmp_path: Path) -> None:
    for device in ("cuda", "cuda:3"):
        (message,) = refusal(small_unet(tiles, device=device))
        assert message.startswith("device: ")
        assert device in message
    (message,) = refusal(small_unet(tiles, device="auto", precision="fp16"))
    assert message.startswith("precision: ")
    with pytest.raises(InputError):
        run(small_unet(tiles, device="cuda"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
