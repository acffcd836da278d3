"""Texts of spaces that several tests read, and two ways to draw from a space."""

from __future__ import annotations

import random
from typing import Any

from segtune.space.parameters import Choice, Range

FULL = """\
dataset: data/demo
classes: [255]
ignore: []
channels: [nir]
run:
  image_size: 128
  epochs: 27
space:
  encoder: [resnet18, mobilenet_v2]
  loss: [dice, dice+bce]
  optimizer:
    adam:
    adamw: {lr: {low: 1e-5, high: 1e-2, log: true}, weight_decay: {low: 1e-6, high: 1e-1, log: true}}
    sgd:   {lr: {low: 1e-4, high: 1e-1, log: true}, momentum: [0.8, 0.9]}
  batch_size: {low: 4, high: 16, step: 4}
search:
  trials: 40
  gpus_per_trial: 0.5
"""


TREE = """\
run: {epochs: 9}
space:
  model: [unet, fpn, segformer]
  encoder: [resnet18, vgg11, vgg16]
  optimizer:
    adamw: {lr: [1e-3, 1e-4]}
    sgd: {lr: {low: 0.1, high: 0.3, step: 0.1}, momentum: [0.8, 0.9]}
baseline: {model: unet, encoder: resnet18}
"""


DEEP = """\
run: {warmup_epochs: 1}
space:
  model:
    unet:
      optimizer:
        sgd:
          lr_schedule:
            poly: {momentum: {low: 0.5, high: 0.9, step: 0.2}}
            constant: {momentum: 0.5}
        adamw: {}
      epochs: {low: 10, high: 30, step: 10}
    fpn: {batch_size: {4: {lr: [1e-3]}, 8: {lr: [2e-3, 4e-3]}}, epochs: [20]}
  freeze_encoder_epochs: {low: 0, high: 2, step: 1}
baseline: {model: unet, epochs: 10}
"""


class Draws:
    """Draws at random and records the values by key."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seen: dict[str, Any] = {}

    def choice(self, parameter: Choice) -> int:
        index = self.random.randrange(len(parameter.values))
        self.seen[parameter.key] = parameter.values[index]
        return index

    def number(self, parameter: Range) -> float | int:
        steps = parameter.steps()
        drawn = self.random.choice(steps) if steps else self.random.uniform(parameter.low, parameter.high)
        self.seen[parameter.key] = round(drawn) if parameter.integer else drawn
        return self.seen[parameter.key]


class Replay:
    """Draws the values that `locate` found."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found

    def choice(self, parameter: Choice) -> int:
        return parameter.values.index(self.found[parameter.key])

    def number(self, parameter: Range) -> float | int:
        return self.found[parameter.key]
