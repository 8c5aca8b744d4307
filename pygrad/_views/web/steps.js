// ---- steps.js: forward through the operations, then zero_grad, the root's 1, and backward, vertex by vertex.

class Steps {
  constructor(graph, picture) {
    this.graph = graph;
    this.list = [{ phase: "start" }];
    this.forwardOf = new Map();
    const isWork = (v) => (v.fold ? v.rows.length > v.leaves : graph.operands[v.row].length > 0);
    for (const v of picture.vertices)
      if (isWork(v)) { this.forwardOf.set(v, this.list.length); this.list.push({ phase: "forward", v }); }
    this.zero = this.list.length;
    this.list.push({ phase: "zero" });
    this.first = this.list.length; // of the backward pass
    const root = picture.of[graph.root];
    this.list.push({ phase: "backward", v: root, seed: true, gifts: [] });
    this.shown = new Set(picture.vertices.map((v) => (v.fold ? v.output : v.row)));
    this.timeline = new Map([[graph.root, [[this.first, 1]]]]);
    this.received = new Set();
    this.sums = new Map([[graph.root, 1]]);
    for (const v of [...picture.vertices].reverse()) if (isWork(v)) this.backward(v);
  }

  give(gift) {
    gift.before = this.sums.get(gift.operand) || 0;
    gift.sum = gift.after === undefined ? gift.before + gift.amount : gift.after;
    gift.amount ??= gift.after - gift.before;
    this.sums.set(gift.operand, gift.sum);
    if (!this.shown.has(gift.operand)) return;
    if (!this.timeline.has(gift.operand)) this.timeline.set(gift.operand, []);
    this.timeline.get(gift.operand).push([this.list.length, gift.sum]);
  }

  backward(v) {
    const { graph } = this;
    if (v.fold) {
      for (const [i, o, k] of v.inner) this.give({ operand: o, amount: graph.grads[i] * graph.partialOf(i, k) });
      this.list.push({ phase: "backward", v, gifts: [] });
      return;
    }
    const i = v.row, isCustom = graph.custom.has(i);
    let gifts = graph.operands[i].map((operand, k) => ({ operand, k, amount: graph.grads[i] * graph.partialOf(i, k) }));
    if (isCustom) gifts = graph.custom.get(i).map(([operand, after]) => ({ operand, k: 0, after: graph.edited ? NaN : after }));
    if (graph.grads[i] === 0 && gifts.every((gift) => gift.amount === 0)) return; // nothing arrives, nothing is passed on
    const isLater = gifts.map(({ operand }) => { const was = this.received.has(operand); this.received.add(operand); return was; });
    const fresh = gifts.filter((_, k) => !isLater[k]);
    fresh.forEach((gift) => this.give(gift));
    if (fresh.length) this.list.push({ phase: "backward", v, gifts: fresh });
    gifts.forEach((gift, k) => {
      if (!isLater[k]) return;
      this.give(gift);
      this.list.push({ phase: "backward", v, gifts: [gift], accumulates: true });
    });
  }

  isKnown(v, at) { return !this.forwardOf.has(v) || this.forwardOf.get(v) <= at; }

  // A shown row's grad at a step.
  gradAt(row, at) {
    if (at < this.zero) return this.graph.before ? numberOf(this.graph.before[row]) : 0;
    let grad = 0;
    for (const [step, sum] of this.timeline.get(row) || []) {
      if (step > at) break;
      grad = sum;
    }
    return grad;
  }

  // The step of another list that is nearest to this one's `at`.
  like(other, at) {
    if (at >= other.list.length - 1) return this.list.length - 1;
    const { phase, v, seed, accumulates } = other.list[at];
    const near = this.list.findIndex((s) => s.phase === phase && s.v === v && !s.seed === !seed && !s.accumulates === !accumulates);
    return near >= 0 ? near : Math.min(at, this.list.length - 1);
  }
}
