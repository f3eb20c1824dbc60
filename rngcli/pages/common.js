"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
// Of ARIA the attributes are set: not every browser knows the properties.
const describe = (node, words) => {
  for (const [key, value] of Object.entries(words)) node.setAttribute(key.replace(/^aria/, "aria-").toLowerCase(), value);
  return node;
};
const el = (name, props = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (key === "role" || key.startsWith("aria")) describe(node, { [key]: value });
    else node[key] = value;
  }
  node.append(...children.filter((c) => c !== null));
  return node;
};
const svg = (name, attributes = {}, text = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};
// JSON has no infinity, which is the PSNR of a picture that equals its truth.
const finite = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
const number = (value, digits) => {
  if (value === null || value === undefined) return "n/a";
  return Number.isFinite(value) ? value.toFixed(digits) : value < 0 ? "−∞" : "∞";
};
const signed = (value, digits) => (value > 0 ? "+" : "") + number(value, digits);
const options = (select, values) => select.replaceChildren(...values.map((v) => el("option", { value: v, textContent: v })));

// A table that is wider than the screen says so, and takes the keyboard.
const widths = new ResizeObserver((entries) => entries.forEach(({ target }) => {
  const box = target.classList.contains("scroll") ? target : target.parentElement;
  const wider = box.scrollWidth > box.clientWidth + 1;
  box.classList.toggle("wider", wider);
  if (wider) box.tabIndex = 0; else box.removeAttribute("tabindex");
}));
function scrolling(content, label, more = "") {
  const box = el("div", { className: `scroll ${more}`, ariaLabel: label, role: "region" }, content);
  widths.observe(box);
  widths.observe(content);
  const hint = el("p", { className: "hint", textContent: "← more columns: swipe, or use the arrow keys →" });
  return [box, hint];
}

// --- one picture over another, with a border to pull ---------------------------------------------------------------

class Comparison {
  constructor(label) {
    this.position = 0.5;
    this.right = el("img", { draggable: false, alt: "" });
    this.left = el("img", { draggable: false, alt: "" });
    this.map = svg("svg", { "aria-hidden": "true" });
    this.handle = el("div", { className: "handle", role: "slider", tabIndex: 0, ariaLabel: label, ariaValueMin: "0", ariaValueMax: "100" });
    this.element = el("div", { className: "stage" }, this.right, this.left, this.map, this.handle);
    const drag = (event) => this.move((event.clientX - this.element.getBoundingClientRect().left) / this.element.clientWidth);
    this.element.addEventListener("pointerdown", (event) => { this.element.setPointerCapture(event.pointerId); drag(event); });
    this.element.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
    this.handle.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.2, PageUp: 0.2, Home: -1, End: 1 }[event.key];
      if (by) { event.preventDefault(); this.move(this.position + by); }
    });
  }

  // left, right: { uri, alt, name }; width and height: of the box, in CSS pixels or as a CSS length.
  show(left, right, width, height, pixelated = false) {
    for (const [image, side] of [[this.left, left], [this.right, right]]) {
      image.src = side.uri;
      image.alt = side.alt;
      image.style.imageRendering = pixelated ? "pixelated" : "auto";
    }
    this.names = [left.name, right.name];
    const length = (v) => (typeof v === "number" ? `${v}px` : v);
    Object.assign(this.element.style, { width: length(width), height: length(height) });
    this.move(this.position);
    return this;
  }

  // As wide as there is room, at most `most` CSS pixels.
  fluid(width, height, most) {
    Object.assign(this.element.style, { width: "100%", height: "auto", maxWidth: `${most}px`, aspectRatio: `${width} / ${height}` });
    return this;
  }

  move(position) {
    this.position = Math.min(1, Math.max(0, position));
    const percent = this.position * 100;
    this.left.style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
    this.handle.style.left = `${percent}%`;
    const [left, right] = this.names ?? ["", ""];
    describe(this.handle, { ariaValueNow: Math.round(percent), ariaValueText: `${Math.round(percent)} % ${left}, the rest ${right}` });
  }

  // How much detail each tile got: shares in [0, 1] between borders in pixels of a picture of width × height.
  tiles(shares, columns, rows, width, height) {
    this.map.replaceChildren();
    this.map.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.map.setAttribute("preserveAspectRatio", "none");
    shares.forEach((line, i) => line.forEach((share, j) => {
      const [x, y] = [columns[j], rows[i]];
      const [w, h] = [columns[j + 1] - x, rows[i + 1] - y];
      const tile = svg("rect", { x, y, width: w, height: h, fill: ramp(share), "fill-opacity": 0.62, stroke: "#fff", "stroke-opacity": 0.4, "vector-effect": "non-scaling-stroke" });
      tile.append(svg("title", {}, `${Math.round(100 * share)} %`));
      this.map.append(tile);
    }));
  }
}

// Dark to bright, rising in lightness, so that it reads in grey: the colours of --step-map.
const RAMP = [[13, 8, 51], [89, 18, 110], [184, 56, 84], [242, 140, 38], [252, 242, 166]];
function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1), k = Math.min(Math.floor(at), RAMP.length - 2);
  return `rgb(${RAMP[k].map((c, i) => Math.round(c + (at - k) * (RAMP[k + 1][i] - c))).join(",")})`;
}
const legend = () => el("span", { className: "legend" }, "only the reconstruction", el("i", { role: "img", ariaLabel: "from dark to bright" }), "most detail");

// --- a table that sorts by its heads -------------------------------------------------------------------------------

// columns: { head, of(row), digits, text }; an empty value comes last, whichever way.
class SortedTable {
  constructor(table, columns) {
    Object.assign(this, { table, columns, column: 0, down: false, rows: [] });
    table.tHead.append(el("tr", {}, ...columns.map((column, i) => {
      const button = el("button", { type: "button", textContent: column.head });
      button.addEventListener("click", () => { this.down = this.column === i && !this.down; this.column = i; this.fill(this.rows); });
      return el("th", { scope: "col", className: column.text ? "text" : "" }, button);
    })));
  }

  fill(rows) {
    this.rows = rows;
    const value = this.columns[this.column].of;
    const rank = (a, b) => {
      const [p, q] = [value(a) ?? null, value(b) ?? null];
      if (p === null || q === null) return (p === null) - (q === null);
      if (p === q) return 0;
      return (this.down ? -1 : 1) * (typeof p === "string" ? p.localeCompare(q, "en", { numeric: true }) : p - q);
    };
    this.table.tBodies[0].replaceChildren(...[...rows].sort(rank).map((r) => el("tr", {}, ...this.columns.map((c) =>
      el("td", { className: c.text ? "text" : "", textContent: c.text ? c.of(r) ?? "" : number(c.of(r), c.digits) })))));
    [...this.table.tHead.rows[0].cells].forEach((cell, i) => {
      describe(cell, { ariaSort: i === this.column ? (this.down ? "descending" : "ascending") : "none" });
      cell.firstChild.textContent = this.columns[i].head + (i === this.column ? (this.down ? " ▼" : " ▲") : "");
    });
  }
}
