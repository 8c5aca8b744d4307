// ---- formula.js: reads formulas as pygrad/formula.py does, and records them as graph columns.

const LENGTH_AT_MOST = 10000, NESTED_AT_MOST = 500, PARENTHESES_AT_MOST = 200;
const CONSTANTS = { pi: Math.PI, e: Math.E };
const KEYWORDS = new Set(("False None True and as assert async await break class continue def del elif else except finally for from global if " +
  "import in is lambda nonlocal not or pass raise return try while with yield").split(" "));
const BINARY = { "+": ["add", 1], "-": ["sub", 1], "*": ["mul", 2], "/": ["div", 2], "%": ["mod", 2] };

class FormulaError extends Error {
  constructor(message, position) { super(message); this.position = position; }
}

// [kind, text, position]: numbers, names, and signs.
function tokens(text) {
  const found = [];
  const digits = "[0-9](?:_?[0-9])*", number = new RegExp(
    `0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|(?:${digits}\\.(?:${digits})?|\\.${digits}|${digits})(?:[eE][+-]?${digits})?`, "y");
  const name = /[\p{ID_Start}_][\p{ID_Continue}]*/uy, sign = /\*\*|\/\/|<<|>>|[<>=!]=|:=|->|./suy;
  for (let at = 0; at < text.length;) {
    if (/\s/.test(text[at])) { at++; continue; }
    const take = (pattern) => { pattern.lastIndex = at; return pattern.exec(text)?.[0]; };
    let kind = "number", part = take(number);
    if (part === undefined) { part = take(name); kind = "name"; }
    if (part === undefined) { part = take(sign); kind = "sign"; }
    const after = text.slice(at + part.length, at + part.length + 2);
    if (kind === "number" && /^[jJ]/.test(after)) throw new FormulaError(`${part}${after[0]} is not a real number`, at);
    if (kind === "number" && /^[\p{ID_Start}_]/u.test(after)) throw new FormulaError("invalid decimal literal (a product is written 2*x)", at);
    if (kind === "number" && /^0[0-9_]*[1-9][0-9_]*$/.test(part)) throw new FormulaError("leading zeros are not permitted", at);
    found.push([kind, part, at]);
    at += part.length;
  }
  found.push(["end", "", text.length]);
  return found;
}

// The tree: {number}, {name}, {op, args}, each with its position and height.
class FormulaReader {
  constructor(text, ops) {
    if (text.length > LENGTH_AT_MOST) throw new FormulaError(`a formula may have ${LENGTH_AT_MOST} characters, this one has ${text.length}`, LENGTH_AT_MOST);
    if (!text.trim()) throw new FormulaError("the formula is empty", 0);
    for (const c of "#\0") if (text.includes(c)) throw new FormulaError(`${JSON.stringify(c)} can't be in a formula`, text.indexOf(c));
    this.ops = ops;
    this.list = tokens(text);
    this.at = 0;
    this.open = this.deep = 0;
  }

  get token() { return this.list[this.at]; }
  is(sign) { return this.token[0] === "sign" && this.token[1] === sign; }
  node(position, rest) {
    const height = rest.args ? 1 + Math.max(...rest.args.map((arg) => arg.height)) : 0;
    if (height > NESTED_AT_MOST) throw this.nested(position);
    return { position, height, ...rest };
  }
  nested(position) { return new FormulaError(`the formula is nested more than ${NESTED_AT_MOST} levels deep`, position); }
  refuse() {
    const [kind, text, position] = this.token;
    if (kind === "end") throw new FormulaError("the formula ends too early", position);
    throw new FormulaError(kind === "sign" || KEYWORDS.has(text) ? `'${text}' can't be here: a formula has numbers, names, + - * / % **, parentheses and functions` : "invalid syntax", position);
  }

  read() {
    const found = this.sum(1);
    if (this.token[0] !== "end") this.refuse();
    return found;
  }

  sum(least) {
    let left = this.unary();
    for (;;) {
      const row = this.token[0] === "sign" && BINARY[this.token[1]];
      if (!row || row[1] < least) return left;
      const position = this.token[2];
      this.at++;
      left = this.node(position, { op: row[0], args: [left, row[1] === 1 ? this.sum(2) : this.unary()] });
    }
  }

  unary() {
    const position = this.token[2];
    if (!this.is("-") && !this.is("+")) return this.power();
    const isMinus = this.is("-");
    this.at++;
    if (++this.deep > 2 * NESTED_AT_MOST) throw this.nested(position);
    const arg = this.unary();
    this.deep--;
    return isMinus ? this.node(position, { op: "neg", args: [arg] }) : this.node(position, { same: true, args: [arg] });
  }

  power() {
    const base = this.atom();
    if (!this.is("**")) return base;
    const position = this.token[2];
    this.at++;
    if (++this.deep > 2 * NESTED_AT_MOST) throw this.nested(position);
    const exponent = this.unary();
    this.deep--;
    return this.node(position, { op: "pow", args: [base, exponent] });
  }

  within(read) {
    if (++this.open > PARENTHESES_AT_MOST) throw new FormulaError("too many nested parentheses", this.token[2]);
    this.at++;
    const found = read();
    if (!this.is(")")) this.refuse();
    this.at++;
    this.open--;
    return found;
  }

  atom() {
    const [kind, text, position] = this.token;
    if (kind === "number") {
      this.at++;
      const number = Number(text.replaceAll("_", ""));
      if (!Number.isFinite(number)) throw new FormulaError(`${text.slice(0, 27)} is too large for a float64`, position);
      return this.node(position, { number });
    }
    if (this.is("(")) {
      const inner = this.within(() => this.sum(1));
      if (!this.is("(")) return inner;
      if (inner.name === undefined) throw new FormulaError("only a function's name can be called", position);
      return this.call(inner.name, position);
    }
    if (kind !== "name" || KEYWORDS.has(text)) return this.refuse();
    this.at++;
    return this.is("(") ? this.call(text.normalize("NFKC"), position) : this.node(position, { name: text.normalize("NFKC") });
  }

  call(name, position) {
    const args = this.within(() => {
      const list = [];
      while (!this.is(")")) {
        list.push(this.sum(1));
        if (this.is(",")) this.at++;
        else break;
      }
      return list;
    });
    const row = Object.hasOwn(this.ops, name) ? this.ops[name] : null;
    if (!row || !row.called) throw new FormulaError(`no function is named ${name.slice(0, 30)}`, position);
    const least = row.kind === "binary" ? 2 : 1, most = row.kind === "param" ? 2 : least;
    if (args.length < least || args.length > most) throw new FormulaError(`${name} takes ${least === most ? counted(most, "argument") : `${least} or ${most} arguments`}, not ${args.length}`, position);
    if (this.is("(")) throw new FormulaError("only a function's name can be called", position);
    return this.node(position, { op: name, call: true, args });
  }
}

// The graph's columns (see graph_data in explorer.py) of a formula; values: of variables by name.
function recorded(text, { ops, power }, values, engine) {
  const tree = new FormulaReader(text, ops).read(), rows = [], variables = new Map();
  const leaf = (data, kind, label) => rows.push({ kind: `${kind}`, name: kind === "constant" ? "const" : "leaf", symbol: "", operands: [], data, label }) - 1;
  const collect = (node) => {
    if (node.name !== undefined && !(node.name in CONSTANTS && !values.has(node.name)) && !variables.has(node.name))
      variables.set(node.name, leaf(values.get(node.name) ?? 1, "input", node.name));
    for (const arg of node.args || []) collect(arg);
  };
  collect(tree);
  // A number, or a row as {row}.
  const asRow = (x, kind) => (typeof x === "number" ? leaf(x, kind) : x.row);
  const apply = (node) => {
    if (node.number !== undefined) return node.number;
    if (node.name !== undefined) return variables.has(node.name) ? { row: variables.get(node.name) } : CONSTANTS[node.name];
    const args = node.args.map(apply);
    if (node.same) return args[0];
    let op = ops[node.op];
    if (op.kind === "param" && args.length === 2 && typeof args[1] !== "number") throw new FormulaError(`the second argument of ${node.op} must be a number`, node.position);
    if (args.every((x) => typeof x === "number")) return folded(node, op, args, engine);
    if (node.op === "pow" && typeof args[1] === "number") op = ops[power];
    if (op.kind === "cut") return { row: leaf(dataOf(rows, args[0].row, engine), "input", undefined) };
    const row = { kind: "operation", name: op.name, symbol: op.symbol, words: op.words, data: 0 };
    if (op.kind === "param") {
      row.param = args.length === 2 ? args[1] : op.param;
      if (op.symbol === "**") row.symbol = `**${Number.isInteger(row.param) && Math.abs(row.param) < 1e15 ? row.param : exact(row.param)}`;
      row.words = op.words.map((words) => words.replaceAll("②", general(row.param, 6)));
    }
    row.operands = args.slice(0, op.kind === "binary" ? 2 : 1).map((x, k) => asRow(x, node.call && k === 0 ? "input" : "constant"));
    return { row: rows.push(row) - 1 };
  };
  const root = asRow(apply(tree), "input");
  return columnsOf(rows, root);
}

function folded(node, op, args, engine) {
  const { c } = engine, number = c.page_op_value(engine.op(op.name), args[0], args.length === 2 ? args[1] : op.param ?? 0);
  if (c.page_failed_status()) throw new FormulaError(`${node.op}(${args.map(exact).join(", ")}) is not defined`, node.position);
  return number;
}

// The number of a row that is recorded without its operand.
function dataOf(rows, row, engine) {
  const graph = new Graph(columnsOf(rows.slice(0, row + 1), row));
  graph.attach(engine);
  const x = graph.data[graph.root];
  graph.tape.free();
  return x;
}

// What the root is made from, its operands as distances.
function columnsOf(rows, root) {
  const needed = new Uint8Array(rows.length);
  needed[root] = 1;
  for (let i = root; i >= 0; i--) if (needed[i]) for (const o of rows[i].operands) needed[o] = 1;
  const at = new Map(), kept = rows.filter((_, i) => needed[i] && at.set(i, at.size)), kinds = new Map(), ops = [];
  const columns = { op: [], ops, operands: [], labels: {}, scope: kept.map(() => 0), scopes: [""], call: kept.map(() => 0), lines: {}, data: [], partials: null, custom: {}, before: null };
  kept.forEach((row, i) => {
    const key = [row.name, row.symbol, row.kind, row.param].join(" ");
    if (!kinds.has(key)) kinds.set(key, ops.push({ name: row.name, symbol: row.symbol, kind: row.kind, words: row.words, ...(row.param === undefined ? {} : { param: row.param }) }) - 1);
    columns.op.push(kinds.get(key));
    columns.operands.push(row.operands.map((o) => i - at.get(o)));
    columns.data.push(row.data);
    if (row.label) columns.labels[i] = row.label;
  });
  return columns;
}
