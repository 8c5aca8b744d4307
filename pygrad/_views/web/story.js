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
    if (hidden) lineOf(parent, "Its grad is the quiz's: predict or reveal it first.");
    else {
      this.received(parent, i);
      this.difference(parent, i);
      this.path(parent, i);
    }
    if (graph.lines[i]) lineOf(parent, "Made by ", ["code", graph.lines[i]]);
    else lineOf(parent, "The line of code is known of nodes that were made within ", ["code", "detect_anomaly()"], ".");
  }

  partials(parent, i) {
    const { graph } = this, operands = graph.operands[i];
    if (!operands.length) return;
    lineOf(parent, ["code", `${graph.nameOf(i)} = ${graph.formula(i, this.precision)}`]);
    if (graph.custom.has(i)) {
      lineOf(parent, "A custom operation: its function is Python's and not in this page, so what it is made from can't be changed here.");
      return;
    }
    operands.forEach((o, k) =>
      lineOf(parent, ["code", `∂${graph.termOf(i)} / ∂${graph.termOf(o)} = ${graph.partialWords(i, k)} = ${this.number(graph.partialOf(i, k))}`]));
  }

  received(parent, i) {
    const { graph } = this, users = graph.usersOf(i);
    if (i === graph.root) return void lineOf(parent, "The root: its grad is 1.");
    if (graph.isUnknown(i)) return void lineOf(parent, "Its grad flows through a custom operation, whose function is Python's: after a change it is not known here.");
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
    const all = count === 1 ? "The path to the root: " : `The path with the largest part, of ${count < 1e15 ? count.toLocaleString("en") : count.toExponential(1)}: `;
    const p = lineOf(parent, all, ["code", short(names, " → ")], ", along which ",
      ["code", `${short(slopes.map((x) => this.number(x)), " · ")} = ${this.number(slopes.reduce((a, b) => a * b, 1))}`], " flows.");
    p.className = "path";
  }
}
