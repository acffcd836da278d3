"""Write the pictures of docs/augmentation.md: one sheet for each level, for a file and for each way of mixing.

    python docs/write_augmentation.py

The sheets are those of `run_single.py --preview-augmentation` on the demo data, made smaller and written as JPEG.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "augmentation"
TILES, WIDTH, QUALITY = 2, 800, 80
SHEETS = {
    **{level: ["-a", level] for level in ("safe", "light", "medium", "hard")},
    "my": ["-a", str(PAGE / "my.yaml")],
    "cutmix": ["-a", "safe", "--mix", "cutmix", "--mix-probability", "1"],
    "copy_paste": ["-a", "safe", "--mix", "copy_paste", "--mix-probability", "1"],
}


def main() -> None:
    """Write all sheets."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, flags in SHEETS.items():
            logs = Path(scratch) / name
            run = [sys.executable, str(ROOT / "run_single.py"), "-d", "data/demo", "--channels", "nir", *flags]
            preview = ["--preview-augmentation", str(TILES), "--log-dir", str(logs)]
            subprocess.run([*run, *preview], cwd=scratch, check=True)
            (made,) = logs.glob("*.png")
            sheet = cv2.imread(str(made))
            assert sheet is not None
            height = round(sheet.shape[0] * WIDTH / sheet.shape[1])
            small = cv2.resize(sheet, (WIDTH, height), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(PAGE / f"{name}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
