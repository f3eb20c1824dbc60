
const pictures = data.pictures;
for (const p of pictures) {
  for (const key of [...data.metrics, ...data.metrics.map((m) => `input_${m}`), "badness"]) p[key] = finite(p[key]);
  for (const key in p.gains ?? {}) p.gains[key] = finite(p.gains[key]);
}
const LABELS = { psnr: ["PSNR", 2], ssim: ["SSIM", 4] };
const label = (metric) => LABELS[metric]?.[0] ?? metric.replace(/^lpips-(.*)/, "LPIPS ($1)");
const digits = (metric) => LABELS[metric]?.[1] ?? 4;
const STATUS = { done: "done", skipped: "done before", failed: "failed", "not begun": "not begun" };

function head() {
  $("title").textContent = data.title;
  $("facts").textContent = Object.entries(data.facts).map(([k, v]) => `${k} ${v}`).join(" · ");
  const count = (status) => pictures.filter((p) => p.status === status).length;
  const counts = Object.keys(STATUS).filter(count).map((status) => `${count(status)} ${STATUS[status]}`);
  const means = data.metrics.map((m) => {
    const mean = (values) => { const known = values.filter(Number.isFinite); return known.length ? known.reduce((a, b) => a + b) / known.length : null; };
    const gained = mean(pictures.map((p) => p.gains?.[m]));
    return `${label(m)} ${number(mean(pictures.map((p) => p[m])), digits(m))}${gained === null ? "" : ` (${signed(gained, digits(m))})`}`;
  });
  $("counts").textContent = [`${pictures.length} ${pictures.length === 1 ? "picture" : "pictures"}: ${counts.join(", ")}`,
    ...(means.length ? [`mean ${means.join(", ")}`] : [])].join(" · ");
  const kept = pictures.filter((p) => p.view?.whole).length, shown = pictures.filter((p) => p.view).length;
  const notes = [];
  if (kept < shown) notes.push(`This page holds at most ${data.bound} MiB of pictures: the ${kept} worst have their crops, the others are small or stand in the table alone.`);
  const undrawn = pictures.filter((p) => ["done", "skipped"].includes(p.status) && !p.view && !p.unseen).length;
  if (undrawn) notes.push(`${undrawn} of ${pictures.length} are not shown, since the run was cut short; the same command shows them.`);
  if (data.alone) notes.push(`${data.alone} of ${pictures.length} have no partner in the reference.`);
  $("notes").append(...notes.map((textContent) => el("li", { textContent })));
  const failed = pictures.filter((p) => p.status === "failed");
  if (!failed.length) return;
  $("failed").hidden = false;
  $("failed").querySelector("h2").textContent = `${failed.length} failed`;
  $("failed").querySelector("ul").append(...failed.map((p) => el("li", {}, el("b", { textContent: p.file }), `: ${p.error}`)));
}

// --- cards ---------------------------------------------------------------------------------------------------------

const ORDERS = {
  "worst first": (a, b) => b.badness - a.badness,
  "most changed": (a, b) => b.view.change - a.view.change,
  "noisiest": (a, b) => b.view.noise[0] - a.view.noise[0],
  "name": (a, b) => a.file.localeCompare(b.file, "en", { numeric: true }),
};
const open = new Map();  // the cards that are on the screen, or were
const near = new IntersectionObserver((entries) => entries.forEach((entry) => {
  if (entry.isIntersecting) fill(entry.target);
}), { rootMargin: "800px" });

function gallery() {
  const seen = pictures.filter((p) => p.view && (p.view.whole || p.view.small));
  if (!seen.length) return;
  $("seen").hidden = false;
  options($("order"), Object.keys(ORDERS));
  const mapped = seen.some((p) => p.detail?.length);
  $("map-label").hidden = !mapped;
  if (mapped) $("legend").replaceChildren(legend());
  $("zoom").value = devicePixelRatio >= 2 ? "2" : "1";
  for (const id of ["order", "find"]) $(id).addEventListener("input", () => arrange(seen));
  for (const id of ["zoom", "map"]) $(id).addEventListener("change", () => open.forEach(draw));
  arrange(seen);
}

function arrange(seen) {
  const name = $("find").value.toLowerCase();
  const chosen = seen.filter((p) => p.file.toLowerCase().includes(name)).sort(ORDERS[$("order").value]);
  $("cards").replaceChildren(...chosen.map((p) => {
    p.card ??= Object.assign(el("article", { className: "card" }, el("h3", { textContent: p.file }), figures(p),
      el("div", { className: "sides empty" })), { picture: p });
    near.observe(p.card);
    return p.card;
  }));
}

function figures(p) {
  const parts = [["noise σ", `${number(p.view.noise[0], 1)} → ${number(p.view.noise[1], 1)}`], ["changed by", number(p.view.change, 1)],
    ["steps a tile", number(p.steps, 1)], ["", `${p.view.width}×${p.view.height} px`]];
  for (const m of data.metrics.filter((m) => p[m] !== undefined)) {
    const gained = p.gains?.[m];
    parts.push([label(m), number(p[m], digits(m)) + (gained === null || gained === undefined ? "" : ` (${signed(gained, digits(m))})`)]);
  }
  const line = el("p", { className: "figures" });
  parts.forEach(([term, value], i) => line.append(i ? " · " : "", term ? `${term} ` : "", el("b", { textContent: value })));
  if (p.notes) line.append(el("br"), p.notes);
  return line;
}

function fill(card) {
  const p = card.picture;
  near.unobserve(card);
  if (open.has(p)) return;
  const side = (uri, name) => ({ uri, name, alt: `${p.file}, ${name}` });
  const compare = (pair, what) => new Comparison(`${p.file}: border between before and after, ${what}`)
    .show(side(pair[0], "before"), side(pair[1], "after"), 0, 0);
  const sides = card.querySelector(".sides"), entry = { p };
  const pair = p.view.whole ?? p.view.small;
  entry.whole = compare(pair, "whole picture");
  sides.replaceChildren(el("figure", {}, entry.whole.element, el("figcaption", {
    textContent: p.view.whole ? "whole picture" : "small: the page's room is for those that were changed more",
  })));
  if (p.view.crop) {
    entry.crop = compare(p.view.crop, "crop");
    sides.append(el("figure", { className: "crop" }, entry.crop.element, el("figcaption", {
      textContent: `where most was changed: ${p.view.crop_box[2]}×${p.view.crop_box[3]} px at ${p.view.crop_box[0]}, ${p.view.crop_box[1]}`,
    })));
  }
  sides.classList.remove("empty");
  open.set(p, entry);
  draw(entry);
}

function draw(entry) {
  const { p } = entry, shares = $("map").checked ? (p.detail ?? []).map((line) => [...line].map((c) => parseInt(c, 16) / 15)) : [];
  entry.whole.fluid(p.view.width, p.view.height, p.view.whole ? 512 : 128);
  entry.whole.tiles(shares, p.view.columns, p.view.rows, 1, 1);
  if (!entry.crop) return;
  const zoom = Number($("zoom").value), scale = zoom / devicePixelRatio;
  const [, , w, h] = p.view.crop_box;
  Object.assign(entry.crop.element.style, { width: `${w * scale}px`, height: `${h * scale}px` });
  for (const image of [entry.crop.left, entry.crop.right]) image.style.imageRendering = zoom > 1 ? "pixelated" : "auto";
}

// --- table ---------------------------------------------------------------------------------------------------------

function every() {
  const columns = [
    { head: "picture", text: true, of: (p) => p.file },
    { head: "status", text: true, of: (p) => STATUS[p.status] },
    ...(pictures.some((p) => p.view) ? [
      { head: "noise before", digits: 1, of: (p) => p.view?.noise[0] ?? p.sigma },
      { head: "after", digits: 1, of: (p) => p.view?.noise[1] },
      { head: "changed by", digits: 1, of: (p) => p.view?.change },
    ] : []),
    { head: "steps/tile", digits: 1, of: (p) => p.steps },
    { head: "seconds", digits: 1, of: (p) => p.seconds },
    { head: "Mpx", digits: 1, of: (p) => p.megapixels },
    ...data.metrics.flatMap((m) => [{ head: label(m), digits: digits(m), of: (p) => p[m] }, { head: "gain", digits: digits(m), of: (p) => p.gains?.[m] }]),
    { head: "notes", text: true, of: (p) => p.unseen ? `not shown: ${p.unseen}` : p.error ?? p.notes },
  ];
  const table = el("table", { id: "table" }, el("thead"), el("tbody"));
  $("every").append(...scrolling(table, "Every picture", "tall"));
  new SortedTable(table, columns).fill(pictures);
}

head();
gallery();
every();
