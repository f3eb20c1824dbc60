
for (const row of data.rows) for (const key in row.scores) row.scores[key] = finite(row.scores[key]);
for (const { scores } of data.summary) for (const e of Object.values(scores)) for (const key in e) e[key] = finite(e[key]);
const colour = (method) => `var(--c${data.methods.indexOf(method) % 8})`;
const arrow = (metric) => ({ high: "↑", low: "↓", one: "→ 1", zero: "→ 0" })[metric.better];
const worth = (metric, value) => ({ high: value, low: -value, one: -Math.abs(value - 1), zero: -Math.abs(value) })[metric.better];
// A rival of no strength of its own says how strong it came out.
const named = (row) => (row.strength === null || row.strength === undefined || row.method.includes(":")
  ? row.method : `${row.method} (${Number(row.strength.toPrecision(3))})`);
const dot = (method) => Object.assign(el("span", { className: "dot" }), { style: `background:${colour(method)}` });
const measured = (metric) => data.rows.some((r) => r.method !== "input" && Number.isFinite(r.scores[metric.key]));
const first = (key, better) => data.metrics.find((m) => m.key.startsWith(key) && measured(m)) ?? data.metrics.find((m) => m.better === better && measured(m));
const PERCEPTION = first("lpips", "low"), DISTORTION = first("psnr", "high");
const MAIN = [DISTORTION, PERCEPTION].filter(Boolean);

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
    ["beside the means", `${data.bracket}; intervals by percentiles of 2000 resamples`],
  ];
  for (const [term, text] of pairs) $("protocol").append(el("dt", { textContent: term }), el("dd", { textContent: text }));
  if (!data.problems.length) return;
  const items = data.problems.map((text) => el("li", { textContent: text }));
  $("problems").append(el("h2", { textContent: `${data.problems.length} problems` }), el("ul", {}, ...items));
}

// --- summary --------------------------------------------------------------------------------------------------------

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
    const range = el("small", { textContent: `${e.interval ? "" : "min–max "}${number(e.low, m.digits)} – ${number(e.high, m.digits)}${equal}` });
    return el("td", { className: top ? "best" : "" }, number(e.mean, m.digits), range);
  };
  const heads = ["method", ...data.metrics.map((m) => `${m.label} ${arrow(m)}`), "steps/tile", "s/MP"];
  const body = rows.map((row) => el("tr", {},
    el("td", {}, dot(row.method), named(row)), ...data.metrics.map((m) => cell(row, m)),
    el("td", { textContent: number(row.evaluations, 1) }),
    el("td", { textContent: number(row.seconds_per_megapixel, 2) })));
  const table = el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((h) => el("th", { scope: "col", textContent: h })))), el("tbody", {}, ...body));
  $("cases").append(el("h2", { textContent: one.name }), el("p", { className: "fine", textContent: `${one.pictures} pictures: ${one.protocol}.` }),
    ...scrolling(table, `Means on ${one.name}`), ...data.told[one.name].map((text) => el("p", { className: "fine", textContent: `At equal PSNR, ${text}.` })), scatter(rows) ?? "");
}

// --- plots ----------------------------------------------------------------------------------------------------------

// An empty plot: `root`, and where values stand in it. x.ticks or y.ticks false: none are drawn.
function axes(x, y, title) {
  const [width, height, l, r, t, b] = [540, 340, 62, 24, 14, 46];
  const px = (v) => l + ((v - x.low) / (x.high - x.low || 1)) * (width - l - r);
  const py = (v) => height - b - ((v - y.low) / (y.high - y.low || 1)) * (height - t - b);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img" });
  root.append(svg("title", {}, title));
  for (const v of x.ticks === false ? [] : x.ticks ?? ticks(x.low, x.high)) {
    root.append(svg("line", { x1: px(v), x2: px(v), y1: t, y2: height - b, class: "grid" }),
      svg("text", { x: px(v), y: height - b + 17, "text-anchor": "middle", class: "axis" }, x.ticks ? String(v) : label(v, x.high - x.low)));
  }
  for (const v of ticks(y.low, y.high)) {
    root.append(svg("line", { x1: l, x2: width - r, y1: py(v), y2: py(v), class: "grid" }),
      svg("text", { x: l - 8, y: py(v) + 4, "text-anchor": "end", class: "axis" }, label(v, y.high - y.low)));
  }
  root.append(svg("text", { x: (l + width - r) / 2, y: height - 8, "text-anchor": "middle", class: "axis" }, x.name),
    svg("text", { transform: `translate(14 ${(t + height - b) / 2}) rotate(-90)`, "text-anchor": "middle", class: "axis" }, y.name));
  return { root, px, py, width };
}

function range(values, name, room = 0.15) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const more = (high - low || Math.abs(high) || 1) * room;
  return { low: low - more, high: high + more, name };
}

function ticks(low, high) {
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) found.push(v);
  return found;
}

const label = (v, span) => {
  const text = v.toFixed(Math.max(0, Math.ceil(-Math.log10(span / 5))));
  return Number(text) === 0 ? text.replace("-", "") : text;
};
const line = (points, attributes) => svg("polyline", { points: points.map(([x, y]) => `${x},${y}`).join(" "), ...attributes });

function scatter(rows) {
  if (!PERCEPTION || !DISTORTION) return null;
  const counts = (e) => e && Number.isFinite(e.mean);
  const points = rows.filter((r) => counts(r.scores[PERCEPTION.key]) && counts(r.scores[DISTORTION.key]))
    .map((r) => ({ method: r.method, x: r.scores[PERCEPTION.key], y: r.scores[DISTORTION.key] }));
  const drawn = points.filter((p) => p.method !== "input");
  if (drawn.length < 2) return null;
  const near = drawn.filter((p) => !["nlm", "wavelet", "bm3d"].includes(p.method));
  const both = near.length > 1 && near.length < drawn.length;
  // Next to the baselines the networks are one cluster; their names stand in the second plot.
  const plots = [plot(drawn, both ? near.slice(1) : [])];
  if (both) plots.push(plot(near, []));
  const caption = `Perception against distortion: ${PERCEPTION.label} (better to the left), ${DISTORTION.label} `
    + "(better upwards). Dashed: the frontier, methods that no other one beats in both. Lines join one method at several settings."
    + (both ? " The second plot leaves out the classical baselines." : "")
    + (points.length > drawn.length ? " The input lies far outside and is left out." : "");
  return el("figure", {}, el("div", { className: "plots" }, ...plots), el("figcaption", { textContent: caption }));
}

function plot(points, nameless) {
  const [mx, my] = [PERCEPTION, DISTORTION];
  const { root, px, py, width } = axes(range(points.map((p) => p.x.mean), `${mx.label} ${arrow(mx)}`),
    range(points.map((p) => p.y.mean), `${my.label} ${arrow(my)}`), `${my.label} over ${mx.label}: ${points.map((p) => p.method).join(", ")}`);
  const at = (p) => [px(p.x.mean), py(p.y.mean)];
  const front = points.filter((p) => !points.some((q) => beats(q, p))).sort((p, q) => p.x.mean - q.x.mean);
  root.append(line(front.map(at), { class: "front" }));
  const family = (p) => p.method.split(/[: ]/)[0];
  for (const name of new Set(points.map(family))) {
    const members = points.filter((p) => family(p) === name).sort((p, q) => p.y.mean - q.y.mean);
    if (members.length > 1) root.append(line(members.map(at), { class: "family", style: `stroke:${colour(members[0].method)}` }));
  }
  const taken = points.map((p) => ({ x: px(p.x.mean) - 6, y: py(p.y.mean) - 6, w: 12, h: 12 }));
  for (const p of points) {
    const [cx, cy] = at(p);
    const mark = svg("circle", { cx, cy, r: 5, style: `fill:${colour(p.method)}` });
    mark.append(svg("title", {}, `${p.method}: ${my.label} ${number(p.y.mean, my.digits)}, ${mx.label} ${number(p.x.mean, mx.digits)}`));
    const place = free(cx, cy, p.method.length * 6.8, taken, width);
    root.append(mark);
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

// Sets that differ in σ alone, as lines over it.
function levels() {
  const sets = new Map();
  for (const c of data.cases.filter((c) => Number.isFinite(c.sigma))) {
    const name = c.name.replace(/\s*σ=[\d.]+/, "");
    sets.set(name, [...(sets.get(name) ?? []), c]);
  }
  for (const [name, cases] of sets) {
    const sigmas = [...new Set(cases.map((c) => c.sigma))].sort((a, b) => a - b);
    if (sigmas.length > 1) $("levels").lastElementChild.append(...MAIN.map((m) => level(name, cases, sigmas, m)));
  }
  $("levels").hidden = !$("levels").lastElementChild.children.length;
}

function level(name, cases, sigmas, metric) {
  const lines = data.methods.filter((method) => method !== "input").map((method) => ({ method, points: cases.map((c) => {
    const e = data.summary.find((s) => s.case === c.name && s.method === method)?.scores[metric.key];
    return e && Number.isFinite(e.mean) ? { sigma: c.sigma, e } : null;
  }).filter(Boolean).sort((p, q) => p.sigma - q.sigma) })).filter((l) => l.points.length);
  const spread = range(lines.flatMap((l) => l.points.map((p) => p.e.mean)), `${metric.label} ${arrow(metric)}`);
  const { root, px, py } = axes({ ...range(sigmas, "σ of the noise, 0–255", 0.08), ticks: sigmas }, spread, `${metric.label} over σ on ${name}`);
  for (const { method, points } of lines) {
    root.append(line(points.map((p) => [px(p.sigma), py(p.e.mean)]), { class: "family", style: `stroke:${colour(method)}` }));
    for (const p of points) {
      const mark = svg("circle", { cx: px(p.sigma), cy: py(p.e.mean), r: 4, style: `fill:${colour(method)}` });
      mark.append(svg("title", {}, `${method}, σ ${p.sigma}: ${number(p.e.mean, metric.digits)}`));
      root.append(mark);
    }
  }
  const keys = lines.map(({ method }) => el("span", { className: "key" }, dot(method), method));
  return el("figure", { className: "plot" }, root, el("figcaption", {}, `${name}, ${metric.label}: `, ...keys));
}

// --- difference to the reconstruction -------------------------------------------------------------------------------

const BASE = "reconstruct";
const base = new Map(data.rows.filter((r) => r.method === BASE).map((r) => [`${r.case}\n${r.key}`, r]));
const over = (row, metric) => {
  const value = row.scores[metric.key] - base.get(`${row.case}\n${row.key}`)?.scores[metric.key];
  return row.method !== BASE && row.scores[metric.key] !== null && Number.isFinite(value) ? value : null;
};

function gain() {
  const others = data.methods.filter((m) => m !== BASE && m !== "input");
  const told = data.metrics.filter((m) => ["high", "low"].includes(m.better) && measured(m));
  if (!base.size || !others.length || !told.length) return;
  $("gain").hidden = false;
  options($("gain-case"), data.cases.map((c) => c.name));
  options($("gain-method"), others);
  options($("gain-metric"), told.map((m) => m.label));
  if (PERCEPTION) $("gain-metric").value = PERCEPTION.label;
  for (const id of ["gain-case", "gain-method", "gain-metric"]) $(id).addEventListener("change", () => differences(told));
  differences(told);
}

function differences(told) {
  const metric = told.find((m) => m.label === $("gain-metric").value);
  const found = data.rows.filter((r) => r.case === $("gain-case").value && r.method === $("gain-method").value)
    .map((r) => ({ key: r.key, value: over(r, metric) })).filter((d) => d.value !== null)
    .sort((a, b) => worth(metric, a.value) - worth(metric, b.value));
  if (!found.length) return $("gain-figure").replaceChildren("no picture has both scores");
  const better = found.filter((d) => worth(metric, d.value) > 0).length;
  const mean = found.reduce((sum, d) => sum + d.value, 0) / found.length;
  const worst = found.slice(0, 3).map((d) => `${d.key} (${signed(d.value, metric.digits)})`).join(", ");
  $("gain-figure").replaceChildren(el("div", { className: "plots" }, histogram(found, metric), each(found, metric)),
    el("figcaption", { textContent: `${metric.label} of ${$("gain-method").value} less that of ${BASE}: better on ${better} of ${found.length} pictures, `
      + `mean ${signed(mean, metric.digits)}. Least gained: ${worst}.` }));
}

const tint = (metric, value) => (worth(metric, value) > 0 ? "better" : "poorer");

function histogram(found, metric) {
  const values = found.map((d) => d.value);
  const least = Math.min(0, ...values), most = Math.max(0, ...values);
  const step = (most - least || 1) / Math.min(20, Math.max(5, Math.round(Math.sqrt(found.length) * 1.5)));
  // Bins end at zero: none holds pictures that gained and pictures that lost.
  const start = Math.floor(least / step), count = Math.max(Math.ceil(most / step) - start, 1);
  const bins = Array.from({ length: count }, () => 0);
  for (const v of values) bins[Math.min(count - 1, Math.max(0, Math.floor(v / step) - start))] += 1;
  const { root, px, py } = axes({ low: (start - 0.5) * step, high: (start + count + 0.5) * step, name: `difference in ${metric.label}` },
    { low: 0, high: Math.max(...bins) * 1.1, name: "pictures" }, `Histogram of the difference in ${metric.label}`);
  bins.forEach((n, i) => {
    const at = (start + i) * step;
    const bar = svg("path", { d: `M${px(at) + 1} ${py(0)}V${py(n)}H${px(at + step) - 1}V${py(0)}Z`, class: tint(metric, at + step / 2) });
    bar.append(svg("title", {}, `${n} pictures`));
    if (n) root.append(bar);
  });
  root.append(svg("line", { x1: px(0), x2: px(0), y1: py(0), y2: py(Math.max(...bins) * 1.1), class: "zero" }));
  return root;
}

function each(found, metric) {
  const bounds = range([0, ...found.map((d) => d.value)], `difference in ${metric.label}`, 0.05);
  const { root, px, py } = axes({ low: 0, high: found.length, name: "each picture, the least gained first", ticks: false }, bounds,
    `Difference in ${metric.label} of each picture`);
  found.forEach((d, i) => {
    const bar = svg("path", { d: `M${px(i + 0.1)} ${py(0)}V${py(d.value)}H${px(i + 0.9)}V${py(0)}Z`, class: tint(metric, d.value) });
    bar.append(svg("title", {}, `${d.key}: ${signed(d.value, metric.digits)}`));
    root.append(bar);
  });
  root.append(svg("line", { x1: px(0), x2: px(found.length), y1: py(0), y2: py(0), class: "zero" }));
  return root;
}

// --- the worst ------------------------------------------------------------------------------------------------------

function worst() {
  if (!data.closeups.length) return;
  $("worst").hidden = false;
  const of = (key) => [...new Set(data.closeups.map((c) => c[key]))];
  options($("worst-case"), of("case"));
  options($("worst-method"), of("method"));
  const ours = of("method").filter((m) => m.startsWith("rng")).at(-1);
  if (ours) $("worst-method").value = ours;
  $("worst-zoom").value = devicePixelRatio >= 2 ? "2" : "1";
  const by = data.metrics.find((m) => m.key.startsWith("lpips")) ?? data.metrics[0];
  $("worst-text").textContent = `The worst by ${by.label}, where each errs most: the input, the output, the truth, and the absolute error, 8 times as bright.`;
  for (const id of ["worst-case", "worst-method", "worst-zoom"]) $(id).addEventListener("change", closeups);
  closeups();
}

function closeups() {
  const scale = Number($("worst-zoom").value) / devicePixelRatio;
  const chosen = data.closeups.filter((c) => c.case === $("worst-case").value && c.method === $("worst-method").value);
  $("worst-list").replaceChildren(...chosen.map((c) => {
    const pane = (uri, name) => el("figure", {}, el("img", {
      src: uri, alt: `${c.key}, ${name}`, loading: "lazy", width: c.box[2] * scale, height: c.box[3] * scale,
      style: `image-rendering:${scale * devicePixelRatio > 1 ? "pixelated" : "auto"}`,
    }), el("figcaption", { textContent: name }));
    return el("article", { className: "close" }, el("h3", { textContent: c.key }), el("p", { className: "fine", textContent: scores(c.case, c.key, c.method) }),
      el("div", { className: "panes" }, pane(c.noisy, "input"), pane(c.output, c.method), pane(c.clean, "truth"), pane(c.error, "error")));
  }));
}

function scores(one, key, method) {
  const row = data.rows.find((r) => r.case === one && r.key === key && r.method === method);
  if (!row) return method;
  return `${method}: ${data.metrics.map((m) => `${m.label} ${number(row.scores[m.key], m.digits)}`).join(", ")}`;
}

// --- pictures -------------------------------------------------------------------------------------------------------

const looked = new Comparison("Border between left and right");
const move = (position) => looked.move(position);

function eye() {
  if (!data.pictures.length) return;
  $("eye").hidden = false;
  const names = [...new Map(data.pictures.map((p) => [`${p.case} / ${p.key}`, p])).keys()];
  options($("picture"), names);
  for (const id of ["left", "right", "zoom", "map", "error", "panes"]) $(id).addEventListener("change", show);
  $("picture").addEventListener("change", sides);
  $("zoom").value = devicePixelRatio >= 2 ? "2" : "1";
  sides();
}

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
  const [left, right, truth] = [kept($("left").value), kept($("right").value), kept("clean")];
  const zoom = Number($("zoom").value), scale = zoom / devicePixelRatio;
  const size = [left.width * scale, left.height * scale];
  $("error-label").hidden = ![left, right].some((p) => p.error);
  $("panes-label").hidden = !truth;
  const side = (p) => {
    const wrong = $("error").checked && p.error;
    return { uri: wrong ? p.error : p.uri, name: p.method, alt: `${p.key}, ${wrong ? "error of " : ""}${p.method}` };
  };
  const mapped = [right, left].find((p) => p.starts.length);
  $("map-label").hidden = !mapped || $("panes").checked;
  $("map-text").textContent = mapped ? `how much detail each tile of ${mapped.method} got [%]` : "";
  if ($("panes").checked && truth) $("looked").replaceChildren(panes([left, right, truth].map(side), size, zoom));
  else $("looked").replaceChildren(...scrolling(looked.element, "The picture"), $("map").checked && mapped ? legend() : "");
  looked.show(side(left), side(right), ...size, zoom > 1);
  steps($("map").checked ? mapped : null);
  $("under").style.maxWidth = `max(${size[0]}px, 30rem)`;
  $("under").replaceChildren(...[left, right].map((p) => el("span", {
    textContent: scores(p.case, p.key, p.method === "noisy" ? "input" : p.method),
  })));
}

// Beside one another, and scrolled together.
function panes(sides, [width, height], zoom) {
  const boxes = sides.map((s) => el("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: s.alt,
    style: `max-width:${width}px;max-height:75vh` }, el("img", { src: s.uri, alt: s.alt,
    style: `display:block;max-width:none;width:${width}px;height:${height}px;image-rendering:${zoom > 1 ? "pixelated" : "auto"}` })));
  for (const box of boxes) {
    box.addEventListener("scroll", () => boxes.forEach((other) => other.scrollTo(box.scrollLeft, box.scrollTop)));
  }
  return el("div", { className: "together" }, ...boxes.map((box, i) => el("figure", {}, box, el("figcaption", { textContent: sides[i].name }))));
}

function steps(picture) {
  if (!picture) return looked.tiles([], [], [], 1, 1);
  looked.tiles(picture.starts, picture.columns, picture.rows, picture.width, picture.height);
  picture.starts.forEach((shares, i) => shares.forEach((share, j) => {
    const [x, y] = [picture.columns[j] + picture.columns[j + 1], picture.rows[i] + picture.rows[i + 1]];
    looked.map.append(svg("text", { x: x / 2, y: y / 2 + 5, "font-size": 16 }, String(Math.round(100 * share))));
  }));
}

// --- rows -----------------------------------------------------------------------------------------------------------

function rows() {
  const table = el("table", { id: "table" }, el("thead"), el("tbody"));
  $("every").append(...scrolling(table, "Every picture", "tall"));
  const sorted = new SortedTable(table, [
    { head: "picture", text: true, of: (r) => r.key },
    { head: "case", text: true, of: (r) => r.case },
    { head: "method", text: true, of: (r) => r.method },
    ...data.metrics.map((m) => ({ head: `${m.label} ${arrow(m)}`, digits: m.digits, of: (r) => r.scores[m.key] })),
    ...(base.size ? MAIN.map((m) => ({ head: `${m.label} − ${BASE}`, digits: m.digits, of: (r) => over(r, m) })) : []),
    { head: "steps/tile", digits: 1, of: (r) => r.evaluations },
    { head: "seconds", digits: 2, of: (r) => r.seconds },
  ]);
  options($("case"), ["all", ...data.cases.map((c) => c.name)]);
  options($("method"), ["all", ...data.methods]);
  const fill = () => {
    const [one, method, name] = [$("case").value, $("method").value, $("name").value.toLowerCase()];
    const shown = data.rows.filter((r) => (one === "all" || r.case === one) && (method === "all" || r.method === method)
      && r.key.toLowerCase().includes(name));
    sorted.fill(shown);
    $("count").textContent = `${shown.length} of ${data.rows.length} rows`;
  };
  for (const id of ["case", "method"]) $(id).addEventListener("change", fill);
  $("name").addEventListener("input", fill);
  fill();
}

head();
data.cases.forEach(summary);
levels();
gain();
worst();
eye();
rows();
protocol();
