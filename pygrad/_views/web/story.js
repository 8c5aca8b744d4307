// ---- story.js: all about one node: formula, partial derivatives, path to the root, finite difference, line of code.

// Lines of [tag, text] pieces; text alone is plain.
function lineOf(parent, ...parts) {
  const p = element("p", {}, parent);
  for (const part of parts) {
    if (typeof part === "string") p.append(part);
    else element(part[0], {}, p, part[1]);
  }
  return p;
}

class Story {
  constructor(graph, precision) {
    this.graph = graph;
    this.precision = precision;
  }

  number(x) { return general(x, this.precision); }
  grad(i) { return this.graph.isUnknown(i) ? "?" : exact(this.graph.grads[i]); }

  // What is told of a row, its grad hidden in a quiz.
  tell(parent, i, hidden) {
    const { graph } = this;
    const about = [graph.symbolOf(i) || graph.kindOf(i), graph.scopeOf(i) && `in ${graph.scopeOf(i)}`].filter(Boolean).join(" ");
    lineOf(parent, `${about}: data `, ["code", exact(graph.data[i])], ", grad ", ["code", hidden ? "?" : this.grad(i)]);
    if (graph.labelOf(i) && graph.labelOf(i) !== graph.nameOf(i)) lineOf(parent, "Its label: ", ["code", graph.labelOf(i)]);
    this.partials(parent, i);
    if (hidden) lineOf(parent, "The quiz asks for its grad: predict or reveal it first.");
    else {
      this.received(parent, i);
      this.difference(parent, i);
      this.path(parent, i);
    }
    if (graph.lines[i]) lineOf(parent, "Made by ", ["code", graph.lines[i]]);
    else lineOf(parent, "To see the line of code that makes a node, make it within ", ["code", "detect_anomaly()"], ".");
  }

  partials(parent, i) {
    const { graph } = this, operands = graph.operands[i];
    if (!operands.length) return;
    lineOf(parent, ["code", `${graph.nameOf(i)} = ${graph.formula(i, this.precision)}`]);
    if (graph.custom.has(i)) {
      lineOf(parent, "A custom operation: its Python function is not in this page, so numbers that it depends on can't be changed here.");
      return;
    }
    operands.forEach((o, k) =>
      lineOf(parent, ["code", `∂${graph.termOf(i)} / ∂${graph.termOf(o)} = ${graph.partialWords(i, k)} = ${this.number(graph.partialOf(i, k))}`]));
  }

  received(parent, i) {
    const { graph } = this, users = graph.usersOf(i);
    if (i === graph.root) return void lineOf(parent, "The root: its grad is 1.");
    if (graph.isUnknown(i)) return void lineOf(parent, "Its grad comes through a custom operation, whose Python function is not in this page: after a change, the grad is not known.");
    const some = users.slice(0, 6).map(([u, k]) => {
      const name = graph.termOf(u);
      return graph.custom.has(u) ? `what ${name} gives` : `${this.number(graph.partialOf(u, k))} · ${name}.grad`;
    });
    if (users.length > some.length) some.push(`… of ${counted(users.length, "use")}`);
    lineOf(parent, ["code", `${graph.termOf(i)}.grad = ${some.join(" + ")} = ${this.number(graph.grads[i])}`]);
  }

  difference(parent, i) {
    const { graph } = this, d = graph.difference(i);
    if (i === graph.root || Number.isNaN(d)) return;
    const root = graph.termOf(graph.root);
    const p = lineOf(parent, "Finite difference: ", ["code", `Δ${root} / Δ${graph.termOf(i)} = ${exact(d)}`], ", beside its grad ", ["code", exact(graph.grads[i])], ".");
    p.className = "difference";
  }

  path(parent, i) {
    const { graph } = this;
    if (i === graph.root || graph.below[i] || !graph.usersOf(i).length) return;
    const { count, rows } = graph.paths(i);
    const names = rows.map((row) => graph.nameOf(row)), slopes = rows.slice(1).map((row, k) => graph.partialOf(row, graph.operands[row].indexOf(rows[k])));
    const short = (list, by) => (list.length <= 9 ? list : [...list.slice(0, 4), "…", ...list.slice(-4)]).join(by);
    const all = count === 1 ? "The path to the root: " : `Of ${count < 1e15 ? count.toLocaleString("en") : count.toExponential(1)} paths to the root, the one that adds most: `;
    const p = lineOf(parent, all, ["code", short(names, " → ")], ". It adds ",
      ["code", `${short(slopes.map((x) => this.number(x)), " · ")} = ${this.number(slopes.reduce((a, b) => a * b, 1))}`], " to the grad.");
    p.className = "path";
  }
}
