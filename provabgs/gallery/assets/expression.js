/* The catalog's query language, compiled to closures: arithmetic, comparisons (chained too), and/or/not, in (...), &, |,
   functions. Nothing is handed to the JavaScript interpreter. null compares as false, as in the catalog. */
"use strict";
PG.expression = (() => {
  const FUNCTIONS = { log10: Math.log10, log: Math.log, exp: Math.exp, sqrt: Math.sqrt, abs: Math.abs,
                      isnull: (v) => (typeof v === "number" && Number.isNaN(v) ? 1 : 0) };
  const TOKEN = /\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|('[^']*'|"[^"]*")|(\*\*|<=|>=|==|!=|<>|[-+*\/()<>=,&|[\]]))/y;

  function tokens(text) {
    const found = [];
    let at = 0;
    while (text.slice(at).trim()) {
      TOKEN.lastIndex = at;
      const m = TOKEN.exec(text);
      if (!m) throw new Error(`cannot read the filter at '${text.slice(at).trim().slice(0, 12)}'`);
      at = TOKEN.lastIndex;
      if (m[1] !== undefined) found.push({ kind: "number", value: Number(m[1]), big: /^\d{16,}$/.test(m[1]) ? BigInt(m[1]) : null });
      else if (m[2] !== undefined) {
        const word = m[2].toLowerCase();
        found.push(["and", "or", "not", "in"].includes(word) ? { kind: word } : { kind: "name", value: m[2] });
      } else if (m[3] !== undefined) found.push({ kind: "text", value: m[3].slice(1, -1) });
      else found.push({ kind: m[4] === "=" ? "==" : m[4] === "<>" ? "!=" : m[4] });
    }
    return found;
  }

  /* A tree of ["op", ...]; leaves ["number", v], ["text", v], ["name", v]. */
  function parse(text) {
    const list = tokens(text);
    let at = 0;
    const peek = () => (at < list.length ? list[at].kind : "end");
    const take = (kind) => {
      if (peek() !== kind) throw new Error(`expected ${kind}, found ${peek() === "end" ? "the end" : list[at].value ?? peek()}`);
      return list[at++];
    };
    const left = (next, ops) => () => {
      let node = next();
      while (ops.includes(peek())) node = [list[at++].kind, node, next()];
      return node;
    };
    function primary() {
      const kind = peek();
      if (kind === "number") { const t = list[at++]; return ["number", t.value, t.big]; }
      if (kind === "text") return ["text", list[at++].value];
      if (kind === "name") {
        const { value } = list[at++];
        if (peek() !== "(") return ["name", value];
        if (!(value in FUNCTIONS)) throw new Error(`no function '${value}'; there are ${Object.keys(FUNCTIONS).join(", ")}`);
        take("(");
        const argument = either();
        take(")");
        return ["call", value, argument];
      }
      if (kind === "(") { take("("); const node = either(); take(")"); return node; }
      throw new Error(kind === "end" ? "the filter ends too early" : `'${kind}' is out of place`);
    }
    function power() {
      const base = primary();
      if (peek() !== "**") return base;
      at++;
      return ["**", base, unary()];
    }
    function unary() {
      if (peek() === "-") { at++; return ["neg", unary()]; }
      if (peek() === "+") { at++; return unary(); }
      return power();
    }
    const product = left(unary, ["*", "/"]), sum = left(product, ["+", "-"]);
    const bits = left(left(sum, ["&"]), ["|"]);
    const COMPARE = ["<", "<=", ">", ">=", "==", "!="];
    function comparison() {
      let node = bits();
      if (peek() === "in" || (peek() === "not" && list[at + 1]?.kind === "in")) {
        const negated = peek() === "not";
        at += negated ? 2 : 1;
        const open = peek() === "[" ? "[" : "(";
        take(open);
        const items = [bits()];
        while (peek() === ",") { at++; items.push(bits()); }
        take(open === "[" ? "]" : ")");
        const found = items.map((item) => ["==", node, item]).reduce((a, b) => ["or", a, b]);
        return negated ? ["not", found] : found;
      }
      const parts = [];
      while (COMPARE.includes(peek())) {
        const op = list[at++].kind, right = bits();
        parts.push([op, node, right]);
        node = right;
      }
      return parts.length ? parts.reduce((a, b) => ["and", a, b]) : node;
    }
    function negation() {
      if (peek() !== "not") return comparison();
      at++;
      return ["not", negation()];
    }
    const both = left(negation, ["and"]);
    function either() { return left(both, ["or"])(); }
    const tree = either();
    if (at < list.length) throw new Error(`'${list[at].value ?? peek()}' is out of place`);
    return tree;
  }

  function names(tree) {
    if (tree[0] === "name") return [tree[1]];
    return tree.slice(1).filter(Array.isArray).flatMap(names);
  }

  const BINARY = { "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "/": (a, b) => a / b,
                   "**": (a, b) => a ** b, "&": (a, b) => Number(a) & Number(b), "|": (a, b) => Number(a) | Number(b),
                   "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
                   // eslint-disable-next-line eqeqeq
                   "==": (a, b) => a == b, "!=": (a, b) => a != b && !Number.isNaN(a) && !Number.isNaN(b) };

  /* row => value; texts are compared as STATUS names or as positions among a column's categories. */
  function compile(tree, columns, infos, site) {
    const [op, a, b] = tree;
    if (op === "number") { const v = tree[2] ?? a; return () => v; }
    if (op === "text") throw new Error(`'${a}' must be compared with a column of text or STATUS`);
    if (op === "name") { const values = columns.get(a); return (i) => values[i]; }
    if (op === "call") { const f = FUNCTIONS[a], x = compile(b, columns, infos, site); return (i) => f(Number(x(i))); }
    if (op === "neg") { const x = compile(a, columns, infos, site); return (i) => -x(i); }
    if (op === "not") { const x = compile(a, columns, infos, site); return (i) => !x(i); }
    if (op === "and" || op === "or") {
      const x = compile(a, columns, infos, site), y = compile(b, columns, infos, site);
      return op === "and" ? (i) => x(i) && y(i) : (i) => x(i) || y(i);
    }
    if ((op === "==" || op === "!=") && (a[0] === "text" || b[0] === "text")) {
      const [text, other] = a[0] === "text" ? [a[1], b] : [b[1], a];
      if (other[0] !== "name") throw new Error(`'${text}' must be compared with a column of text or STATUS`);
      const code = codeOf(text, infos.get(other[1]), site), values = columns.get(other[1]);
      const none = infos.get(other[1]).categories?.indexOf("") ?? -1;  // text that is missing compares as false
      return op === "==" ? (i) => values[i] === code : (i) => values[i] !== code && values[i] !== none;
    }
    const f = BINARY[op], x = compile(a, columns, infos, site), y = compile(b, columns, infos, site);
    return (i) => { const u = x(i), v = y(i); return typeof u === typeof v ? f(u, v) : mixed(op, f, u, v); };
  }

  /* 64-bit integers beside ordinary numbers: comparisons are exact, arithmetic is not. */
  function mixed(op, f, u, v) {
    return ["<", "<=", ">", ">=", "==", "!="].includes(op) ? f(u, v) : f(Number(u), Number(v));
  }

  function codeOf(text, info, site) {
    if (info.name === "STATUS") {
      const found = Object.entries(site.status).find(([, name]) => name === text);
      if (!found) throw new Error(`no STATUS '${text}'; there are ${Object.values(site.status).join(", ")}`);
      return Number(found[0]);
    }
    if (!info.categories) throw new Error(`${info.name} holds numbers, not text`);
    return info.categories.indexOf(text);
  }

  function closest(name, known) {
    const upper = name.toUpperCase();
    const near = known.filter((k) => k === upper || k.startsWith(`${upper}_`) || upper.startsWith(k)).sort((a, b) => a.length - b.length).slice(0, 3);
    return near.length ? `; did you mean ${near.join(", ")}?` : "; the list of columns is beside the filter";
  }

  /* Uint8Array of 1 where the expression is true. */
  async function evaluate(text, site) {
    const tree = parse(text), infos = new Map(site.columns.map((c) => [c.name, c])), columns = new Map();
    for (const name of new Set(names(tree))) {
      if (!infos.has(name)) throw new Error(`no column ${name} in this overview${closest(name, [...infos.keys()])}`);
      columns.set(name, await PG.column(infos.get(name)));
    }
    const f = compile(tree, columns, infos, site), out = new Uint8Array(site.n);
    for (let i = 0; i < site.n; i++) out[i] = f(i) ? 1 : 0;
    return out;
  }

  return { parse, evaluate };
})();
