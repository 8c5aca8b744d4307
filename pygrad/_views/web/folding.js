// ---- folding.js: what is shown: nodes, and folds of many, by scope and by distance from the root.

const SHOWN_AT_MOST = 450; // nodes
const FOLDS_AT_MOST = 40; // scopes shown at first
const NEAR_ROOT = 60; // nodes shown at first where scopes are folded
const INPUTS_AT_MOST = 24;

class Folding {
  constructor(graph) {
    this.graph = graph;
    this.paths = graph.scopes.map((scope) => (scope ? scope.split("/") : []));
    this.isWhole = graph.n <= SHOWN_AT_MOST;
    this.limit = this.isWhole ? SHOWN_AT_MOST : NEAR_ROOT;
    this.opened = new Set();
    const depth = this.isWhole ? Infinity : this.depth();
    for (const path of this.paths) path.forEach((_, k) => { if (k + 1 < depth) this.opened.add(this.key(path, k + 1)); });
  }

  key(path, depth) { return path.slice(0, depth).join("/"); }

  // The deepest level with few enough scopes to tell them apart.
  depth() {
    const deepest = Math.max(...this.paths.map((path) => path.length));
    for (let depth = deepest; depth > 1; depth--)
      if (new Set(this.paths.filter((path) => path.length).map((path) => this.key(path, depth))).size <= FOLDS_AT_MOST) return depth;
    return 1;
  }

  // The outermost scope around a row that is folded, or "".
  around(scope) {
    const path = this.paths[scope];
    for (let k = 1; k <= path.length; k++) if (!this.opened.has(this.key(path, k))) return this.key(path, k);
    return "";
  }

  // Each row's fold, "" for those that are shown.
  byScope() {
    const { graph } = this, folds = new Array(graph.n).fill("");
    const around = this.paths.map((_, k) => this.around(k));
    const hasInner = new Set(this.paths.flatMap((path) => path.slice(0, -1).map((_, k) => this.key(path, k + 1))));
    const first = new Map();
    for (let i = 0; i < graph.n; i++) {
      const scope = graph.scope[i], name = graph.scopes[scope];
      folds[i] = around[scope];
      if (folds[i] || !name || this.isWhole || hasInner.has(name)) continue;
      if (!first.has(scope)) first.set(scope, graph.call[i]);
      else if (first.get(scope) !== graph.call[i]) folds[i] = `${name}, other calls`;
    }
    return folds;
  }

  // Parameters go into the fold of their first user, constants into one that has all of theirs; many inputs become one
  // box.
  withLeaves(folds) {
    const { graph } = this, inputs = [], of = new Array(graph.n);
    for (let i = 0; i < graph.n; i++) for (const o of graph.operands[i]) of[o] = of[o] === undefined || of[o] === folds[i] ? folds[i] : "";
    for (let i = 0; i < graph.n; i++) {
      if (!graph.isLeaf(i) || folds[i]) continue;
      if (graph.kindOf(i) === "input") inputs.push(i);
      else if (graph.kindOf(i) === "parameter" && graph.usersOf(i).length) folds[i] = folds[graph.usersOf(i)[0][0]];
      else if (of[i]) folds[i] = of[i];
    }
    if (!this.isWhole && inputs.length > INPUTS_AT_MOST && !this.opened.has("inputs")) for (const i of inputs) folds[i] = "inputs";
  }

  // At most `limit` nodes: those that are nearest to the root.
  nearRoot(folds) {
    const { graph } = this, shown = [];
    // What is in an opened scope was asked for.
    const owner = (i) => (graph.isLeaf(i) && graph.usersOf(i).length ? graph.usersOf(i)[0][0] : i);
    for (let i = 0; i < graph.n; i++) if (!folds[i] && (this.isWhole || !graph.scopeOf(owner(i)))) shown.push(i);
    if (shown.length <= this.limit) return;
    const distance = new Float64Array(graph.n).fill(Infinity);
    distance[graph.root] = 0;
    for (let i = graph.root; i >= 0; i--) for (const o of graph.operands[i]) distance[o] = Math.min(distance[o], distance[i] + 1);
    shown.sort((a, b) => distance[a] - distance[b] || b - a);
    for (const i of shown.slice(this.limit)) folds[i] = "further from the root";
  }

  // {vertices, edges, of}: vertices in the order of the forward pass; of: each row's vertex.
  make() {
    const { graph } = this, folds = this.byScope();
    this.withLeaves(folds);
    this.nearRoot(folds);
    const vertices = [], found = new Map(), of = new Array(graph.n);
    for (let i = 0; i < graph.n; i++) {
      let v = folds[i] && found.get(folds[i]);
      if (!v) {
        v = folds[i] ? { fold: folds[i], rows: [], leaves: 0, out: new Set(), inner: [] } : { row: i, rows: [i] };
        if (folds[i]) found.set(folds[i], v);
        vertices.push(v);
      }
      if (v.fold) { v.rows.push(i); v.leaves += graph.isLeaf(i); }
      v.last = i;
      of[i] = v;
    }
    vertices.sort((a, b) => a.last - b.last);
    const edges = new Map();
    vertices.forEach((v, k) => { v.id = k; });
    for (let i = 0; i < graph.n; i++)
      graph.operands[i].forEach((o, k) => {
        const from = of[o], to = of[i];
        if (from === to) return;
        if (from.fold) from.out.add(o);
        if (to.fold) to.inner.push([i, o, k]);
        const key = `${from.id} ${to.id}`, edge = edges.get(key) || { from, to, count: 0, slots: [] };
        edge.count++;
        if (!to.fold) edge.slots.push(k);
        edges.set(key, edge);
      });
    const last = of[graph.root];
    if (last.fold) last.out.add(graph.root);
    for (const v of vertices) if (v.fold) this.describe(v);
    return { vertices, edges: [...edges.values()], of };
  }

  describe(v) {
    const { graph } = this, calls = new Map();
    for (const i of v.rows) if (graph.scope[i] && graph.scopes[graph.scope[i]]) (calls.get(graph.scope[i]) || calls.set(graph.scope[i], new Set()).get(graph.scope[i])).add(graph.call[i]);
    const isScope = this.paths.some((path) => path.some((_, k) => this.key(path, k + 1) === v.fold)) || v.fold.endsWith(", other calls");
    v.calls = isScope ? Math.max(1, ...[...calls.values()].map((set) => set.size)) : 1;
    v.name = v.fold === "inputs" ? "inputs" : v.fold === "further from the root" ? "nodes further from the root" : v.fold;
    const made = v.rows.length - v.leaves;
    v.text = v.calls > 1 && made % v.calls === 0 ? `${counted(made / v.calls, "node")} × ${v.calls.toLocaleString("en")}` : counted(v.rows.length, "node");
    v.output = v.out.size === 1 ? [...v.out][0] : -1;
    v.canOpen = v.fold === "inputs" || v.fold === "further from the root" || !v.fold.endsWith(", other calls");
    v.inner.sort((a, b) => b[0] - a[0]);
  }

  unfold(v) {
    if (v.fold === "further from the root") this.limit += 200;
    else this.opened.add(v.fold);
  }

  // Folds a scope, and what is open within.
  fold(scope) {
    for (const name of [...this.opened]) if (name === scope || name.startsWith(`${scope}/`)) this.opened.delete(name);
    this.isWhole = false;
  }
}
