"""Values of a choice that mean the same run."""

from __future__ import annotations

from pathlib import Path

import pytest

from segtune.planning.feasibility import scan_data
from segtune.space.reader import load_space

SAME = "mean the same run on this data; keep one of the two"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("loss: [ce, bce, dice]", [f"note: space.loss: ce and bce {SAME}"]),
        ("loss: [2*ce, bce]", []),
        (
            "model: {unet: {decoder_channels: [64, [64, 32, 16, 8, 4], 32]}, fpn: {}}",
            ["note: space.model.unet.decoder_channels: "],
        ),
        ("image_size: [null, 64, 32]", [f"note: space.image_size: null and 64 {SAME}"]),
        ("lr: [0.001, 0.1], decoder_attention: [none, scse], model: [unet, fpn]", []),
    ],
)
def test_two_values_that_mean_the_same_run_are_told_of(
    tiles: Path, tmp_path: Path, text: str, lines: list[str]
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"dataset: {tiles}\nrun: {{encoder_weights: none}}\nspace: {{{text}}}", encoding="utf-8")
    said: list[str] = []
    scan_data(load_space(path), say=said.append)
    notes = [line for line in said if line.startswith("note: space.")]
    assert len(notes) == len(lines)
    assert all(note.startswith(line) and note.endswith(SAME) for note, line in zip(notes, lines, strict=True))
