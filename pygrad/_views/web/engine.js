// ---- engine.js: pygrad's C engine in this page: see csrc/wasm/page.c.

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// The engine, or null where the browser has none.
async function loadEngine() {
  try {
    const { instance } = await WebAssembly.instantiate(await inflated(document.getElementById("engine").textContent.trim()));
    instance.exports._initialize();
    return new Engine(instance.exports);
  } catch {
    return null;
  }
}

class Engine {
  constructor(functions) {
    this.c = functions;
    this.ops = new Map();
  }

  // The number of the operation of this name.
  op(name) {
    if (!this.ops.has(name)) {
      const bytes = new TextEncoder().encode(`${name}\0`), p = this.c.page_memory(bytes.length);
      new Uint8Array(this.c.memory.buffer, p, bytes.length).set(bytes);
      this.ops.set(name, this.c.page_op(p));
      this.c.page_release(p);
    }
    return this.ops.get(name);
  }

  text(p) {
    const bytes = new Uint8Array(this.c.memory.buffer, p);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }

  // An array in the engine's memory, for one call: `use` gets its address.
  with(arrays, use) {
    const places = arrays.map((array) => this.c.page_memory(array.byteLength || 8));
    arrays.forEach((array, k) =>
      new Uint8Array(this.c.memory.buffer, places[k], array.byteLength).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength)));
    const result = use(...places);
    places.forEach((p) => this.c.page_release(p));
    return result;
  }
}

// A tape, and its nodes where they are: node i's data are numbers[4 * i], its grad numbers[4 * i + 1].
class Tape {
  constructor(engine) {
    this.engine = engine;
    this.c = engine.c;
    this.tape = this.c.page_tape();
    this.out = this.c.page_memory(16);
  }

  free() { this.c.page_free(this.tape); this.c.page_release(this.out); }
  get size() { return this.c.page_size(this.tape); }
  get numbers() { return new Float64Array(this.c.memory.buffer, this.c.page_nodes(this.tape), 4 * this.size); }

  leaf(x) { return this.c.page_leaf(this.tape, x); }
  record(name, a, b = 0) { return this.c.page_record(this.tape, this.engine.op(name), a, b); }

  recordAll(ops, lhs, rhs, values) {
    return this.engine.with([ops, lhs, rhs, values], (...p) => this.c.page_record_all(this.tape, ops.length, ...p));
  }

  replay(first, end) { this.c.page_replay(this.tape, first, end); }
  backward(first, end, root) { this.c.page_backward(this.tape, first, end, root); }
  difference(id, root, h) { return this.c.page_difference(this.tape, id, root, h); }
  set(id, x) { this.numbers[4 * id] = x; }

  partials(id) {
    this.c.page_partials(this.tape, id, this.out);
    return new Float64Array(this.c.memory.buffer, this.out, 2);
  }
}
