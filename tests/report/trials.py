"""Three finished trials, to be shown in tables and lines."""

from __future__ import annotations

from segtune.trials import Trial

_ENCODERS = ("resnet18", "tu-mobilenetv3_small_100", "efficientnet-b0")
TRIALS = [
    Trial(
        number,
        "finished",
        {"epochs": 12},
        epochs_done=12,
        miou=0.9123 - number / 100,
        best_epoch=3,
        seconds=62.0,
        parameters=24_400_000,
        searched={
            "encoder": _ENCODERS[number],
            "loss": "dice+bce",
            "optimizer": "adamw",
            "lr": 0.0012,
            "momentum": 0.95,
            "augmentation": "hard",
            "batch_size": 16,
        },
        origin="sampler" if number else "baseline",
    )
    for number in range(3)
]
