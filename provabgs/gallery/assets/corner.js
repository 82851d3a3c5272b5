/* Corner plot of posterior draws: 68 and 95 % regions of smoothed histograms, marginals with 16, 50 and 84 %. */
"use strict";
PG.corner = (() => {
  const BINS = 28, FINE = 84;

  function range(values) {
    const q = PG.figures.quantile, low = q(values, 0.002), high = q(values, 0.998), margin = 0.08 * (high - low) + 1e-9;
    return [low - margin, high + margin];
  }

  function smooth(grid, nx, ny) {
    const kernel = [0.054, 0.242, 0.399, 0.242, 0.054].map((w) => w / 0.991), pass = (from, dx, dy) => {
      const to = new Float64Array(from.length);
      for (let y = 0; y < ny; y++) for (let x = 0; x < nx; x++) {
        let sum = 0;
        for (let k = -2; k <= 2; k++) {
          const u = Math.min(nx - 1, Math.max(0, x + k * dx)), v = Math.min(ny - 1, Math.max(0, y + k * dy));
          sum += kernel[k + 2] * from[v * nx + u];
        }
        to[y * nx + x] = sum;
      }
      return to;
    };
    return pass(pass(grid, 1, 0), 0, 1);
  }

  /* Densities above which 68 and 95 % of the probability lie. */
  function levels(grid) {
    const sorted = Array.from(grid).sort((a, b) => b - a), total = sorted.reduce((a, b) => a + b, 0);
    return [0.68, 0.95].map((share) => {
      let sum = 0;
      for (const v of sorted) { sum += v; if (sum >= share * total) return v; }
      return 0;
    });
  }

  function rgba(name) {
    const c = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    c.fillStyle = PG.theme(name);
    c.fillRect(0, 0, 1, 1);
    return c.getImageData(0, 0, 1, 1).data;
  }

  function pair(c, xs, ys, rx, ry, box) {
    const grid = new Float64Array(BINS * BINS);
    for (let i = 0; i < xs.length; i++) {
      const u = Math.floor(((xs[i] - rx[0]) / (rx[1] - rx[0])) * BINS), v = Math.floor(((ys[i] - ry[0]) / (ry[1] - ry[0])) * BINS);
      if (u >= 0 && u < BINS && v >= 0 && v < BINS) grid[v * BINS + u]++;
    }
    const density = smooth(grid, BINS, BINS), [inner, outer] = levels(density), image = new ImageData(FINE, FINE), ink = rgba("accent");
    for (let v = 0; v < FINE; v++) for (let u = 0; u < FINE; u++) {
      const x = Math.max(0, Math.min(BINS - 1.001, ((u + 0.5) / FINE) * BINS - 0.5)), y = Math.max(0, Math.min(BINS - 1.001, ((v + 0.5) / FINE) * BINS - 0.5));
      const a = Math.floor(x), b = Math.floor(y), f = x - a, g = y - b, at = (p, q) => density[Math.min(q, BINS - 1) * BINS + Math.min(p, BINS - 1)];
      const value = (1 - f) * (1 - g) * at(a, b) + f * (1 - g) * at(a + 1, b) + (1 - f) * g * at(a, b + 1) + f * g * at(a + 1, b + 1);
      if (value >= outer) image.data.set([ink[0], ink[1], ink[2], value >= inner ? 220 : 95], 4 * ((FINE - 1 - v) * FINE + u));
    }
    const sheet = new OffscreenCanvas(FINE, FINE);
    sheet.getContext("2d").putImageData(image, 0, 0);
    c.imageSmoothingEnabled = true;
    c.drawImage(sheet, box.x, box.y, box.size, box.size);
  }

  function marginal(c, values, r, box) {
    const counts = new Array(BINS).fill(0);
    for (const v of values) { const u = Math.floor(((v - r[0]) / (r[1] - r[0])) * BINS); if (u >= 0 && u < BINS) counts[u]++; }
    const most = Math.max(...counts), step = box.size / BINS, height = 0.88 * box.size;
    c.fillStyle = PG.theme("band68");
    counts.forEach((n, k) => c.fillRect(box.x + k * step, box.y + box.size - (n / most) * height, step + 0.4, (n / most) * height));
    c.strokeStyle = PG.theme("model");
    c.lineWidth = 1;
    for (const [q, dash] of [[0.16, [2, 3]], [0.5, []], [0.84, [2, 3]]]) {
      const x = box.x + ((PG.figures.quantile(values, q) - r[0]) / (r[1] - r[0])) * box.size;
      c.setLineDash(dash);
      c.beginPath(); c.moveTo(x, box.y); c.lineTo(x, box.y + box.size); c.stroke();
    }
    c.setLineDash([]);
  }

  function draw(canvas, quantities, draws) {
    const n = quantities.length, ratio = window.devicePixelRatio || 1, width = Math.min(canvas.parentElement.clientWidth, 190 * n + 80);
    const left = 62, bottom = 58, gap = 5, size = Math.max(26, (width - left - 8 - gap * (n - 1)) / n), height = Math.round(n * size + gap * (n - 1) + bottom + 18);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const c = canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = PG.theme("paper");
    c.fillRect(0, 0, width, height);
    const ranges = quantities.map((q) => range(draws[q.name])), label = (q) => (q.log ? `log ${q.name}` : q.name);
    for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) {
      const box = { x: left + j * (size + gap), y: 16 + i * (size + gap), size };
      if (i === j) marginal(c, draws[quantities[i].name], ranges[i], box);
      else pair(c, draws[quantities[j].name], draws[quantities[i].name], ranges[j], ranges[i], box);
      c.strokeStyle = PG.theme("axis");
      c.lineWidth = 1;
      c.strokeRect(box.x, box.y, size, size);
      axes(c, i, j, n, box, ranges, quantities.map(label), size);
    }
    canvas.setAttribute("aria-label", `Corner plot: ${quantities.map((q) => `${q.name} ${PG.number(PG.figures.quantile(draws[q.name], 0.5))} (${PG.number(PG.figures.quantile(draws[q.name], 0.16))} to ${PG.number(PG.figures.quantile(draws[q.name], 0.84))})`).join(", ")}.`);
  }

  function axes(c, i, j, n, box, ranges, names, size) {
    const text = PG.theme("ink"), fit = (t, room) => PG.Chart.fit(c, t, room), axis = (r) => ({ low: r[0], high: r[1] });
    c.fillStyle = text;
    if (i === n - 1) {
      const ticks = PG.Chart.ticks(axis(ranges[j]), Math.max(2.5, size / 45));
      c.textAlign = "center"; c.textBaseline = "top"; c.font = "11px system-ui, sans-serif";
      for (const v of ticks) c.fillText(PG.Chart.tickText(v, ticks, {}), box.x + ((v - ranges[j][0]) / (ranges[j][1] - ranges[j][0])) * size, box.y + size + 4);
      fit(names[j], size + 2);
      c.fillText(names[j], box.x + size / 2, box.y + size + 24);
    }
    if (j === 0) {
      if (i > 0) {
        const ticks = PG.Chart.ticks(axis(ranges[i]), Math.max(2.5, size / 35));
        c.textAlign = "right"; c.textBaseline = "middle"; c.font = "11px system-ui, sans-serif";
        for (const v of ticks) c.fillText(PG.Chart.tickText(v, ticks, {}), box.x - 4, box.y + size - ((v - ranges[i][0]) / (ranges[i][1] - ranges[i][0])) * size);
      }
      c.save(); c.translate(10, box.y + size / 2); c.rotate(-Math.PI / 2); c.textAlign = "center"; c.textBaseline = "middle";
      const name = i ? names[i] : "density";
      fit(name, size + 2); c.fillText(name, 0, 0); c.restore();
    }
    if (i === j && size > 60) {
      c.textAlign = "center"; c.textBaseline = "bottom";
      fit(names[i], size);
      c.fillText(names[i], box.x + size / 2, box.y - 2);
    }
  }

  /* Check boxes and the plot; drawn when the reader opens it. */
  function place(host, quantities, draws) {
    const chosen = new Set(quantities.filter((q) => q.key).map((q) => q.name));
    if (chosen.size < 2) quantities.slice(0, 5).forEach((q) => chosen.add(q.name));
    const canvas = PG.el("canvas", { role: "img", "aria-label": "Corner plot" });
    const redraw = () => { const shown = quantities.filter((q) => chosen.has(q.name)); if (shown.length && canvas.isConnected) draw(canvas, shown, draws); };
    const box = (q) => PG.el("label", { title: q.description }, PG.el("input", { type: "checkbox", checked: chosen.has(q.name), value: q.name, onchange: (e) => { e.target.checked ? chosen.add(q.name) : chosen.delete(q.name); redraw(); } }), ` ${q.name}`);
    const every = PG.el("button", { type: "button", text: `All ${quantities.length}`, onclick: () => { quantities.forEach((q) => chosen.add(q.name)); for (const input of boxes.querySelectorAll("input")) input.checked = true; redraw(); } });
    const boxes = PG.el("div", { class: "checks" }, every, ...quantities.map(box));
    host.replaceChildren(boxes, PG.el("div", { class: "scroll plain" }, canvas));
    new ResizeObserver(redraw).observe(host);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    redraw();
  }

  return { place };
})();
