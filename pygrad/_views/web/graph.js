// ---- graph.js: the graph's rows, their names and numbers. Python has written the rows; the engine follows changes.

class Graph {
  constructor(columns) {
    Object.assign(this, columns);
    this.n = columns.op.length;
    this.operands = columns.operands.map((list, i) => list.map((back) => i - back));
    this.custom = new Map(Object.entries(columns.custom).map(([i, list]) => [Number(i), list.map(([back, after]) => [i - back, numberOf(after)])]));
    this.given = Float64Array.from(columns.data, numberOf);
    this.data = Float64Array.from(this.given);
    this.grads = new Float64Array(this.n);
    this.below = this.belowCustom();
    this.edited = false;
    this.tape = null;
    this.failed = -1;
    if (this.partials) this.sweep();
  }

  get root() { return this.n - 1; }
  kindOf(i) { return this.ops[this.op[i]].kind; }
  symbolOf(i) { return this.ops[this.op[i]].symbol; }
  labelOf(i) { return this.labels[i] || ""; }
  scopeOf(i) { return this.scopes[this.scope[i]]; }
  isLeaf(i) { return this.operands[i].length === 0 && this.kindOf(i) !== "operation"; }

  // By row: whether a custom operation is made from it. Its function is Python's, so numbers from there on are fixed.
  belowCustom() {
    const below = new Uint8Array(this.n);
    for (let i = this.n - 1; i >= 0; i--)
      if (below[i] || this.custom.has(i)) for (const o of this.operands[i]) below[o] = 1;
    return below;
  }

  usersOf(i) {
    if (!this.users) {
      this.users = Array.from({ length: this.n }, () => []);
      for (let u = 0; u < this.n; u++) this.operands[u].forEach((o, k) => this.users[o].push([u, k]));
    }
    return this.users[i];
  }

  // ---- Names: a label; or what a scope calls it, layer1.neuron2.mul3; or its number.
  nameOf(i) { return (this.names ||= this.makeNames())[i]; }
  termOf(i) { const name = this.nameOf(i); return /^[\p{L}\p{N}_#.[\]'@]+$/u.test(name) ? name : `(${name})`; }

  makeNames() {
    const shorten = (s) => ([...s].length <= 60 ? s : `${[...s].slice(0, 29).join("")} … ${[...s].slice(-28).join("")}`);
    const calls = new Map(), counts = new Map(), keys = new Array(this.n);
    for (let i = 0; i < this.n; i++) {
      if (this.labels[i]) continue;
      let owner = i, what = this.ops[this.op[i]].name.replace("_const", "");
      if (this.kindOf(i) === "parameter" && this.usersOf(i).length) {
        const [user, k] = this.usersOf(i)[0];
        owner = user;
        what = this.symbolOf(user) === "*" && k === 0 ? "w" : this.symbolOf(user) === "+" ? "b" : "p";
      } else if (this.isLeaf(i)) continue;
      const scope = this.scopeOf(owner);
      if (!scope) continue;
      const numbers = calls.get(scope) || calls.set(scope, new Map()).get(scope);
      if (!numbers.has(this.call[owner])) numbers.set(this.call[owner], numbers.size + 1);
      const key = `${scope.replaceAll("/", ".")}.${what}`, call = this.kindOf(i) === "parameter" ? 1 : numbers.get(this.call[owner]);
      const among = `${key}@${call}`;
      counts.set(among, (counts.get(among) || 0) + 1);
      keys[i] = { key, call, among, number: counts.get(among) };
    }
    return keys.length ? Array.from({ length: this.n }, (_, i) => {
      if (this.labels[i]) return shorten(this.labels[i]);
      const k = keys[i];
      if (!k) return `#${i}`;
      return shorten(`${k.key}${counts.get(k.among) > 1 ? k.number : ""}${k.call > 1 ? `@${k.call}` : ""}`);
    }) : [];
  }

  // ---- Numbers.
  partialOf(i, k) {
    if (this.custom.has(i)) return NaN;
    if (this.partials && !this.edited) return numberOf(this.partials[i][k]);
    return this.tape ? this.tape.partials(this.base + i)[k] : NaN;
  }

  // The backward pass from Python's own numbers, and custom operations' own results.
  sweep() {
    this.grads.fill(0);
    this.grads[this.root] = 1;
    for (let i = this.root; i >= 0; i--) {
      if (this.custom.has(i)) for (const [operand, after] of this.custom.get(i)) this.grads[operand] = after;
      else this.operands[i].forEach((o, k) => { this.grads[o] += this.grads[i] * this.partialOf(i, k); });
    }
  }

  // Takes the engine: from now on numbers can be changed. A custom operation is a leaf there.
  attach(engine) {
    const n = this.n, params = [];
    this.tape = new Tape(engine);
    const paramOf = new Map();
    this.ops.forEach((op, k) => { if (op.param !== undefined) paramOf.set(k, this.tape.leaf(numberOf(op.param))); });
    const ops = new Uint8Array(n), lhs = new Uint32Array(n), rhs = new Uint32Array(n);
    this.base = this.tape.size;
    for (let i = 0; i < n; i++) {
      const operands = this.custom.has(i) ? [] : this.operands[i];
      ops[i] = operands.length ? engine.op(this.ops[this.op[i]].name) : 0;
      if (operands.length) lhs[i] = this.base + operands[0];
      rhs[i] = operands.length > 1 ? this.base + operands[1] : operands.length ? paramOf.get(this.op[i]) || 0 : 0;
    }
    this.tape.recordAll(ops, lhs, rhs, this.given);
    if (!this.partials) { this.run(); if (this.custom.size) this.sweep(); }
  }

  run() {
    const { tape, base, n } = this;
    tape.replay(base, base + n);
    const failed = tape.c.page_failed();
    this.failed = failed ? failed - base : -1;
    tape.backward(1, base + n, base + this.root);
    const numbers = tape.numbers;
    for (let i = 0, p = 4 * base; i < n; i++, p += 4) { this.data[i] = numbers[p]; this.grads[i] = numbers[p + 1]; }
    if (this.edited) for (let i = 0; i < n; i++) if (this.below[i]) this.grads[i] = NaN;
  }

  canEdit(i) { return this.tape !== null && this.isLeaf(i) && !this.below[i]; }
  isUnknown(i) { return this.edited && this.below[i] === 1; }

  edit(i, x) {
    this.edited = true;
    this.tape.set(this.base + i, x);
    this.run();
  }

  // Back to Python's numbers.
  restore() {
    this.edited = false;
    const numbers = this.tape.numbers;
    for (let i = 0; i < this.n; i++) numbers[4 * (this.base + i)] = this.given[i];
    this.run();
    if (this.partials) { this.data.set(this.given); this.sweep(); this.failed = -1; }
    else if (this.custom.size) this.sweep();
  }

  difference(i) {
    const h = Math.cbrt(2 ** -52) * Math.max(1, Math.abs(this.data[i]));
    return this.tape && !this.below[i] && Number.isFinite(this.data[i]) ? this.tape.difference(this.base + i, this.base + this.root, h) : NaN;
  }

  // What stopped being defined, as Python would say it.
  failure() {
    const i = this.failed;
    if (i < 0) return "";
    const status = this.tape.c.page_failed_status(), rule = this.tape.engine.text(this.tape.c.page_rule(this.tape.engine.op(this.ops[this.op[i]].name)));
    const why = { 3: rule || "outside of its domain", 4: "division by zero", 5: "the result is too large for a float64" }[status];
    return `${this.nameOf(i)}: ${this.symbolOf(i)} of ${this.operands[i].map((o) => general(this.data[o], 6)).join(", ")}: ${why}. Python raises an error here.`;
  }

  // ---- Words.
  fill(text, i) {
    const { operands } = this;
    const names = { "①": operands[i][0], "②": operands[i][1], "③": i };
    return text.replace(/[①②③]/g, (c) => this.termOf(names[c]));
  }

  partialWords(i, k) { return this.custom.has(i) ? "what the operation's own function gives" : this.fill(this.ops[this.op[i]].words[k] || "0", i); }

  // tanh(n) = tanh(0.881374) = 0.707107
  formula(i, precision) {
    const symbol = this.symbolOf(i);
    const put = (parts) =>
      symbol.startsWith("**") && parts.length === 1 ? `${parts[0]}${symbol}`
        : parts.length === 2 && !/^[\p{L}]/u.test(symbol) ? parts.join(` ${symbol} `) : `${symbol}(${parts.join(", ")})`;
    const numbers = this.operands[i].map((o) => general(this.data[o], precision));
    return `${put(this.operands[i].map((o) => this.termOf(o)))} = ${put(numbers)} = ${general(this.data[i], precision)}`;
  }

  // The number of paths from a row to the root, and the one along which the most flows.
  paths(i) {
    const count = new Float64Array(this.n), best = new Float64Array(this.n), next = new Int32Array(this.n).fill(-1);
    count[this.root] = best[this.root] = 1;
    for (let u = this.root; u > i; u--)
      if (count[u]) this.operands[u].forEach((o, k) => {
        count[o] += count[u];
        const flows = best[u] * Math.abs(this.partialOf(u, k) || 0);
        if (next[o] < 0 || flows > best[o]) { best[o] = flows; next[o] = u; }
      });
    const rows = [i];
    while (rows[rows.length - 1] !== this.root && rows.length <= this.n) rows.push(next[rows[rows.length - 1]]);
    return { count: count[i], rows };
  }
}
