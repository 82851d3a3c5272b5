/* Figures of one galaxy: spectrum and residuals, bands, histories. Each takes unpacked arrays and a host element. */
"use strict";
PG.figures = (() => {
  const BIN = 8;
  const swatch = (colour, text) => {
    const mark = PG.el("i", { class: "swatch", "aria-hidden": "true" });
    mark.style.background = `var(--${colour})`;
    return PG.el("span", { class: "key" }, mark, text);
  };

  function quantile(values, q) {
    const sorted = Float64Array.from(values).filter(Number.isFinite).sort();
    return sorted.length ? sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(q * (sorted.length - 1))))] : NaN;
  }

  /* First and last + 1 pixel of each camera. */
  function cameras(d) {
    const runs = [];
    for (let i = 0; i < d.wave.length; i++)
      if (!i || d.camera[i] !== d.camera[i - 1]) runs.push({ camera: d.camera[i], from: i, to: i + 1 });
      else runs[runs.length - 1].to = i + 1;
    return runs;
  }

  /* Inverse-variance means over groups of pixels, without those that the fit left out. */
  function binned(d, values, from, to) {
    const wave = [], mean = [], sigma = [];
    for (let i = from; i + BIN <= to; i += BIN) {
      let weight = 0, sum = 0, w = 0;
      for (let k = i; k < i + BIN; k++) {
        w += d.wave[k] / BIN;
        const v = 1 / d.sigma[k] ** 2;
        if (d.state[k] !== 2 && Number.isFinite(v)) { weight += v; sum += v * values[k]; }
      }
      wave.push(w);
      mean.push(weight ? sum / weight : NaN);
      sigma.push(weight ? 1 / Math.sqrt(weight) : NaN);
    }
    return { wave, mean, sigma };
  }

  function masks(chart, c, d) {
    c.fillStyle = PG.theme("mask");
    for (const { from, to } of cameras(d))
      for (let i = from; i < to; i++) {
        if (d.state[i] !== 1) continue;
        let j = i;
        while (j + 1 < to && d.state[j + 1] === 1) j++;
        const a = chart.px(d.wave[i]), b = chart.px(d.wave[j]);
        c.fillRect(a, 0, Math.max(1, b - a), chart.height);
        i = j;
      }
  }

  function labels(chart, c, lines) {
    c.font = "11px system-ui, sans-serif";
    c.textAlign = "left";
    c.textBaseline = "middle";
    let last = -99;
    for (const [name, wave, strong] of lines) {
      if (wave < chart.x.low || wave > chart.x.high) continue;
      const x = chart.px(wave), { top, height } = chart.box;
      c.strokeStyle = c.fillStyle = PG.theme(strong ? "strong" : "weak");
      c.globalAlpha = strong ? 0.8 : 0.45;
      c.setLineDash(strong ? [] : [2, 3]);
      c.beginPath(); c.moveTo(x, top + 4); c.lineTo(x, top + height); c.stroke();
      c.setLineDash([]);
      c.globalAlpha = 1;
      if (x - last < 13) continue;
      last = x;
      c.save(); c.translate(x + 6, top + 6); c.rotate(Math.PI / 2); c.fillText(name.replace(/ \d+$/, ""), 0, 0); c.restore();
    }
  }

  function spectrum(host, d, names, lines) {
    const shown = { lines: true, pixels: true };
    const n = d.wave.length, residual = new Float32Array(n), pull = new Float32Array(n);
    for (let i = 0; i < n; i++) { residual[i] = d.flux[i] - d.median[i]; pull[i] = residual[i] / d.sigma[i]; }
    const runs = cameras(d).map((r) => ({ ...r, mean: binned(d, d.flux, r.from, r.to), rest: binned(d, residual, r.from, r.to) }));
    const peak = quantile(d.median, 1), noise = quantile(d.sigma, 0.5), high = quantile(d.flux, 0.995), low = quantile(d.flux, 0.005);
    const x = { label: null, low: quantile(d.wave, 0), high: quantile(d.wave, 1) };
    const y = { label: "flux [1e-17 erg/s/cm²/Å]", low: Math.min(0, Math.max(low, -2 * noise)),
                high: 1.1 * (Math.max(1.25 * peak, Math.min(high, 2 * peak)) + noise) };
    const clipped = d.state.reduce((a, s) => a + (s === 2), 0), masked = d.state.reduce((a, s) => a + (s === 1), 0);
    const cross = (chart, c, value) => {
      c.strokeStyle = PG.theme("clipped");
      c.lineWidth = 1.5;
      for (let i = 0; i < n; i++) {
        if (d.state[i] !== 2 || d.wave[i] < chart.x.low || d.wave[i] > chart.x.high) continue;
        const px = chart.px(d.wave[i]), py = chart.py(Math.max(chart.y.low, Math.min(chart.y.high, value[i])));
        c.beginPath(); c.moveTo(px - 3, py - 3); c.lineTo(px + 3, py + 3); c.moveTo(px - 3, py + 3); c.lineTo(px + 3, py - 3); c.stroke();
      }
    };
    const tools = PG.el("div", { class: "bar" });
    const top = PG.el("div"), bottom = PG.el("div"), reading = PG.el("p", { class: "quiet", "aria-live": "off" });
    host.append(tools, top, bottom, reading);
    const tell = (_c, px) => {
      const wave = main.atX(px);
      let best = -1;
      for (let i = 0; i < n; i++) if (best < 0 || Math.abs(d.wave[i] - wave) < Math.abs(d.wave[best] - wave)) best = i;
      if (best >= 0) reading.textContent = `${d.wave[best].toFixed(1)} Å: flux ${PG.number(d.flux[best])} ± ${PG.number(d.sigma[best])}, model ${PG.number(d.median[best])} (68 %: ${PG.number(d.low68[best])} to ${PG.number(d.high68[best])}), residual ${PG.number(pull[best], 3)} σ${["", ", not fitted (line mask)", ", not fitted (outlier)"][d.state[best]]}`;
    };
    const main = new PG.Chart(top, { x, y, height: 340, drag: "zoom-x", zoomY: false, onHover: tell,
      alt: `Spectrum of ${n} pixels from ${x.low.toFixed(0)} to ${x.high.toFixed(0)} Å with the model's 68 and 95 % bands; ${masked} pixels masked at lines, ${clipped} outliers left out. Plus and minus zoom, arrows pan, 0 resets.`,
      draw(chart, c) {
        masks(chart, c, d);
        for (const r of runs) {
          const colour = PG.theme(`camera${r.camera % 3}`);
          if (shown.pixels) { c.globalAlpha = 0.35; chart.line(c, d.wave, d.flux, colour, 0.7, r.from, r.to); c.globalAlpha = 1; }
          chart.line(c, r.mean.wave, r.mean.mean, colour, 1.3);
          chart.fill(c, d.wave, d.low95, d.high95, PG.theme("band95"), r.from, r.to);
          chart.fill(c, d.wave, d.low68, d.high68, PG.theme("band68"), r.from, r.to);
          chart.line(c, d.wave, d.median, PG.theme("model"), 0.9, r.from, r.to);
        }
        cross(chart, c, d.flux);
        if (shown.lines) labels(chart, c, lines);
      } });
    const rest = new PG.Chart(bottom, { x: { ...x, label: "observed wavelength, vacuum [Å]" }, y: { label: "residual / σ", low: -5, high: 5 },
      height: 165, drag: "zoom-x", zoomY: false, onHover: tell, alt: "Residuals of the spectrum in units of their errors, and their means over 8 pixels.",
      draw(chart, c) {
        masks(chart, c, d);
        for (const r of runs) {
          const colour = PG.theme(`camera${r.camera % 3}`);
          if (shown.pixels) {
            c.fillStyle = colour;
            c.globalAlpha = 0.3;
            for (let i = r.from; i < r.to; i++) c.fillRect(chart.px(d.wave[i]) - 0.6, chart.py(pull[i]) - 0.6, 1.3, 1.3);
            c.globalAlpha = 1;
          }
          chart.line(c, r.rest.wave, r.rest.mean.map((v, i) => v / r.rest.sigma[i]), colour, 1.2);
        }
        chart.line(c, [chart.x.low, chart.x.high], [0, 0], PG.theme("model"), 1);
        cross(chart, c, pull);
      } });
    main.linked.push(rest);
    rest.linked.push(main);
    const box = (key, text) => PG.el("label", {}, PG.el("input", { type: "checkbox", checked: true, onchange: (e) => { shown[key] = e.target.checked; main.redraw(); rest.redraw(); } }), text);
    tools.append(box("lines", "line labels"), box("pixels", "single pixels"),
      PG.el("span", { class: "tools" }, PG.el("button", { type: "button", "aria-label": "Zoom in", text: "+", onclick: () => main.zoom(1.6) }),
        PG.el("button", { type: "button", "aria-label": "Zoom out", text: "−", onclick: () => main.zoom(1 / 1.6) }),
        PG.el("button", { type: "button", text: "Reset", onclick: () => main.reset() })),
      PG.el("span", {}, ...names.map((name, k) => swatch(`camera${k % 3}`, `camera ${name}`)), swatch("band68", "model, 68 %"), swatch("band95", "95 %"),
        ...(masked ? [swatch("mask", "not fitted")] : []), ...(clipped ? [swatch("clipped", `${clipped} outliers, not fitted`)] : [])));
    reading.textContent = "Drag over the spectrum to zoom in, double-click to see all of it; hold Shift and drag to move.";
  }

  function bands(host, list, sed) {
    const low = sed.wave[0], high = sed.wave[sed.wave.length - 1];
    const positive = [...list.flatMap((b) => [b.flux, b.model[2]]).filter((v) => v > 0), quantile(sed.median, 0.05), quantile(sed.median, 0.98)].filter((v) => v > 0);
    const micron = (w) => w / 1e4, wave = sed.wave.map(micron);
    const top = PG.el("div"), bottom = PG.el("div");
    host.append(PG.el("p", {}, swatch("camera0", "measured, 1σ"), swatch("band68", "model, 68 %"), swatch("band95", "95 %")), top, bottom);
    new PG.Chart(top, { x: { label: "observed wavelength [µm]", low: micron(low), high: micron(high), log: true },
      y: { label: "flux [nanomaggies]", low: 0.45 * Math.min(...positive), high: 2.2 * Math.max(...positive), log: true }, height: 300,
      alt: `Bands: ${list.map((b) => `${b.name} ${PG.number(b.flux, 3)} ± ${PG.number(b.sigma, 2)} nanomaggies, model ${PG.number(b.model[2], 3)}`).join("; ")}.`,
      draw(chart, c) {
        chart.fill(c, wave, sed.low95, sed.high95, PG.theme("band95"));
        chart.fill(c, wave, sed.low68, sed.high68, PG.theme("band68"));
        chart.line(c, wave, sed.median, PG.theme("model"), 0.7);
        for (const b of list) {
          const x = chart.px(micron(b.wave)), floor = chart.y.low / 3;
          const at = (v) => chart.py(Math.max(v, floor));
          c.strokeStyle = PG.theme("model");
          c.lineWidth = 1.4;
          c.strokeRect(x - 6, at(b.model[2]) - 6, 12, 12);
          c.strokeStyle = c.fillStyle = PG.theme("camera0");
          c.lineWidth = 2;
          c.beginPath(); c.moveTo(x, at(b.flux - b.sigma)); c.lineTo(x, at(b.flux + b.sigma)); c.stroke();
          c.beginPath(); c.arc(x, at(b.flux), 3.5, 0, 7); c.fill();
          c.font = "bold 12px system-ui, sans-serif";
          c.textAlign = "center";
          c.fillText(b.name, x, chart.box.top + chart.box.height - 10);
        }
      } });
    const limit = Math.max(3, 1.15 * Math.max(...list.flatMap((b) => [Math.abs(b.pull[0]), Math.abs(b.pull[4])])));
    new PG.Chart(bottom, { x: { label: "", low: -0.6, high: list.length - 0.4, names: list.map((b) => b.name) }, y: { label: "residual / σ", low: -limit, high: limit },
      height: 150, drag: "none", alt: `Residuals of the bands: ${list.map((b) => `${b.name} ${PG.number(b.pull[2], 2)} σ`).join(", ")}.`,
      draw(chart, c) {
        c.fillStyle = PG.theme("grid");
        c.fillRect(chart.box.left, chart.py(1), chart.box.width, chart.py(-1) - chart.py(1));
        chart.line(c, [-1, list.length], [0, 0], PG.theme("model"), 1);
        list.forEach((b, k) => {
          const x = chart.px(k);
          for (const [i, j, colour] of [[0, 4, "band95"], [1, 3, "band68"]]) {
            c.fillStyle = PG.theme(colour);
            c.fillRect(x - 6, chart.py(b.pull[j]), 12, Math.max(1, chart.py(b.pull[i]) - chart.py(b.pull[j])));
          }
          c.fillStyle = PG.theme("camera0");
          c.beginPath(); c.arc(x, chart.py(b.pull[2]), 4, 0, 7); c.fill();
        });
      } });
  }

  function history(host, h) {
    const last = h.time[h.time.length - 1];
    const one = (what, label, low, high, text, mark) => {
      const place = PG.el("div");
      host.append(place);
      const median = h[`${what}_median`];
      new PG.Chart(place, { x: { label: "lookback time from the galaxy [Gyr]", low: 0, high: last }, y: { label, low, high, log: true }, height: 250, left: 76,
        alt: `${text} over lookback time: median ${PG.number(median[1], 3)} at ${PG.number(h.time[1], 2)} Gyr, ${PG.number(median[Math.floor(median.length / 2)], 3)} at ${PG.number(last / 2, 2)} Gyr.`,
        draw(chart, c) {
          chart.fill(c, h.time, h[`${what}_low95`], h[`${what}_high95`], PG.theme("band95"));
          chart.fill(c, h.time, h[`${what}_low68`], h[`${what}_high68`], PG.theme("band68"));
          chart.line(c, h.time, median, PG.theme("model"), 1.4);
          if (!mark) return;
          c.setLineDash([3, 3]);
          chart.line(c, [0, last], [mark, mark], PG.theme("solar"), 1);
          c.setLineDash([]);
          c.fillStyle = PG.theme("solar");
          c.textAlign = "right";
          c.font = "11px system-ui, sans-serif";
          c.fillText("solar", chart.box.left + chart.box.width - 4, chart.py(mark) - 8);
        } });
    };
    const most = Math.max(...h.sfr_high95), least = Math.min(...h.sfr_low95.filter((v) => v > 0), most);
    one("sfr", "SFR [Msun/yr]", Math.max(least / 2, 1e-4 * most, 1e-5), 3 * most, "Star formation rate", 0);
    one("zh", "Z (solar = 0.0190)", 4e-5, 6e-2, "Metallicity of the stars formed", 0.019);
  }

  return { spectrum, bands, history, quantile, swatch };
})();
