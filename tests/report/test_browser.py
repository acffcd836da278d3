"""The page in a browser: it is interactive, fits a phone, follows a dark desktop and opens everything for print."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from segtune.report.page import page
from tests.report.reports import report, trials

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium"),
]
# Runs in the page before its own program, and after it.
_BEFORE = "<script>window.found = {errors: []}; onerror = (text) => found.errors.push(text);</script>"
_AFTER = """<script>
const put = (name, value) => { found[name] = value; };
const fire = (target, kind, x, y, more) => target.dispatchEvent(new PointerEvent(kind,
  {clientX: x, clientY: y, bubbles: true, pointerId: 1, pointerType: "mouse", button: 0, ...more}));
const column = (number) => all("#all-trials tbody tr").map((row) => row.cells[number].textContent);
put("width", innerWidth);
put("overflow", document.documentElement.scrollWidth - innerWidth);
put("paper", getComputedStyle(document.body).backgroundColor);
const heads = all("#all-trials thead th");
heads[1].click(); put("down", column(1));
heads[1].click(); put("up", column(1));
heads[2].click(); put("states", column(2));
document.querySelector('#all-trials tr[data-t="3"]').click();
put("lit", all("[data-t].on").map((mark) => [mark.tagName, mark.dataset.t]));
const chart = document.querySelector("#chart-trials"), frame = chart.querySelector(".frame");
frame.scrollIntoView();
const edge = frame.getBoundingClientRect(), view = () => chart.querySelector(".lines").getAttribute("viewBox");
fire(frame, "pointerdown", edge.x + edge.width / 4, edge.y + edge.height / 4);
fire(frame, "pointermove", edge.x + edge.width / 2, edge.y + edge.height / 2);
fire(frame, "pointerup", edge.x + edge.width / 2, edge.y + edge.height / 2);
put("zoomed", view()); put("ticks", all(".ticks.x span", chart).map((tick) => tick.textContent));
chart.querySelector("button").click(); put("whole", view());
const dot = chart.querySelector('circle[data-t="4"]').getBoundingClientRect();
fire(frame, "pointermove", dot.x + dot.width / 2, dot.y + dot.height / 2); put("tip", tip.textContent);
const side = all("#sides .side").at(-1), span = side.getBoundingClientRect();
fire(side, "pointerdown", span.x, span.top - 1); fire(side, "pointermove", span.x, span.top + span.height / 4);
fire(side, "pointerup", span.x, span.top + span.height / 4);
put("off", all("#sides polyline.off").length);
dispatchEvent(new Event("beforeprint")); put("closed", all("details:not([open])").length);
const told = Object.assign(document.createElement("pre"), {id: "found", textContent: JSON.stringify(found)});
parent.document.body.append(told);
</script>"""


def seen(folder: Path, width: int, *flags: str) -> dict[str, Any]:
    """Return what the program of the test found in the page, in a frame: a window has at least 500 pixels."""
    html = page(report()).replace("</title>", f"</title>{_BEFORE}", 1).replace("</body>", f"{_AFTER}</body>", 1)
    path = folder / "page.html"
    frame = f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{escape(html)}"></iframe>'
    path.write_text(f"<!doctype html><body>{frame}</body>", encoding="utf-8")
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    shown = subprocess.run(
        [*command, f"--window-size={width + 100},1000", *flags, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    text = re.search(r'<pre id="found">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert text, shown.stderr
    found: dict[str, Any] = json.loads(unescape(text[1]))
    assert found["errors"] == []
    assert found["width"] == width
    return found


def test_the_page_sorts_selects_enlarges_and_tells(tmp_path: Path) -> None:
    found = seen(tmp_path, 1440)
    assert found["down"] == sorted(found["down"], reverse=True)
    assert found["up"] == sorted(found["up"])
    assert found["states"] == sorted(found["states"], reverse=True)
    assert {trial for _, trial in found["lit"]} == {"3"}
    assert {tag.lower() for tag, _ in found["lit"]} == {"tr", "circle", "polyline"}
    left, top, width, height = map(float, found["zoomed"].split())
    assert (left, top, width, height) == pytest.approx((25, 25, 25, 25), abs=1)
    assert found["ticks"] == ["3", "4", "5"]
    assert found["whole"] == "0 0 100 100"
    assert found["tip"].startswith("#4 (sampler)  mIoU 0.6000\nfinished")
    assert 0 < found["off"] < len(trials())
    assert found["closed"] == 0


@pytest.mark.parametrize("width", [390, 820])
def test_the_page_is_not_wider_than_the_screen(tmp_path: Path, width: int) -> None:
    assert seen(tmp_path, width)["overflow"] <= 0


def test_the_page_is_dark_where_the_desktop_is(tmp_path: Path) -> None:
    dark = seen(tmp_path, 1440, "--blink-settings=preferredColorScheme=0")["paper"]
    assert max(map(int, re.findall(r"\d+", dark))) < 60
