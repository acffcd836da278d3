"""What the checks on a GPU share: demo tiles, runs that several of them look at, and what a check finds."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rasterio.errors import NotGeoreferencedWarning

from segtune.config import RunConfig
from segtune.data.scan import scan
from segtune.files.folders import RunFolder
from segtune.training.result import EpochResult
from segtune.training.train import train

SCRIPTS = Path(__file__).absolute().parent.parent
CPU = torch.device("cpu")
MB = 1e6
PROCESS_S = 150  # that a script may take


@dataclass(frozen=True)
class Outcome:
    """The result of a check; `ok` is None where the check cannot run here."""

    ok: bool | None
    text: str
    figures: dict[str, Any] = field(default_factory=dict)
    left: bool = False  # the time was up before it was done


NEEDS_GPU = Outcome(None, "needs a GPU")


@dataclass
class Bench:
    """What the checks share: a folder with demo tiles, the device, and the runs that several of them look at."""

    root: Path
    device: torch.device
    small: bool  # as little as shows that the script runs
    done: dict[str, list[EpochResult]] = field(default_factory=dict)

    @property
    def gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def demo(self) -> Path:
        """The demo data set."""
        return self.root / "demo"

    @property
    def epochs(self) -> int:
        """The epochs after which a run has learnt something."""
        return 2 if self.small else 6

    def config(self, **settings: Any) -> RunConfig:
        """Return the configuration of a run on the demo tiles."""
        usual: dict[str, Any] = {"dataset": str(self.demo), "cache_dir": str(self.root / "cache"), "channels": ["nir"]}
        usual |= {"model": "unet", "encoder": "resnet18", "image_size": 64, "batch_size": 4, "lr": 3e-3, "seed": 1}
        usual["encoder_weights"] = "none"
        usual |= {"augmentation": "safe", "workers": 0, "worst": 0, "epochs": self.epochs, "device": str(self.device)}
        return RunConfig.from_settings(usual | settings)

    def folder(self, name: str) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.root / "runs" / name)

    def train(self, name: str, go_on: bool = False, **settings: Any) -> list[EpochResult]:
        """Train a run to its end."""
        config = self.config(**settings)
        with closing(train(config, scan(config), self.folder(name), go_on=go_on)) as epochs:
            return list(epochs)

    def learnt(self, name: str, **settings: Any) -> list[EpochResult]:
        """Train a run to its end once, and return its epochs to all checks that ask."""
        if name not in self.done:
            self.done[name] = self.train(name, **settings)
        return self.done[name]


def off(value: float, reference: float) -> float:
    """Return the relative difference to a reference."""
    return abs(value - reference) / max(abs(reference), 1e-12)


def script(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / arguments[0]), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_S, check=False)


def complaint(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the last words of a script that failed; empty for one that did not."""
    return "" if ended.returncode == 0 else f"; {' '.join(ended.stderr.split())[-300:]}"


@contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """Collect the distinct warnings of the block, one line each."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries, for those who write them
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the stand-in tiles are not
        yield lines
    lines += dict.fromkeys(
        f"{entry.category.__name__}: {' '.join(str(entry.message).split())[:160]}" for entry in caught
    )
