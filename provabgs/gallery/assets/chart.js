/* A plot on a canvas: axes, zoom, pan, keyboard. What is drawn inside is the caller's. */
"use strict";
PG.Chart = class {
  /* options: x, y ({label, low, high, log}), height, alt, draw(chart, context), drag ("pan" | "zoom-x" | "none"),
     zoomY, onHover(chart, x, y), onPick, wheel ("always" | "focus"), left */
  constructor(host, options) {
    this.host = host;
    this.o = { height: 300, drag: "pan", zoomY: true, wheel: "focus", left: 62, linked: [], ...options };
    this.x = { ...this.o.x };
    this.y = { ...this.o.y };
    this.home = [{ ...this.x }, { ...this.y }];
    this.linked = [];
    this.left = this.o.left;
    this.canvas = PG.el("canvas", { tabindex: 0, role: "img", "aria-label": this.o.alt || "" });
    host.replaceChildren(this.canvas);
    host.classList.add("chart");
    this._events();
    new ResizeObserver(() => this.redraw()).observe(host);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    this.redraw();
  }

  get box() {
    const top = 10, bottom = this.x.label === null ? 8 : 44, right = 12;
    return { left: this.left, top, width: Math.max(20, this.width - this.left - right),
             height: Math.max(20, this.height - top - bottom) };
  }

  static to(axis, value) { return axis.log ? Math.log10(value) : value; }
  static from(axis, value) { return axis.log ? 10 ** value : value; }
  static ends(axis) { return [PG.Chart.to(axis, axis.low), PG.Chart.to(axis, axis.high)]; }

  px(value) {
    const [a, b] = PG.Chart.ends(this.x), { left, width } = this.box;
    return left + ((PG.Chart.to(this.x, value) - a) / (b - a)) * width;
  }
  py(value) {
    const [a, b] = PG.Chart.ends(this.y), { top, height } = this.box;
    return top + height - ((PG.Chart.to(this.y, value) - a) / (b - a)) * height;
  }
  atX(pixel) {
    const [a, b] = PG.Chart.ends(this.x), { left, width } = this.box;
    return PG.Chart.from(this.x, a + ((pixel - left) / width) * (b - a));
  }
  atY(pixel) {
    const [a, b] = PG.Chart.ends(this.y), { top, height } = this.box;
    return PG.Chart.from(this.y, a + ((top + height - pixel) / height) * (b - a));
  }

  /* ---- drawing ---------------------------------------------------------------------------------------------------- */

  redraw() {
    if (this._waiting) return;
    this._waiting = requestAnimationFrame(() => { this._waiting = 0; this.drawNow(); });
  }

  drawNow() {
    const ratio = window.devicePixelRatio || 1;
    this.width = this.host.clientWidth;
    this.height = this.o.height;
    if (!this.width) return;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.height = `${this.height}px`;
    const c = this.canvas.getContext("2d");
    this.left = this._leftFor(c);
    const b = this.box;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = PG.theme("paper");
    c.fillRect(0, 0, this.width, this.height);
    this._grid(c, b);
    c.save();
    c.beginPath();
    c.rect(b.left, b.top, b.width, b.height);
    c.clip();
    this.o.draw(this, c);
    if (this._band) {
      c.fillStyle = PG.theme("select");
      c.fillRect(Math.min(...this._band), b.top, Math.abs(this._band[1] - this._band[0]), b.height);
    }
    c.restore();
    this._axes(c, b);
  }

  /* Room for the widest number beside the y axis and its turned label; at least what was asked for. */
  _leftFor(c) {
    c.font = "12px system-ui, sans-serif";
    const ys = PG.Chart.ticks(this.y, this.box.height / 50);
    const widest = Math.max(0, ...ys.map((v) => c.measureText(PG.Chart.tickText(v, ys, this.y)).width));
    return Math.max(this.o.left, Math.ceil(widest) + 30);
  }

  static ticks(axis, wanted) {
    if (axis.names) return axis.names.map((_, i) => i);
    const [a, b] = [axis.low, axis.high];
    if (axis.log) {
      const found = [], decades = Math.log10(b / a), steps = decades > 4 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5];
      for (let k = Math.floor(Math.log10(a)); k <= Math.ceil(Math.log10(b)); k++)
        for (const s of steps) { const v = s * 10 ** k; if (v >= a && v <= b) found.push(v); }
      if (found.length > 1) return found;
    }
    const raw = (b - a) / Math.max(2, wanted), base = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * base).find((s) => s >= raw) || 10 * base;
    const found = [];
    for (let v = Math.ceil(a / step) * step; v <= b + 1e-9 * step; v += step) found.push(Math.abs(v) < 1e-9 * step ? 0 : v);
    return found;
  }

  static tickText(value, ticks, axis) {
    if (axis.names) return axis.names[value] ?? "";
    const size = Math.abs(value);
    if (size && (size >= 1e5 || size < 1e-4)) return value.toExponential(0).replace("+", "").replace("-", "−");
    if (axis.log) return String(Number(value.toPrecision(3))).replace("-", "−");
    const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : size || 1;
    const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9) + (String(step).match(/25/) ? 1 : 0)));
    return value.toFixed(digits).replace("-", "−");
  }

  _grid(c, b) {
    c.strokeStyle = PG.theme("grid");
    c.lineWidth = 1;
    c.beginPath();
    for (const v of PG.Chart.ticks(this.x, Math.max(3.9, b.width / 90))) { const p = Math.round(this.px(v)) + 0.5; c.moveTo(p, b.top); c.lineTo(p, b.top + b.height); }
    for (const v of PG.Chart.ticks(this.y, b.height / 50)) { const p = Math.round(this.py(v)) + 0.5; c.moveTo(b.left, p); c.lineTo(b.left + b.width, p); }
    c.stroke();
  }

  _axes(c, b) {
    c.strokeStyle = PG.theme("axis");
    c.lineWidth = 1;
    c.strokeRect(b.left + 0.5, b.top + 0.5, b.width, b.height);
    c.fillStyle = PG.theme("ink");
    c.font = "12px system-ui, sans-serif";
    c.textAlign = "center";
    c.textBaseline = "top";
    const xs = PG.Chart.ticks(this.x, Math.max(3.9, b.width / 90)), ys = PG.Chart.ticks(this.y, b.height / 50);
    if (this.x.label !== null) {
      for (const v of xs) {
        const p = this.px(v);
        if (p >= b.left - 1 && p <= b.left + b.width + 1) c.fillText(PG.Chart.tickText(v, xs, this.x), p, b.top + b.height + 6);
      }
      PG.Chart.fit(c, this.x.label, b.width);
      c.fillText(this.x.label, b.left + b.width / 2, b.top + b.height + 25);
    }
    c.font = "12px system-ui, sans-serif";
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const v of ys) {
      const p = this.py(v);
      if (p >= b.top - 1 && p <= b.top + b.height + 1) c.fillText(PG.Chart.tickText(v, ys, this.y), b.left - 6, p);
    }
    c.save();
    c.translate(13, b.top + b.height / 2);
    c.rotate(-Math.PI / 2);
    c.textAlign = "center";
    PG.Chart.fit(c, this.y.label || "", b.height + 20);
    c.fillText(this.y.label || "", 0, 0);
    c.restore();
  }

  /* A smaller letter for a label that is too long. */
  static fit(c, text, room) {
    for (const size of [13, 12, 11, 10, 9]) {
      c.font = `${size}px system-ui, sans-serif`;
      if (c.measureText(text).width <= room) return;
    }
  }

  line(c, xs, ys, colour, width = 1, from = 0, to = xs.length) {
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.beginPath();
    let pen = false;
    const [first, last] = this.visible(xs, from, to);
    for (let i = first; i < last; i++) {
      if (!(Number.isFinite(ys[i]) && (!this.y.log || ys[i] > 0))) { pen = false; continue; }
      const x = this.px(xs[i]), y = this.py(ys[i]);
      if (pen) c.lineTo(x, y); else { c.moveTo(x, y); pen = true; }
    }
    c.stroke();
  }

  fill(c, xs, low, high, colour, from = 0, to = xs.length) {
    const [first, last] = this.visible(xs, from, to), floor = this.y.log ? this.y.low / 10 : -Infinity;
    c.fillStyle = colour;
    c.beginPath();
    const points = [];
    for (let i = first; i < last; i++) if (Number.isFinite(low[i]) && Number.isFinite(high[i])) points.push(i);
    for (const i of points) c.lineTo(this.px(xs[i]), this.py(Math.max(high[i], floor)));
    for (const i of points.reverse()) c.lineTo(this.px(xs[i]), this.py(Math.max(low[i], floor)));
    c.closePath();
    c.fill();
  }

  /* Of points ordered by x, those that are seen, and one beyond at each side. */
  visible(xs, from, to) {
    let first = from, last = to;
    while (first < to && xs[first] < this.x.low) first++;
    while (last > first && xs[last - 1] > this.x.high) last--;
    return [Math.max(from, first - 1), Math.min(to, last + 1)];
  }

  /* ---- zoom and pan ----------------------------------------------------------------------------------------------- */

  _set(axis, low, high) {
    if (!(Number.isFinite(low) && Number.isFinite(high)) || high - low < 1e-9 * Math.max(1e-6, Math.abs(low))) return;
    axis.low = low;
    axis.high = high;
  }

  _changed() {
    for (const other of this.linked) { other.x.low = this.x.low; other.x.high = this.x.high; other.redraw(); }
    this.redraw();
    this.o.onView?.(this);
  }

  zoom(factor, atX = null, atY = null) {
    for (const [axis, at] of [[this.x, atX], ...(this.o.zoomY ? [[this.y, atY]] : [])]) {
      const [a, b] = PG.Chart.ends(axis), centre = at === null ? (a + b) / 2 : PG.Chart.to(axis, at);
      this._set(axis, PG.Chart.from(axis, centre + (a - centre) / factor), PG.Chart.from(axis, centre + (b - centre) / factor));
    }
    this._changed();
  }

  pan(dx, dy) {
    for (const [axis, share] of [[this.x, dx], ...(this.o.zoomY ? [[this.y, dy]] : [])]) {
      const [a, b] = PG.Chart.ends(axis), move = share * (b - a);
      this._set(axis, PG.Chart.from(axis, a + move), PG.Chart.from(axis, b + move));
    }
    this._changed();
  }

  reset() {
    Object.assign(this.x, this.home[0]);
    Object.assign(this.y, this.home[1]);
    this._changed();
  }

  _events() {
    const at = (event) => { const r = this.canvas.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; };
    let start = null, last = null, moved = false;
    this.canvas.addEventListener("wheel", (event) => {
      if (this.o.wheel === "focus" && document.activeElement !== this.canvas && !event.ctrlKey) return;
      event.preventDefault();
      const [x, y] = at(event);
      this.zoom(event.deltaY < 0 ? 1.25 : 0.8, this.atX(x), this.atY(y));
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.canvas.focus({ preventScroll: true });
      this.canvas.setPointerCapture(event.pointerId);
      start = last = at(event);
      moved = false;
      if (this.mode === "lasso") this.o.onLasso(this, [start], false);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const now = at(event);
      if (!start) { this.o.onHover?.(this, now[0], now[1]); return; }
      moved = moved || Math.hypot(now[0] - start[0], now[1] - start[1]) > 4;
      if (!moved) return;
      if (this.mode === "lasso") this.o.onLasso(this, [now], false);
      else if (this.o.drag === "zoom-x" && !event.shiftKey) { this._band = [start[0], now[0]]; this.redraw(); }
      else this.pan(-(now[0] - last[0]) / this.box.width, (now[1] - last[1]) / this.box.height);
      last = now;
    });
    const end = (event) => {
      if (!start) return;
      const now = at(event);
      if (!moved) this.o.onPick?.(this, now[0], now[1]);
      else if (this.mode === "lasso") this.o.onLasso(this, [now], true);
      else if (this._band) {
        const [a, b] = this._band.map((p) => this.atX(p)).sort((u, v) => u - v);
        this._set(this.x, Math.max(a, this.home[0].low), Math.min(b, this.home[0].high));
        this._band = null;
        this._changed();
      }
      start = null;
    };
    this.canvas.addEventListener("pointerup", end);
    this.canvas.addEventListener("pointercancel", () => { start = null; this._band = null; this.redraw(); });
    this.canvas.addEventListener("dblclick", () => this.reset());
    this.canvas.addEventListener("keydown", (event) => {
      const keys = { "+": () => this.zoom(1.3), "=": () => this.zoom(1.3), "-": () => this.zoom(1 / 1.3), 0: () => this.reset(),
                     ArrowLeft: () => this.pan(-0.1, 0), ArrowRight: () => this.pan(0.1, 0),
                     ArrowUp: () => this.pan(0, 0.1), ArrowDown: () => this.pan(0, -0.1) };
      if (event.ctrlKey || event.metaKey || !(event.key in keys)) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
};
