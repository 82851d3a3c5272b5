/* The overview: two columns against each other, a filter, a lasso, and the chosen galaxies as a table. */
"use strict";
PG.overview = (() => {
  const FEW = 20000, PAGE = 50;
  const state = { x: null, y: null, colour: "STATUS", filter: "", mask: null, lasso: null, inside: null, chosen: null, sort: null,
                  down: false, page: 0 };
  let site, chart, values = {}, trail = [], sprite = null, hovered = -1, extra = [];
  const $ = (id) => document.getElementById(id), info = (name) => site.columns.find((c) => c.name === name);
  const label = (c) => (c.unit ? `${c.name} [${c.unit}]` : c.name);

  async function start() {
    site = await PG.load("site");
    if (site.n === 1) { location.replace("galaxy.html#0"); return; }
    document.title = `${site.title} – provabgs gallery`;
    $("title").textContent = site.title;
    $("version").textContent = `provabgs ${site.version}`;
    state.x = site.x; state.y = site.y;
    readHash();
    for (const id of ["x", "y", "colour"]) {
      $(id).replaceChildren(...site.columns.filter((c) => c.name !== "TARGETID").map((c) =>
        PG.el("option", { value: c.name, text: label(c), title: c.description })));
      $(id).value = state[id];
      $(id).addEventListener("change", () => { state[id] = $(id).value; clearLasso(); show(true); });
    }
    $("more").replaceChildren(PG.el("option", { value: "", text: "add a column …" }), ...site.columns
      .filter((c) => !site.listed.includes(c.name)).map((c) => PG.el("option", { value: c.name, text: label(c), title: c.description })));
    $("more").addEventListener("change", () => { if ($("more").value && !extra.includes($("more").value)) extra.push($("more").value); $("more").value = ""; table(); });
    $("names").replaceChildren(...site.columns.map((c) => PG.el("option", { value: c.name, text: c.description })));
    $("filter").value = state.filter;
    $("query").addEventListener("submit", (event) => { event.preventDefault(); state.filter = $("filter").value.trim(); filter(); });
    $("clear").addEventListener("click", () => { $("filter").value = state.filter = ""; clearLasso(); filter(); });
    for (const mode of ["pan", "lasso"]) $(mode).addEventListener("click", () => setMode(mode));
    $("in").addEventListener("click", () => chart.zoom(1.5));
    $("out").addEventListener("click", () => chart.zoom(1 / 1.5));
    $("reset").addEventListener("click", () => chart.reset());
    $("save").addEventListener("click", save);
    $("previous").addEventListener("click", () => { state.page--; table(); });
    $("next").addEventListener("click", () => { state.page++; table(); });
    makeChart();
    await show(false);
    if (state.filter) await filter(); else await choose();
    document.body.dataset.ready = "1";
  }

  function readHash() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const key of ["x", "y", "colour"]) if (info(wanted.get(key))) state[key] = wanted.get(key);
    if (!info(state.colour)) state.colour = site.columns[0].name;
    state.filter = wanted.get("filter") || "";
  }

  function writeHash() {
    const hash = new URLSearchParams({ x: state.x, y: state.y, colour: state.colour });
    if (state.filter) hash.set("filter", state.filter);
    history.replaceState(null, "", `#${hash}`);
  }

  function axis(name) {
    const c = info(name), names = c.categories || undefined;
    return { label: label(c), low: c.low, high: c.high, names };
  }

  function makeChart() {
    chart = new PG.Chart($("plot"), {
      x: axis(state.x), y: axis(state.y), height: Math.max(320, Math.min(560, Math.round(innerHeight * 0.6))),
      wheel: "always", drag: "pan", draw, onLasso, onPick: pick, onHover: hover, onView: () => { sprite = null; },
    });
  }

  async function show(moved) {
    writeHash();
    const [x, y, colour] = await Promise.all([state.x, state.y, state.colour].map((n) => PG.column(info(n))));
    values = { x, y, colour };
    sprite = null;
    if (moved) { Object.assign(chart.x, axis(state.x)); Object.assign(chart.y, axis(state.y)); chart.home = [{ ...chart.x }, { ...chart.y }]; }
    chart.redraw();
  }

  /* ---- drawing ---------------------------------------------------------------------------------------------------- */

  function cividis(t) {
    const stops = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];
    const s = Math.min(0.9999, Math.max(0, t)) * 5, k = Math.floor(s), f = s - k;
    return stops[k].map((v, i) => Math.round(v + f * (stops[k + 1][i] - v)));
  }

  function colourOf(name) {
    const c = info(name), palette = [1, 2, 3, 4, 5, 6, 7].map((k) => PG.theme(`c${k}`));
    if (name === "STATUS") return (v) => (v === 0 ? palette[0] : v === 1 ? palette[1] : v === 2 ? palette[2] : palette[6]);
    if (name === "FLAG") return (v) => (v === 0 ? palette[0] : palette[1]);
    if (c.categories) return (v) => palette[v % 7];
    return (v) => (Number.isFinite(Number(v)) ? `rgb(${cividis((Number(v) - c.low) / (c.high - c.low))})` : palette[6]);
  }

  function inView() {
    const { x, y } = values, { low: xl, high: xh } = chart.x, { low: yl, high: yh } = chart.y, found = [];
    let count = 0;
    for (let i = 0; i < site.n; i++) {
      if ((state.mask && !state.mask[i]) || !(x[i] >= xl && x[i] <= xh && y[i] >= yl && y[i] <= yh)) continue;
      if (count++ < FEW) found.push(i);
    }
    return { count, found };
  }

  function draw(_chart, c) {
    if (!values.x) {
      if (site.density && state.x === site.x && state.y === site.y) firstPicture(c);
      return;
    }
    const seen = sprite || (sprite = inView());
    if (seen.count > FEW) { const cells = bin(); picture(c, cells); legend(cells.counts.reduce((a, b) => (a > b ? a : b), 1)); }
    else {
      legend();
      const colour = colourOf(state.colour), radius = seen.count < 300 ? 4 : seen.count < 3000 ? 2.5 : 1.6;
      c.globalAlpha = seen.count < 300 ? 0.9 : 0.6;
      for (const i of seen.found) {
        c.fillStyle = colour(values.colour[i]);
        c.beginPath();
        c.arc(chart.px(values.x[i]), chart.py(values.y[i]), radius, 0, 7);
        c.fill();
      }
      c.globalAlpha = 1;
    }
    outline(c);
    if (hovered >= 0) {
      c.strokeStyle = PG.theme("ink");
      c.lineWidth = 2;
      c.beginPath();
      c.arc(chart.px(values.x[hovered]), chart.py(values.y[hovered]), 8, 0, 7);
      c.stroke();
    }
    const kind = seen.count > FEW ? "density" : "points";
    chart.canvas.setAttribute("aria-label",
      `${state.y} against ${state.x}: ${seen.count} of ${site.n} galaxies, drawn as ${kind}. Arrows pan, plus and minus zoom, 0 resets.`);
    $("seen").textContent = `${seen.count.toLocaleString("en")} in view, as ${kind}`;
    chart.canvas.dataset.count = seen.count;
  }

  /* Counts on cells of 2 x 2 pixels of what is in view. */
  function bin() {
    const { left, top, width, height } = chart.box, nx = Math.ceil(width / 2), ny = Math.ceil(height / 2);
    const counts = new Int32Array(nx * ny), { x, y } = values, sx = nx / (chart.x.high - chart.x.low), sy = ny / (chart.y.high - chart.y.low);
    for (let i = 0; i < site.n; i++) {
      if (state.mask && !state.mask[i]) continue;
      const u = Math.floor((x[i] - chart.x.low) * sx), v = Math.floor((y[i] - chart.y.low) * sy);
      if (u >= 0 && u < nx && v >= 0 && v < ny) counts[v * nx + u]++;
    }
    return { counts, nx, ny, place: [left, top, width, height] };
  }

  function picture(c, { counts, nx, ny, place }) {
    const image = new ImageData(nx, ny), most = Math.log1p(counts.reduce((a, b) => (a > b ? a : b), 1));
    for (let v = 0; v < ny; v++) for (let u = 0; u < nx; u++) {
      const n = counts[v * nx + u];
      if (!n) continue;
      image.data.set([...cividis(0.1 + 0.9 * Math.log1p(n) / most), 255], 4 * ((ny - 1 - v) * nx + u));
    }
    const sheet = new OffscreenCanvas(nx, ny);
    sheet.getContext("2d").putImageData(image, 0, 0);
    c.imageSmoothingEnabled = false;
    c.drawImage(sheet, ...place);
  }

  /* What the site brings along, until the columns are here. */
  async function firstPicture(c) {
    if (!firstPicture.counts) {
      firstPicture.counts = (await PG.unpack(site.density.counts)).counts;
      chart.redraw();
      return;
    }
    const [nx, ny] = site.density.size, [x0, x1] = site.density.x, [y0, y1] = site.density.y;
    picture(c, { counts: firstPicture.counts, nx, ny,
                 place: [chart.px(x0), chart.py(y1), chart.px(x1) - chart.px(x0), chart.py(y0) - chart.py(y1)] });
  }

  function outline(c) {
    const ring = trail.length ? trail : (state.lasso || []).map(([x, y]) => [chart.px(x), chart.py(y)]);
    if (!ring.length) return;
    c.beginPath();
    ring.forEach(([x, y], k) => (k ? c.lineTo(x, y) : c.moveTo(x, y)));
    c.closePath();
    c.fillStyle = PG.theme("select");
    c.fill();
    c.strokeStyle = PG.theme("ink");
    c.lineWidth = 1.5;
    c.setLineDash([5, 3]);
    c.stroke();
    c.setLineDash([]);
  }

  /* What colours mean: of points, or the number of galaxies in a cell of a density. */
  function legend(most = 0) {
    const wanted = `${state.colour} ${most}`;
    if (legend.shown === wanted) return;
    legend.shown = wanted;
    const c = info(state.colour), colour = colourOf(state.colour), box = $("legend"), items = [];
    const item = (shade, text) => items.push(PG.el("span", { class: "key" }, dot(shade), text));
    if (most) { for (const n of [1, Math.round(Math.sqrt(most)), most]) item(`rgb(${cividis(0.1 + (0.9 * Math.log1p(n)) / Math.log1p(most))})`, String(n)); items.push(PG.el("span", { class: "quiet", text: "galaxies per cell" })); }
    else if (state.colour === "STATUS") {
      item(colour(0), "CONVERGED"); item(colour(1), "NOT_CONVERGED"); item(colour(2), "ENGINE_ERROR"); item(colour(10), "no samples");
    } else if (state.colour === "FLAG") { item(colour(0), "FLAG 0"); item(colour(1), "doubtful"); }
    else if (c.categories) c.categories.slice(0, 7).forEach((name, k) => item(colour(k), name || "–"));
    else for (const t of [0, 0.5, 1]) item(colour(c.low + t * (c.high - c.low)), PG.number(c.low + t * (c.high - c.low), 3));
    box.replaceChildren(...items);
  }

  function dot(shade) {
    const mark = PG.el("i", { class: "dot", "aria-hidden": "true" });
    mark.style.background = shade;
    return mark;
  }

  /* ---- choosing --------------------------------------------------------------------------------------------------- */

  function setMode(mode) {
    chart.mode = mode === "lasso" ? "lasso" : undefined;
    $("pan").setAttribute("aria-pressed", String(mode === "pan"));
    $("lasso").setAttribute("aria-pressed", String(mode === "lasso"));
    $("plot").classList.toggle("lasso", mode === "lasso");
  }

  function onLasso(_chart, points, done) {
    trail.push(...points);
    if (!done) { chart.redraw(); return; }
    state.lasso = trail.length > 2 ? trail.map(([x, y]) => [chart.atX(x), chart.atY(y)]) : null;
    trail = [];
    choose();
  }

  function clearLasso() { state.lasso = null; state.inside = null; trail = []; }

  function within(ring) {
    const out = new Uint8Array(site.n), { x, y } = values, n = ring.length;
    const xs = ring.map((p) => p[0]), ys = ring.map((p) => p[1]);
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    for (let i = 0; i < site.n; i++) {
      const a = x[i], b = y[i];
      if (!(a >= x0 && a <= x1 && b >= y0 && b <= y1)) continue;
      let odd = 0;
      for (let j = 0, k = n - 1; j < n; k = j++)
        if (ys[j] > b !== ys[k] > b && a < ((xs[k] - xs[j]) * (b - ys[j])) / (ys[k] - ys[j]) + xs[j]) odd ^= 1;
      out[i] = odd;
    }
    return out;
  }

  async function filter() {
    $("wrong").textContent = "";
    $("filter").removeAttribute("aria-invalid");
    try {
      state.mask = state.filter ? await PG.expression.evaluate(state.filter, site) : null;
    } catch (error) {
      $("wrong").textContent = error.message;
      $("filter").setAttribute("aria-invalid", "true");
      return;
    }
    writeHash();
    sprite = null;
    chart.redraw();
    await choose();
  }

  async function choose() {
    state.inside = state.lasso ? within(state.lasso) : null;
    const rows = new Uint32Array(site.n);
    let n = 0;
    for (let i = 0; i < site.n; i++)
      if ((!state.mask || state.mask[i]) && (!state.inside || state.inside[i])) rows[n++] = i;
    state.chosen = rows.subarray(0, n);
    state.page = 0;
    await sort();
    chart.redraw();
  }

  async function sort() {
    if (state.sort) {
      const key = await PG.column(info(state.sort)), sign = state.down ? -1 : 1;
      const missing = (v) => typeof v === "number" && Number.isNaN(v);
      state.chosen.sort((a, b) => {
        const u = key[a], v = key[b];
        if (missing(u) || missing(v)) return missing(u) - missing(v) || a - b;
        return u < v ? -sign : u > v ? sign : a - b;
      });
    }
    await table();
  }

  function nearest(px, py, reach) {
    if (!values.x) return -1;
    const seen = sprite || inView();
    if (seen.count > FEW) return -1;
    let best = -1, limit = reach * reach;
    for (const i of seen.found) {
      const d = (chart.px(values.x[i]) - px) ** 2 + (chart.py(values.y[i]) - py) ** 2;
      if (d < limit) { limit = d; best = i; }
    }
    return best;
  }

  async function hover(_chart, px, py) {
    const found = nearest(px, py, 12);
    if (found === hovered) return;
    hovered = found;
    chart.canvas.style.cursor = found >= 0 ? "pointer" : "";
    chart.redraw();
  }

  async function pick(_chart, px, py) {
    const found = nearest(px, py, 14);
    if (found < 0) return;
    hovered = found;
    chart.redraw();
    const ids = await PG.column(info("TARGETID"));
    $("picked").replaceChildren("Picked ", link(found, String(ids[found])), ` · ${state.x} ${PG.number(Number(values.x[found]))} · ${state.y} ${PG.number(Number(values.y[found]))}`);
  }

  const link = (row, text) => PG.el("a", { href: `galaxy.html#${row}`, text });

  /* ---- table ------------------------------------------------------------------------------------------------------ */

  const listed = () => [...new Set([...site.listed, state.x, state.y, ...extra])];

  async function table() {
    const names = listed(), columns = await Promise.all(names.map((n) => PG.column(info(n))));
    const n = state.chosen.length, pages = Math.max(1, Math.ceil(n / PAGE));
    state.page = Math.max(0, Math.min(state.page, pages - 1));
    const rows = Array.from(state.chosen.subarray(state.page * PAGE, (state.page + 1) * PAGE));
    PG.memory.set(Array.from(state.chosen.subarray(0, 5000)));
    $("head").replaceChildren(...names.map((name) => {
      const c = info(name), sorted = state.sort === name ? (state.down ? "descending" : "ascending") : "none";
      const arrow = sorted === "none" ? "" : state.down ? " ▾" : " ▴";
      return PG.el("th", { scope: "col", "aria-sort": sorted }, PG.el("button", { type: "button", title: c.description,
        onclick: () => { state.down = state.sort === name ? !state.down : false; state.sort = name; sort(); } },
        name + arrow, PG.el("small", { text: c.unit })));
    }));
    $("rows").replaceChildren(...rows.map((row) => PG.el("tr", {}, ...names.map((name, k) => {
      if (name === "TARGETID") return PG.el("td", {}, link(row, String(columns[k][row])));
      return PG.el("td", { text: PG.cell(site, info(name), columns[k][row]),
        class: name === "FLAG" && columns[k][row] ? "doubt" : name === "STATUS" && columns[k][row] ? "doubt" : false,
        title: name === "FLAG" ? PG.flagsOf(site, columns[k][row]).map((f) => f[1]).join(" + ") || "fits the data" : false });
    }))));
    $("count").textContent = `${n.toLocaleString("en")} of ${site.n.toLocaleString("en")} galaxies`;
    $("place").textContent = `page ${state.page + 1} of ${pages.toLocaleString("en")}`;
    $("previous").disabled = state.page === 0;
    $("next").disabled = state.page >= pages - 1;
    $("none").hidden = n > 0;
  }

  async function save() {
    const names = listed(), columns = await Promise.all(names.map((n) => PG.column(info(n))));
    const quote = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
    const value = (name, v) => (PG.isMissing(v) ? "" : name === "STATUS" || info(name).categories ? PG.cell(site, info(name), v) : String(v));
    const lines = [names.join(","), ...Array.from(state.chosen, (row) => names.map((name, k) => quote(value(name, columns[k][row]))).join(","))];
    const address = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
    PG.el("a", { href: address, download: "galaxies.csv" }).click();
    URL.revokeObjectURL(address);
  }

  return { start, state };
})();
PG.overview.start().catch(PG.fail);
