"""Print how much a plotting library would add to each page of a search, and what the page's own program takes.

    npm pack --pack-destination FOLDER plotly.js-basic-dist-min vega vega-lite vega-embed echarts uplot
    python benchmarks/page_libraries.py FOLDER

The packages are read as npm packed them, and nothing of them is run. docs/report.md has the table.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tarfile
from pathlib import Path

# What a page would hold: the files of each library that it needs.
LIBRARIES = {
    "Plotly, basic bundle": ["plotly.js-basic-dist-min:plotly-basic.min.js"],
    "ECharts": ["echarts:dist/echarts.min.js"],
    "Vega-Lite (Altair)": [
        "vega:build/vega.min.js",
        "vega-lite:build/vega-lite.min.js",
        "vega-embed:build/vega-embed.min.js",
    ],
    "uPlot": ["uplot:dist/uPlot.iife.min.js"],
}
TEMPLATES = Path(__file__).resolve().parent.parent / "segtune" / "report" / "templates"


def packages(folder: Path) -> dict[str, tuple[tarfile.TarFile, str]]:
    """Return the packed packages of a folder and their versions, by name."""
    found = {}
    for path in sorted(folder.glob("*.tgz")):
        archive = tarfile.open(path)  # noqa: SIM115 - read below
        described = archive.extractfile("package/package.json")
        assert described is not None
        content = json.load(described)
        found[content["name"]] = (archive, content["version"])
    return found


def row(name: str, parts: list[bytes], versions: str) -> str:
    whole = b"".join(parts)
    return f"| {name} | {versions} | {len(whole) / 1000:,.0f} kB | {len(gzip.compress(whole, 9)) / 1000:,.0f} kB |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    known = packages(parser.parse_args().folder)
    print("| library | version | in the page | compressed |\n|---|---|---|---|")
    for name, files in LIBRARIES.items():
        parts, versions = [], []
        for package, _, path in (file.partition(":") for file in files):
            archive, version = known[package]
            content = archive.extractfile(f"package/{path}")
            assert content is not None
            parts.append(content.read())
            versions.append(version)
        print(row(name, parts, ", ".join(versions)))
    print(row("none: the page's own style and program", [path.read_bytes() for path in TEMPLATES.glob("page.*")], ""))


if __name__ == "__main__":
    main()
