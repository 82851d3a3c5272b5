/* The page of one galaxy: galaxy.html#ROW. */
"use strict";
(() => {
  const $ = (id) => document.getElementById(id), el = PG.el;
  let site;

  async function show() {
    document.body.dataset.ready = "";
    $("problem").hidden = true;
    site = await PG.load("site");
    const index = Number(location.hash.slice(1) || 0);
    if (!Number.isInteger(index) || index < 0 || index >= site.n)
      throw new Error(`no galaxy ${location.hash}; this gallery has rows 0 to ${site.n - 1}`);
    const [row, page] = await Promise.all([PG.row(site, index), PG.hasPage(site, index) ? PG.page(site, index) : null]);
    head(row, index);
    verdict(row, page);
    const body = $("page");
    body.replaceChildren();
    if (page) await pictures(body, page);
    numbers(body, row, page);
    if (page?.draws) await corner(body, page);
    everything(body, row);
    if (page) origin(body, page);
    $("version").textContent = `provabgs ${site.version}`;
    document.body.dataset.ready = "1";
  }

  function head(row, index) {
    const id = String(row.TARGETID), status = PG.statusName(site, row.STATUS);
    document.title = `${id} – ${site.title}`;
    $("title").textContent = Number(row.TARGETID) >= 0 ? `TARGETID ${id}` : `Galaxy ${index}`;
    const badge = (text, good, title) => el("span", { class: `badge ${good ? "good" : "doubt"}`, text, title });
    $("badges").replaceChildren(el("span", { class: "quiet", text: PG.isMissing(row.Z) ? "no redshift " : `z = ${row.Z.toFixed(4)} ` }),
      badge(status, row.STATUS === 0), " ", ...(PG.isMissing(row.FLAG) ? [] : [badge(`FLAG ${row.FLAG}`, row.FLAG === 0)]));
    const chosen = PG.memory.get(), order = Array.isArray(chosen) && chosen.includes(index) ? chosen : null;
    const step = (by) => (order ? order[order.indexOf(index) + by] : index + by >= 0 && index + by < site.n ? index + by : undefined);
    for (const [name, by] of [["previous", -1], ["next", 1]]) {
      const to = step(by);
      $(name).hidden = to === undefined;
      $(name).href = `#${to}`;
    }
    $("overview").hidden = site.n === 1;
    const where = [];
    if (!PG.isMissing(row.RA) && !PG.isMissing(row.DEC)) {
      const [ra, dec] = [row.RA.toFixed(5), row.DEC.toFixed(5)];
      where.push(`RA ${ra}°, Dec ${dec.replace("-", "−")}° · `, el("a", { rel: "noreferrer noopener", target: "_blank", text: "Legacy Surveys viewer",
        href: `https://www.legacysurvey.org/viewer?ra=${ra}&dec=${dec}&layer=ls-dr9&zoom=15&mark=${ra},${dec}` }));
    }
    $("where").replaceChildren(...where);
  }

  function verdict(row, page) {
    const host = $("words"), flags = PG.isMissing(row.FLAG) ? [] : PG.flagsOf(site, row.FLAG), list = [];
    const lines = page?.words?.length ? page.words : [];
    if (row.STATUS !== 0) list.push(`STATUS ${PG.statusName(site, row.STATUS)}: ${site.with_samples.includes(row.STATUS) ? "do not use without a look" : "no samples"}.`);
    list.push(...lines.map((line) => line));
    if (!lines.length) for (const [, name, text] of flags) list.push(`${name}: ${text}.`);
    if (row.MESSAGE) list.push(row.MESSAGE);
    if (page?.missing && site.with_samples.includes(row.STATUS)) list.push(`Not shown: ${page.missing}`);
    if (!page && site.with_samples.includes(row.STATUS)) list.push("This gallery keeps data and draws of some galaxies only, not of this one; build it with more --pages, or select fewer galaxies.");
    host.replaceChildren(el("h2", { text: flags.length || row.STATUS !== 0 ? "What does not fit" : "Fits the data" }),
      el("ul", { class: "words" }, ...list.map((text) => el("li", { text }))),
      ...(flags.length && lines.length ? [el("details", {}, el("summary", { text: "What the flags mean" }), el("ul", { class: "words" }, ...flags.map(([bit, name, text]) => el("li", { text: `${bit} ${name}: ${text}` }))))] : []));
  }

  async function pictures(body, page) {
    if (page.spectrum) {
      const section = el("section", {}, el("h2", { text: "Spectrum" }));
      body.append(section);
      PG.figures.spectrum(section, await PG.unpack(page.spectrum.pixels), page.spectrum.cameras, page.lines);
    }
    const two = el("div", { class: "two" });
    body.append(two);
    if (page.bands) {
      const section = el("section", {}, el("h2", { text: "Bands" }));
      two.append(section);
      PG.figures.bands(section, page.bands, await PG.unpack(page.sed));
    }
    if (page.history) {
      const section = el("section", {}, el("h2", { text: "Histories" }));
      two.append(section);
      PG.figures.history(section, await PG.unpack(page.history));
    }
  }

  function numbers(body, row, page) {
    const names = site.quantities;
    if (!names.some((n) => !PG.isMissing(row[`${n}_P50`]))) return;
    const python = new Map((page?.quantities || []).map((q) => [q.column, q.name]));
    const heads = ["quantity", "median", "−", "+", "best fit", "R-hat", "ESS", "unit", "meaning"];
    const rows = names.filter((n) => !PG.isMissing(row[`${n}_P50`])).map((n) => {
      const [low, mid, high] = ["P16", "P50", "P84"].map((s) => row[`${n}_${s}`]), [unit, about] = site.units[`${n}_P50`] || ["", ""];
      const ess = Math.min(...["ESS_BULK", "ESS_TAIL"].map((s) => row[`${n}_${s}`]).filter((v) => !PG.isMissing(v)));
      const cells = [PG.number(mid), PG.number(mid - low), PG.number(high - mid), PG.number(row[`${n}_BF`]), PG.number(row[`${n}_RHAT`]), Number.isFinite(ess) ? ess.toFixed(0) : "–", unit, about.replace(/^\d+ % quantile: /, "")];
      return el("tr", {}, el("th", { scope: "row", text: n, title: python.get(n) || "" }), ...cells.map((text) => el("td", { text })));
    });
    body.append(el("section", {}, el("h2", { text: "Properties and parameters" }), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Properties and parameters" },
      el("table", { class: "wrapcell", id: "numbers" }, el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col", text })))), el("tbody", {}, ...rows)))));
  }

  async function corner(body, page) {
    const host = el("div"), details = el("details", { id: "corner" }, el("summary", { text: "Corner plot" }), host);
    body.append(details);
    const draws = await PG.unpack(page.draws);
    let placed = false;
    details.addEventListener("toggle", () => { if (details.open && !placed) { placed = true; PG.corner.place(host, page.quantities, draws); } });
  }

  function everything(body, row) {
    const value = (name, v) => (name === "STATUS" ? `${v} ${PG.statusName(site, v)}` : typeof v === "string" ? v || "–" : name === "RA" || name === "DEC" ? PG.cell(site, { name }, v) : PG.number(v, 5));
    const rows = Object.entries(site.units).filter(([name]) => name in row).map(([name, [unit, about]]) =>
      el("tr", {}, el("th", { scope: "row", text: name }), el("td", { text: value(name, row[name]) }), el("td", { text: unit }), el("td", { text: about })));
    body.append(el("details", { id: "everything" }, el("summary", { text: `All ${rows.length} columns` }), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All columns" },
      el("table", { class: "wrapcell" }, el("thead", {}, el("tr", {}, ...["column", "value", "unit", "meaning"].map((text) => el("th", { scope: "col", text })))), el("tbody", {}, ...rows)))));
  }

  function origin(body, page) {
    const lines = [`seed ${page.seed}, data ${page.data || "–"}`, Object.entries(page.versions || {}).map(([k, v]) => `${k} ${v}`).join(", "), JSON.stringify(page.config || {}, null, 1)];
    body.append(el("details", {}, el("summary", { text: "Configuration and versions" }), el("pre", { text: lines.join("\n") })));
  }

  window.addEventListener("hashchange", () => show().catch(PG.fail));
  document.addEventListener("keydown", (event) => {
    if (event.target !== document.body || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "n" && !$("next").hidden) location.hash = $("next").getAttribute("href");
    if (event.key === "p" && !$("previous").hidden) location.hash = $("previous").getAttribute("href");
  });
  show().catch(PG.fail);
})();
