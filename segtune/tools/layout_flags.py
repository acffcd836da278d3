"""The flags of the tools that say how a data set lies in its folder."""

from __future__ import annotations

import argparse


def layout_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how a data set lies in its folder."""
    parser.add_argument("--images-dir", default="images", metavar="NAME", help="folder of images in a split [images]")
    parser.add_argument("--masks-dir", default="gt", metavar="NAME", help="folder of masks in a split [gt]")
