/* Chunks of data: each is a script that calls PG.put, since pages opened from a folder may not fetch. */
"use strict";
const PG = (() => {
  const values = new Map(), loading = new Map(), decoded = new Map();
  const TYPES = { f4: Float32Array, f8: Float64Array, i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array,
                  i4: Int32Array, i8: BigInt64Array };

  const put = (name, value) => values.set(name, value);

  /* The value of a chunk, loaded once. */
  function load(name) {
    if (!loading.has(name)) {
      loading.set(name, new Promise((resolve, reject) => {
        if (values.has(name)) { resolve(values.get(name)); return; }
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onload = () => {
          script.remove();
          if (values.has(name)) { resolve(values.get(name)); values.delete(name); }
          else reject(new Error(`data/${name}.js is damaged; build the gallery again`));
        };
        script.onerror = () => reject(new Error(`data/${name}.js is missing; build the gallery again`));
        document.head.append(script);
      }));
    }
    return loading.get(name);
  }

  async function gunzip(text) {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    if (typeof DecompressionStream === "undefined")
      throw new Error("this browser cannot decompress; use Firefox 113, Chrome 80, Safari 16.4 or newer");
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /* Typed arrays by name; text columns as lists. The inverse of provabgs.gallery.pack.pack. */
  async function unpack(chunk) {
    const body = await gunzip(chunk.data), out = {}, n = chunk.n;
    let start = 0;
    for (const [name, kind] of chunk.columns) {
      const size = TYPES[kind].BYTES_PER_ELEMENT, bytes = new Uint8Array(n * size);
      for (let b = 0; b < size; b++)
        for (let i = 0, from = start + b * n, to = b; i < n; i++, from++, to += size) bytes[to] = body[from];
      out[name] = new TYPES[kind](bytes.buffer);
      start += n * size;
    }
    return Object.assign(out, chunk.text);
  }

  /* A column of the overview, decoded once. */
  function column(info) {
    if (!decoded.has(info.name))
      decoded.set(info.name, load(`columns/${info.file}`).then(unpack).then((c) => c[info.name]));
    return decoded.get(info.name);
  }

  /* All numbers and texts of one galaxy. */
  async function row(site, index) {
    const block = await load(`rows/${Math.floor(index / site.rows)}`);
    const columns = await unpack(block), at = index % site.rows, out = {};
    for (const name of Object.keys(columns)) out[name] = columns[name][at];
    return out;
  }

  const hasPage = (site, index) => site.pages === "all" || site.pages.includes(index);
  const page = (site, index) => load(`pages/${Math.floor(index / site.folder)}/${index}`);

  /* ---- words and numbers ------------------------------------------------------------------------------------------ */

  /* An element with text and attributes; text is never taken for HTML. */
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") node.textContent = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value != null) node.setAttribute(key, value);
    }
    node.append(...children.filter((c) => c != null));
    return node;
  }

  function number(value, digits = 4) {
    if (value == null || (typeof value === "number" && Number.isNaN(value))) return "–";
    if (typeof value === "bigint" || Number.isInteger(value)) return String(value);
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(Math.max(1, digits - 2)).replace("-", "−");
    return value.toFixed(size < 1000 ? Math.max(2, digits - 1) : 1).replace("-", "−");
  }

  const isMissing = (value) => value == null || value === "" || (typeof value === "number" && Number.isNaN(value));

  /* STATUS as a word, FLAG as the names of its bits. */
  const statusName = (site, code) => site.status[String(code)] || String(code);
  const flagsOf = (site, flag) => site.flags.filter(([bit]) => Number(flag) & bit);

  function cell(site, info, value) {
    if (info.name === "STATUS") return statusName(site, value);
    if (info.categories) return info.categories[value] ?? "–";
    if (info.name === "RA" || info.name === "DEC") return isMissing(value) ? "–" : value.toFixed(6).replace("-", "−");
    return number(value);
  }

  const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function fail(error) {
    const box = document.getElementById("problem");
    if (!box) return;
    box.hidden = false;
    box.textContent = error.message || String(error);
  }
  window.addEventListener("unhandledrejection", (event) => fail(event.reason));

  /* What was chosen in the overview, for next and previous on pages. Sites opened from folders share one storage, so
     that the place of the site is part of the key. */
  const key = `provabgs-rows ${location.pathname.replace(/[^/]*$/, "")}`;
  const memory = {
    set(rows) { try { sessionStorage.setItem(key, JSON.stringify(rows)); } catch { /* no storage: by row */ } },
    get() { try { return JSON.parse(sessionStorage.getItem(key) || "null"); } catch { return null; } },
  };

  return { put, load, unpack, column, row, hasPage, page, el, number, isMissing, statusName, flagsOf, cell, theme, fail,
           memory };
})();
