"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
// JSON has no infinity, which is the PSNR of a picture that equals its truth.
const finite = (value) => (value === "inf" ? Infinity : value);
for (const row of data.rows) for (const key in row.scores) row.scores[key] = finite(row.scores[key]);
for (const { scores } of data.summary) for (const e of Object.values(scores)) for (const key in e) e[key] = finite(e[key]);
const $ = (id) => document.getElementById(id);
const el = (name, props = {}, ...children) => {
  const node = Object.assign(document.createElement(name), props);
  node.append(...children.filter((c) => c !== null));
  return node;
};
const svg = (name, attributes = {}, text = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};
const colour = (method) => `var(--c${data.methods.indexOf(method) % 8})`;
const number = (value, digits) => (value === null || value === undefined ? "n/a" : value === Infinity ? "∞" : value.toFixed(digits));
const arrow = (metric) => ({ high: "↑", low: "↓", one: "→ 1", zero: "→ 0" })[metric.better];
const worth = (metric, value) => ({ high: value, low: -value, one: -Math.abs(value - 1), zero: -Math.abs(value) })[metric.better];
// A rival of no strength of its own says how strong it came out.
const named = (row) => (row.strength === null || row.strength === undefined || row.method.includes(":")
  ? row.method : `${row.method} (${Number(row.strength.toPrecision(3))})`);

// --- head, protocol -------------------------------------------------------------------------------------------------

function head() {
  $("title").textContent = data.title;
  $("facts").textContent = Object.entries(data.provenance).map(([k, v]) => `${k} ${v}`).join(" · ");
  $("notes").append(...data.notes.map((text) => el("li", { textContent: text })));
}

function protocol() {
  const pairs = [
    ...data.cases.map((c) => [c.name, c.protocol]),
    ...data.metrics.map((m) => [m.label, m.protocol]),
    ...Object.entries(data.provenance),
    ["intervals", "95 %, percentile bootstrap of the mean over pictures, 2000 resamples"],
  ];
  for (const [term, text] of pairs) $("protocol").append(el("dt", { textContent: term }), el("dd", { textContent: text }));
  if (!data.problems.length) return;
  const items = data.problems.map((text) => el("li", { textContent: text }));
  $("problems").append(el("h2", { textContent: `${data.problems.length} problems` }), el("ul", {}, ...items));
}

// --- summary and scatter --------------------------------------------------------------------------------------------

function summary(one) {
  const rows = data.summary.filter((s) => s.case === one.name);
  const best = Object.fromEntries(data.metrics.map((m) => {
    const means = rows.filter((r) => r.scores[m.key]).map((r) => Number(r.scores[m.key].mean.toFixed(m.digits)));
    return [m.key, means.length ? means.reduce((a, b) => (worth(m, b) > worth(m, a) ? b : a)) : null];
  }));
  const cell = (row, m) => {
    const e = row.scores[m.key];
    if (!e) return el("td", { textContent: "n/a" });
    const top = rows.length > 1 && Number(e.mean.toFixed(m.digits)) === best[m.key];
    const equal = e.infinite ? ` + ${e.infinite} ∞` : "";
    const range = el("small", { textContent: `${number(e.low, m.digits)} – ${number(e.high, m.digits)}${equal}` });
    return el("td", { className: top ? "best" : "" }, number(e.mean, m.digits), range);
  };
  const dot = (method) => Object.assign(el("span", { className: "dot" }), { style: `background:${colour(method)}` });
  const heads = ["method", ...data.metrics.map((m) => `${m.label} ${arrow(m)}`), "steps/tile", "s/MP"];
  const body = rows.map((row) => el("tr", {},
    el("td", {}, dot(row.method), named(row)), ...data.metrics.map((m) => cell(row, m)),
    el("td", { textContent: number(row.evaluations, 1) }),
    el("td", { textContent: number(row.seconds_per_megapixel, 2) })));
  const table = el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((h) => el("th", { scope: "col", textContent: h })))), el("tbody", {}, ...body));
  $("cases").append(el("h2", { textContent: one.name }), el("p", { className: "fine", textContent: `${one.pictures} pictures: ${one.protocol}.` }),
    el("div", { className: "scroll" }, table), scatter(one, rows) ?? "");
}

function scatter(one, rows) {
  const has = (m) => rows.some((r) => r.method !== "input" && r.scores[m.key]);
  const first = (key, better) => data.metrics.find((m) => m.key.startsWith(key) && has(m))
    ?? data.metrics.find((m) => m.better === better && has(m));
  const perception = first("lpips", "low"), distortion = first("psnr", "high");
  if (!perception || !distortion) return null;
  const counts = (e) => e && e.mean !== Infinity;
  const points = rows.filter((r) => counts(r.scores[perception.key]) && counts(r.scores[distortion.key]))
    .map((r) => ({ method: r.method, x: r.scores[perception.key], y: r.scores[distortion.key] }));
  const drawn = points.filter((p) => p.method !== "input");
  if (drawn.length < 2) return null;
  const near = drawn.filter((p) => !["nlm", "wavelet", "bm3d"].includes(p.method));
  const both = near.length > 1 && near.length < drawn.length;
  // Next to the baselines the networks are one cluster; their names stand in the second plot.
  const plots = [plot(drawn, perception, distortion, both ? near.slice(1) : [])];
  if (both) plots.push(plot(near, perception, distortion, []));
  const caption = `Perception against distortion: ${perception.label} (better to the left), ${distortion.label} `
    + "(better upwards). Dashed: the frontier, methods that no other one beats in both."
    + (both ? " The second plot leaves out the classical baselines." : "")
    + (points.length > drawn.length ? " The input lies far outside and is left out." : "");
  return el("figure", {}, el("div", { className: "plots" }, ...plots), el("figcaption", { textContent: caption }));
}

function plot(points, mx, my, nameless) {
  const [width, height, l, r, t, b] = [540, 340, 62, 24, 14, 46];
  const range = (key) => {
    const values = points.flatMap((p) => [p[key].mean]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || Math.abs(high) || 1) * 0.15;
    return [low - room, high + room];
  };
  const [x0, x1] = range("x"), [y0, y1] = range("y");
  const px = (v) => l + ((v - x0) / (x1 - x0)) * (width - l - r);
  const py = (v) => height - b - ((v - y0) / (y1 - y0)) * (height - t - b);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img" });
  root.append(svg("title", {}, `${my.label} over ${mx.label}: ${points.map((p) => p.method).join(", ")}`));
  for (const v of ticks(x0, x1)) {
    root.append(svg("line", { x1: px(v), x2: px(v), y1: t, y2: height - b, class: "grid" }),
      svg("text", { x: px(v), y: height - b + 17, "text-anchor": "middle", class: "axis" }, label(v, x1 - x0)));
  }
  for (const v of ticks(y0, y1)) {
    root.append(svg("line", { x1: l, x2: width - r, y1: py(v), y2: py(v), class: "grid" }),
      svg("text", { x: l - 8, y: py(v) + 4, "text-anchor": "end", class: "axis" }, label(v, y1 - y0)));
  }
  root.append(svg("text", { x: (l + width - r) / 2, y: height - 8, "text-anchor": "middle", class: "axis" }, `${mx.label} ${arrow(mx)}`),
    svg("text", { transform: `translate(14 ${(t + height - b) / 2}) rotate(-90)`, "text-anchor": "middle", class: "axis" }, `${my.label} ${arrow(my)}`));
  const front = points.filter((p) => !points.some((q) => beats(q, p))).sort((p, q) => p.x.mean - q.x.mean);
  root.append(svg("polyline", { points: front.map((p) => `${px(p.x.mean)},${py(p.y.mean)}`).join(" "), class: "front" }));
  const taken = points.map((p) => ({ x: px(p.x.mean) - 6, y: py(p.y.mean) - 6, w: 12, h: 12 }));
  for (const p of points) {
    const [cx, cy] = [px(p.x.mean), py(p.y.mean)];
    const dot = svg("circle", { cx, cy, r: 5, style: `fill:${colour(p.method)}` });
    dot.append(svg("title", {}, `${p.method}: ${my.label} ${number(p.y.mean, my.digits)}, ${mx.label} ${number(p.x.mean, mx.digits)}`));
    const place = free(cx, cy, p.method.length * 6.8, taken, width);
    root.append(dot);
    if (!place || nameless.includes(p)) continue;  // its name is in the table, and shows when the pointer rests on the dot
    taken.push(place);
    root.append(svg("text", { x: place.x, y: place.y + 12 }, p.method));
  }
  return root;
}

const beats = (q, p) => q !== p && q.x.mean <= p.x.mean && q.y.mean >= p.y.mean && (q.x.mean < p.x.mean || q.y.mean > p.y.mean);

function free(cx, cy, w, taken, width) {
  const spots = [[9, -8], [-9 - w, -8], [-w / 2, -24], [-w / 2, 9], [9, -22], [9, 7], [-9 - w, -22], [-9 - w, 7], [-w / 2, -40], [-w / 2, 25]];
  const boxes = spots.map(([dx, dy]) => ({ x: cx + dx, y: cy + dy, w, h: 16 }));
  const clear = (a) => a.x > 60 && a.x + a.w < width && a.y > 0
    && !taken.some((c) => a.x < c.x + c.w && c.x < a.x + a.w && a.y < c.y + c.h && c.y < a.y + a.h);
  return boxes.find(clear);
}

function ticks(low, high) {
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) found.push(v);
  return found;
}

const label = (v, span) => v.toFixed(Math.max(0, Math.ceil(-Math.log10(span / 5))));

// --- pictures -------------------------------------------------------------------------------------------------------

const view = { position: 0.5 };

function eye() {
  if (!data.pictures.length) return;
  $("eye").hidden = false;
  const names = [...new Map(data.pictures.map((p) => [`${p.case} / ${p.key}`, p])).keys()];
  options($("picture"), names);
  for (const id of ["left", "right", "zoom", "map"]) $(id).addEventListener("change", show);
  $("picture").addEventListener("change", sides);
  const stage = $("stage");
  const drag = (event) => move((event.clientX - stage.getBoundingClientRect().left) / stage.clientWidth);
  stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
  stage.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
  $("handle").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (by) { event.preventDefault(); move(view.position + by); }
  });
  sides();
}

const options = (select, values) => select.replaceChildren(...values.map((v) => el("option", { value: v, textContent: v })));
const kept = (method) => data.pictures.find((p) => `${p.case} / ${p.key}` === $("picture").value && p.method === method);

function sides() {
  const available = data.pictures.filter((p) => `${p.case} / ${p.key}` === $("picture").value).map((p) => p.method);
  const [left, right] = [$("left").value, $("right").value];
  options($("left"), available);
  options($("right"), available);
  const outputs = available.filter((m) => !["noisy", "clean", "input"].includes(m));
  $("left").value = available.includes(left) ? left : "noisy";
  const ours = outputs.filter((m) => m.startsWith("rng")).at(-1);
  $("right").value = available.includes(right) ? right : ours ?? outputs[0] ?? "clean";
  show();
}

function show() {
  const [left, right] = [kept($("left").value), kept($("right").value)];
  const scale = Number($("zoom").value) / window.devicePixelRatio;
  for (const [id, picture] of [["img-left", left], ["img-right", right]]) {
    $(id).src = picture.uri;
    $(id).alt = `${picture.key}, ${picture.method}`;
    $(id).style.imageRendering = $("zoom").value === "1" ? "auto" : "pixelated";
  }
  $("stage").style.width = `${left.width * scale}px`;
  $("stage").style.height = `${left.height * scale}px`;
  const mapped = [right, left].find((p) => p.starts.length);
  $("map-label").hidden = !mapped;
  $("map-text").textContent = mapped ? `how much detail each tile of ${mapped.method} got [%]` : "";
  steps($("map").checked ? mapped : null);
  $("under").style.maxWidth = `max(${left.width * scale}px, 30rem)`;
  $("under").replaceChildren(...[left, right].map((p) => el("span", { textContent: caption(p) })));
  move(view.position);
}

function caption(picture) {
  const method = picture.method === "noisy" ? "input" : picture.method;
  const row = data.rows.find((r) => r.case === picture.case && r.key === picture.key && r.method === method);
  if (!row) return picture.method;
  const scores = data.metrics.map((m) => `${m.label} ${number(row.scores[m.key], m.digits)}`);
  return `${picture.method}: ${scores.join(", ")}`;
}

function steps(picture) {
  const root = $("steps");
  root.replaceChildren();
  if (!picture) return;
  root.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
  picture.starts.forEach((line, i) => line.forEach((share, j) => {
    const [x, y] = [picture.columns[j], picture.rows[i]];
    const [w, h] = [picture.columns[j + 1] - x, picture.rows[i + 1] - y];
    root.append(svg("rect", { x, y, width: w, height: h, style: `--tint:#e4572e;--share:${0.35 * share}` }),
      svg("text", { x: x + w / 2, y: y + h / 2 + 5, "font-size": 16 }, String(Math.round(100 * share))));
  }));
}

function move(position) {
  view.position = Math.min(1, Math.max(0, position));
  const percent = view.position * 100;
  $("img-left").style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
  $("handle").style.left = `${percent}%`;
  $("handle").setAttribute("aria-valuenow", Math.round(percent));
}

// --- rows -----------------------------------------------------------------------------------------------------------

const columns = [
  { head: "picture", text: true, of: (r) => r.key },
  { head: "case", text: true, of: (r) => r.case },
  { head: "method", text: true, of: (r) => r.method },
  ...data.metrics.map((m) => ({ head: `${m.label} ${arrow(m)}`, digits: m.digits, of: (r) => r.scores[m.key] })),
  { head: "steps/tile", digits: 1, of: (r) => r.evaluations },
  { head: "seconds", digits: 2, of: (r) => r.seconds },
];
const order = { column: 0, down: false };

function rows() {
  options($("case"), ["all", ...data.cases.map((c) => c.name)]);
  options($("method"), ["all", ...data.methods]);
  for (const id of ["case", "method"]) $(id).addEventListener("change", fill);
  $("name").addEventListener("input", fill);
  $("table").tHead.append(el("tr", {}, ...columns.map((column, i) => {
    const button = el("button", { type: "button", textContent: column.head });
    button.addEventListener("click", () => { order.down = order.column === i && !order.down; order.column = i; fill(); });
    return el("th", { scope: "col", className: column.text ? "text" : "" }, button);
  })));
  fill();
}

function fill() {
  const [one, method, name] = [$("case").value, $("method").value, $("name").value.toLowerCase()];
  const shown = data.rows.filter((r) => (one === "all" || r.case === one) && (method === "all" || r.method === method)
    && r.key.toLowerCase().includes(name));
  const value = columns[order.column].of;
  const rank = (a, b) => {
    const [p, q] = [value(a), value(b)];
    if (p === null || q === null) return (p === null) - (q === null);
    const sign = order.down ? -1 : 1;
    return sign * (typeof p === "string" ? p.localeCompare(q, "en", { numeric: true }) : p - q);
  };
  shown.sort(rank);
  $("table").tBodies[0].replaceChildren(...shown.map((r) => el("tr", {}, ...columns.map((c) =>
    el("td", { className: c.text ? "text" : "", textContent: c.text ? c.of(r) : number(c.of(r), c.digits) })))));
  [...$("table").tHead.rows[0].cells].forEach((cell, i) => {
    cell.ariaSort = i === order.column ? (order.down ? "descending" : "ascending") : "none";
    cell.firstChild.textContent = columns[i].head + (i === order.column ? (order.down ? " ▼" : " ▲") : "");
  });
  $("count").textContent = `${shown.length} of ${data.rows.length} rows`;
}

head();
data.cases.forEach(summary);
eye();
rows();
protocol();
