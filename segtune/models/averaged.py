"""Several networks as one, whose probabilities are the means of theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Averaged(nn.Module):
    """The mean of the class probabilities of several networks with the same inputs and outputs, as logits.

    Parameters
    ----------
    networks: at least one.
    binary: whether they have a single output, whose probability is its sigmoid; else, probabilities are a softmax.
    """

    def __init__(self, networks: Sequence[nn.Module], binary: bool) -> None:
        super().__init__()
        self._networks, self._binary = nn.ModuleList(networks), binary

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (B, outputs, S, S), float32; images are (B, bands, S, S), normalized."""
        logits = torch.stack([network(images).float() for network in self._networks])
        if self._binary:
            return _mean(F.logsigmoid(logits)) - _mean(F.logsigmoid(-logits))
        return _mean(logits.log_softmax(dim=2))


def _mean(logarithms: Tensor) -> Tensor:
    """Return the logarithm of the mean over the first axis, without leaving logarithms: far logits stay exact."""
    return logarithms.logsumexp(dim=0) - math.log(len(logarithms))
