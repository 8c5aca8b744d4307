// ---- net.js: a multilayer perceptron and its loss on the engine's tape, recorded in Python's order, then replayed.

// Python's random: the Mersenne Twister (Matsumoto & Nishimura 1998), seeded as random.seed(n) does.
class Twister {
  constructor(seed) {
    const key = [];
    for (let n = BigInt(seed); n > 0n || !key.length; n >>= 32n) key.push(Number(n & 0xffffffffn));
    const m = (this.state = new Uint32Array(624));
    m[0] = 19650218;
    for (let i = 1; i < 624; i++) m[i] = Math.imul(1812433253, m[i - 1] ^ (m[i - 1] >>> 30)) + i;
    let i = 1, j = 0;
    const mixed = (factor) => m[i] ^ Math.imul(m[i - 1] ^ (m[i - 1] >>> 30), factor);
    const next = () => { if (++i >= 624) { m[0] = m[623]; i = 1; } };
    for (let k = Math.max(624, key.length); k > 0; k--) { m[i] = mixed(1664525) + key[j] + j; next(); if (++j >= key.length) j = 0; }
    for (let k = 623; k > 0; k--) { m[i] = mixed(1566083941) - i; next(); }
    m[0] = 0x80000000;
    this.at = 624;
  }

  word() {
    const m = this.state;
    if (this.at === 624) {
      for (let k = 0; k < 624; k++) {
        const y = (m[k] & 0x80000000) | (m[(k + 1) % 624] & 0x7fffffff);
        m[k] = m[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.at = 0;
    }
    let y = m[this.at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  random() { return ((this.word() >>> 5) * 67108864 + (this.word() >>> 6)) / 9007199254740992; }
  uniform(a, b) { return a + (b - a) * this.random(); }
}

// As MLP(...).parameters() of pygrad.nn: of each neuron its weights, then its bias of 0.
function drawn(sizes, seed) {
  const random = new Twister(seed), numbers = [];
  for (let k = 1; k < sizes.length; k++)
    for (let j = 0; j < sizes[k]; j++) { for (let i = 0; i < sizes[k - 1]; i++) numbers.push(random.uniform(-1, 1)); numbers.push(0); }
  return numbers;
}

class Net {
  // sizes: [2, 16, 16, 1]; nonlins: a name for each layer; numbers: of the parameters; X: pairs; y: -1 or 1.
  constructor(engine, { sizes, nonlins, numbers, X, y, l2 }) {
    const tape = (this.tape = new Tape(engine));
    Object.assign(this, { engine, sizes, nonlins, X, y });
    this.params = Uint32Array.from(numbers, (x) => tape.leaf(x));
    this.defaults = new Map();
    const inputs = X.map((point) => point.map((x) => tape.leaf(x)));
    this.layers();
    this.first = tape.size;
    this.scores = inputs.map((point) => this.forward(point));
    const number = (x) => tape.leaf(x), add = (a, b) => tape.record("add", a, b), times = (a, b) => tape.record("mul", a, b);
    const sum = (list) => list.reduce((total, x) => add(total, x), number(0));
    const losses = this.scores.map((score, k) => tape.record("relu", add(number(1), times(number(-y[k]), score))));
    const data = times(sum(losses), number(1 / losses.length));
    const squares = sum([...this.params].map((p) => times(p, p)));
    this.l2 = number(l2);
    this.loss = add(data, times(this.l2, squares));
    this.end = tape.size;
    this.probe = [tape.leaf(0), tape.leaf(0)];
    this.probed = this.forward(this.probe);
    this.probeEnd = tape.size;
    this.held = tape.c.page_memory(4 * this.params.length);
    new Uint32Array(tape.c.memory.buffer, this.held, this.params.length).set(this.params);
  }

  free() { this.tape.c.page_release(this.held); this.tape.free(); }

  // By layer and neuron, the ids of weights and bias.
  layers() {
    let at = 0;
    this.neurons = this.sizes.slice(1).map((width, k) =>
      Array.from({ length: width }, () => { const n = this.sizes[k], w = this.params.slice(at, at + n); at += n + 1; return { w, b: this.params[at - 1] }; }));
  }

  forward(point) {
    let x = Uint32Array.from(point);
    this.neurons.forEach((layer, k) => {
      x = Uint32Array.from(layer, ({ w, b }) => {
        const dot = this.engine.with([w, x], (pw, px) => this.tape.c.page_dot(this.tape.tape, w.length, pw, px, b));
        return this.activate(this.nonlins[k], dot);
      });
    });
    return x[0];
  }

  activate(name, id) {
    if (name === "linear") return id;
    const op = this.engine.op(name);
    return this.tape.c.page_record(this.tape.tape, op, id, this.tape.c.page_has_param(op) ? this.tape.leaf(this.tape.c.page_param(op)) : 0);
  }

  // Loss and gradient at the present parameters.
  evaluate() {
    this.tape.replay(this.first, this.end);
    this.tape.backward(1, this.end, this.loss);
  }

  descend(rate) { this.tape.c.page_descend(this.tape.tape, this.params.length, this.held, rate); }

  get lossNow() { return this.tape.numbers[4 * this.loss]; }
  get right() { const n = this.tape.numbers; return this.scores.filter((score, k) => (this.y[k] > 0) === (n[4 * score] > 0)).length / this.scores.length; }

  // Scores on a grid, row by row.
  scan(xs, ys) {
    const { tape } = this, found = new Float64Array(xs.length * ys.length), n = tape.numbers;
    ys.forEach((b, j) => xs.forEach((a, i) => {
      n[4 * this.probe[0]] = a;
      n[4 * this.probe[1]] = b;
      tape.replay(this.probe[1] + 1, this.probeEnd);
      found[j * xs.length + i] = n[4 * this.probed];
    }));
    return found;
  }
}
