"use strict";
// The page is complete without this program: it adds sorting, pointing, selecting and enlarging.
const all = (what, where = document) => [...where.querySelectorAll(what)];
const tips = JSON.parse(document.getElementById("trials-json")?.textContent || "{}");
const tip = document.getElementById("tip");
let pinned = null;

// Tables: a click on a heading sorts; numbers come from data-sort, texts are compared as people write them.
for (const table of all("table.sortable")) {
  all("thead th", table).forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down < 0 ? "descending" : "ascending");
      const key = (row) => row.cells[column]?.dataset.sort ?? row.cells[column]?.textContent.trim() ?? "";
      const rows = all("tbody tr", table).sort((a, b) => down * compare(key(a), key(b)));
      table.tBodies[0].append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
}
function compare(a, b) {
  const [x, y] = [parseFloat(a), parseFloat(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? String(a).localeCompare(String(b), "en", { numeric: true }) : x - y;
}

// Trials: all marks of a trial, in every chart and in the table, light up together.
function light(trial) {
  document.body.classList.toggle("dim", trial !== null);
  all("[data-t].on").forEach((mark) => mark.classList.remove("on"));
  if (trial !== null) all(`[data-t="${trial}"]`).forEach((mark) => mark.classList.add("on"));
}
function say(trial, event) {
  tip.hidden = trial === null;
  if (trial === null) return;
  tip.textContent = tips[trial];
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
  tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
}
function nearest(frame, event) {
  const [x, y] = [event.clientX, event.clientY];
  let found = null, least = 18;
  for (const mark of all("[data-t]:not(.off)", frame)) {
    const away = mark.tagName === "circle" ? fromDot(mark, x, y) : fromLine(mark, x, y);
    if (away < least) [found, least] = [mark.dataset.t, away];
  }
  return found;
}
function fromDot(dot, x, y) {
  const box = dot.getBoundingClientRect();
  return Math.hypot(box.x + box.width / 2 - x, box.y + box.height / 2 - y) - 3;
}
function fromLine(line, x, y) {
  const grid = line.ownerSVGElement, matrix = grid.getScreenCTM();
  let least = Infinity, last = null;
  for (const point of line.points) {
    const here = point.matrixTransform(matrix);
    if (last) {
      const [dx, dy] = [here.x - last.x, here.y - last.y];
      const along = Math.max(0, Math.min(1, ((x - last.x) * dx + (y - last.y) * dy) / (dx * dx + dy * dy || 1)));
      least = Math.min(least, Math.hypot(last.x + along * dx - x, last.y + along * dy - y));
    }
    last = here;
  }
  return least;
}
for (const frame of all(".frame")) {
  frame.addEventListener("pointermove", (event) => {
    const trial = nearest(frame, event);
    light(trial ?? pinned);
    say(trial, event);
  });
  frame.addEventListener("pointerleave", (event) => { light(pinned); say(null, event); });
  frame.addEventListener("click", (event) => { pinned = nearest(frame, event); light(pinned); });
}
for (const row of all("tr[data-t]")) {
  row.addEventListener("click", () => { pinned = pinned === row.dataset.t ? null : row.dataset.t; light(pinned); });
}
addEventListener("scroll", () => { if (tip) tip.hidden = true; }, { passive: true });

// Charts: dragging over a part enlarges it. Places are percent; the ticks are computed anew.
for (const chart of all(".chart")) {
  const frame = chart.querySelector(".frame"), lines = chart.querySelector(".lines");
  const dots = all(".dots circle", chart).map((dot) => [dot, parseFloat(dot.getAttribute("cx")), 100 - parseFloat(dot.getAttribute("cy"))]);
  const range = { x: chart.dataset.x.split(" ").map(Number), y: chart.dataset.y.split(" ").map(Number) };
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "show all", hidden: true });
  chart.querySelector("h3").append(button);
  let view = { x: [0, 100], y: [0, 100] }, start = null, box = null;
  const inView = (axis, place) => (100 * (place - view[axis][0])) / (view[axis][1] - view[axis][0]);
  const show = (next) => {
    view = next;
    const whole = view.x[0] === 0 && view.x[1] === 100 && view.y[0] === 0 && view.y[1] === 100;
    button.hidden = whole;
    chart.classList.toggle("zoomed", !whole);
    lines.setAttribute("viewBox", `${view.x[0]} ${100 - view.y[1]} ${view.x[1] - view.x[0]} ${view.y[1] - view.y[0]}`);
    for (const [dot, x, y] of dots) { dot.setAttribute("cx", `${inView("x", x)}%`); dot.setAttribute("cy", `${100 - inView("y", y)}%`); }
    for (const [axis, side] of [["x", "left"], ["y", "bottom"]]) {
      const [low, high] = view[axis].map((place) => range[axis][0] + (place / 100) * (range[axis][1] - range[axis][0]));
      chart.querySelector(`.ticks.${axis}`).replaceChildren(...round(low, high, chart.id !== "chart-time" && axis === "x").map(([value, text]) => {
        const tick = Object.assign(document.createElement("span"), { textContent: text });
        tick.style[side] = `${(100 * (value - low)) / (high - low)}%`;
        return tick;
      }));
    }
  };
  button.addEventListener("click", () => show({ x: [0, 100], y: [0, 100] }));
  const at = (event) => {
    const edge = frame.getBoundingClientRect(), inside = (part) => Math.max(0, Math.min(100, 100 * part));
    return [inside((event.clientX - edge.left) / edge.width), inside((edge.bottom - event.clientY) / edge.height)];
  };
  frame.classList.add("drag");
  frame.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" || event.button) return;
    start = at(event);
    box = Object.assign(document.createElement("div"), { className: "box" });
    frame.append(box);
    event.preventDefault();
  });
  addEventListener("pointermove", (event) => {
    if (!start) return;
    const end = at(event);
    Object.assign(box.style, { left: `${Math.min(start[0], end[0])}%`, right: `${100 - Math.max(start[0], end[0])}%`,
      bottom: `${Math.min(start[1], end[1])}%`, top: `${100 - Math.max(start[1], end[1])}%` });
  });
  addEventListener("pointerup", (event) => {
    if (!start) return;
    const end = at(event), part = (axis, a, b) => [Math.min(a, b), Math.max(a, b)].map((place) => view[axis][0] + (place / 100) * (view[axis][1] - view[axis][0]));
    box.remove();
    if (Math.abs(end[0] - start[0]) > 2 && Math.abs(end[1] - start[1]) > 2) show({ x: part("x", start[0], end[0]), y: part("y", start[1], end[1]) });
    start = null;
  });
}
function round(low, high, whole) {
  let step = 10 ** Math.floor(Math.log10((high - low) / 6));
  step *= [1, 2, 5, 10].find((factor) => (high - low) / (step * factor) <= 6);
  if (whole) step = Math.max(1, step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), found = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + 1e-9 * step; number++) found.push([number * step, (number * step).toFixed(digits)]);
  return found;
}

// Settings side by side: dragging along an axis leaves only the trials that pass there.
const chosen = new Map();
function choose() {
  for (const line of all("#sides polyline")) {
    const points = [...line.points];
    const off = [...chosen].some(([axis, [low, high]]) => { const place = 100 - points[axis].y; return place < low || place > high; });
    all(`[data-t="${line.dataset.t}"]`).forEach((mark) => mark.classList.toggle("off", off));
  }
}
all("#sides .side").forEach((side, axis) => {
  let from = null;
  const place = (event) => { const edge = side.getBoundingClientRect(); return Math.max(-2, Math.min(102, (100 * (edge.bottom - event.clientY)) / edge.height)); };
  const mark = Object.assign(document.createElement("div"), { className: "brush" });
  side.addEventListener("pointerdown", (event) => { from = place(event); side.setPointerCapture(event.pointerId); side.append(mark); event.preventDefault(); });
  side.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = place(event), [low, high] = [Math.min(from, to), Math.max(from, to)];
    Object.assign(mark.style, { bottom: `${low}%`, top: `${100 - high}%` });
    if (high - low > 1) { chosen.set(axis, [low, high]); choose(); }
  });
  side.addEventListener("pointerup", () => { from = null; });
  side.addEventListener("dblclick", () => { chosen.clear(); all(".brush").forEach((one) => one.remove()); choose(); });
});

// Print: everything is open.
let opened = [];
addEventListener("beforeprint", () => { opened = all("details:not([open])"); opened.forEach((one) => { one.open = true; }); });
addEventListener("afterprint", () => opened.forEach((one) => { one.open = false; }));
