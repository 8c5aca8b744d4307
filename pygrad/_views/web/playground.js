// ---- playground.js: the page that trains: boundary, loss curve, weights and gradients.

(async () => {
  const data = JSON.parse($("data").dataset.packed ? new TextDecoder().decode(await inflated($("data").textContent)) : $("data").textContent);
  const engine = await loadEngine();
  theme();
  if (!engine) {
    put($("status"), "Training needs WebAssembly, which this browser does not run here.");
    document.documentElement.dataset.engine = "none";
    return;
  }
  const GRID = 40, X = data.X, y = data.y;
  let net = null, step = 0, losses = [], running = 0, frame = 0, shows = "weights", rates = [], bounded = 0;
  let setup = { sizes: data.sizes, nonlins: data.nonlins, numbers: data.numbers };

  const [low, high] = [0, 1].map((k) => [Math.min(...X.map((p) => p[k])) - 0.5, Math.max(...X.map((p) => p[k])) + 0.5]);
  const ticks = ([a, b]) => Float64Array.from({ length: GRID }, (_, k) => a + ((b - a) * (k + 0.5)) / GRID);
  const xs = ticks(low), ys = ticks(high);

  function build() {
    if (net) net.free();
    net = new Net(engine, { ...setup, X, y, l2: Number($("l2").value) });
    step = 0;
    losses = [];
    net.evaluate();
    draw();
  }

  // The demo's learning rate falls from 1 to 0.1; a number stays.
  const rateAt = (k) => ($("rate").value === "demo" ? (k < data.steps ? 1.0 - (0.9 * k) / data.steps : 0.1) : Number($("rate").value));

  // One step: the loss and gradient, then the descent. What is shown is the loss before it, as Python prints it.
  function train() {
    net.evaluate();
    losses.push(net.lossNow);
    net.right0 = net.right;
    net.descend(rateAt(step));
    step++;
  }

  // ---- Pictures, in the theme's colours.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  function canvas(id) {
    const c = $(id), ratio = devicePixelRatio || 1, { width, height } = c.getBoundingClientRect();
    if (c.width !== Math.round(width * ratio) || c.height !== Math.round(height * ratio)) { c.width = Math.round(width * ratio); c.height = Math.round(height * ratio); }
    const g = c.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    return [g, width, height];
  }
  const hex = (name) => [1, 3, 5].map((k) => parseInt(colour(name).slice(k, k + 2), 16));
  // From below 0 to above it, by way of the page's colour.
  function mix(t, page, below, above) {
    const to = t < 0 ? below : above, k = Math.min(1, Math.abs(t));
    return page.map((x, i) => Math.round(x + (to[i] - x) * k));
  }
  function drawBoundary() {
    const [g, w, h] = canvas("boundary"), scores = net.scan(xs, ys), image = new ImageData(GRID, GRID);
    const [page, below, above] = [hex("page"), hex("below"), hex("above")];
    for (let j = 0; j < GRID; j++)
      for (let i = 0; i < GRID; i++) {
        const rgb = mix(0.6 * Math.tanh(scores[j * GRID + i]), page, below, above);
        image.data.set([...rgb, 255], 4 * ((GRID - 1 - j) * GRID + i));
      }
    const small = new OffscreenCanvas(GRID, GRID);
    small.getContext("2d").putImageData(image, 0, 0);
    g.imageSmoothingEnabled = true;
    g.drawImage(small, 0, 0, w, h);
    const px = (x) => ((x - low[0]) / (low[1] - low[0])) * w, py = (x) => h - ((x - high[0]) / (high[1] - high[0])) * h;
    contour(g, scores, (i) => ((i + 0.5) / GRID) * w, (j) => h - ((j + 0.5) / GRID) * h);
    X.forEach(([a, b], k) => {
      g.beginPath();
      if (y[k] > 0) g.arc(px(a), py(b), 4.5, 0, 7);
      else g.rect(px(a) - 4, py(b) - 4, 8, 8);
      g.fillStyle = colour(y[k] > 0 ? "above" : "below");
      g.fill();
      g.strokeStyle = colour("page");
      g.stroke();
    });
  }
  // The line where the score is 0: marching squares.
  function contour(g, s, px, py) {
    g.strokeStyle = colour("text");
    g.lineWidth = 2;
    g.beginPath();
    for (let j = 0; j + 1 < GRID; j++)
      for (let i = 0; i + 1 < GRID; i++) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], at = corners.map(([a, b]) => s[b * GRID + a]), cuts = [];
        for (let k = 0; k < 4; k++) {
          const u = at[k], v = at[(k + 1) % 4];
          if (u > 0 === v > 0) continue;
          const t = u / (u - v), [a, b] = corners[k], [c, d] = corners[(k + 1) % 4];
          cuts.push([px(a + (c - a) * t), py(b + (d - b) * t)]);
        }
        for (let k = 0; k + 1 < cuts.length; k += 2) { g.moveTo(...cuts[k]); g.lineTo(...cuts[k + 1]); }
      }
    g.stroke();
  }
  function drawLosses() {
    const [g, w, h] = canvas("losses"), most = Math.max(1e-9, ...losses.slice(0, 2000), ...losses.slice(-2000)), n = Math.max(losses.length - 1, 20);
    g.fillStyle = colour("soft");
    g.font = "12px system-ui, sans-serif";
    g.fillText(general(most, 3), 4, 12);
    g.fillText("0", 4, h - 4);
    g.fillText(`step ${n}`, w - g.measureText(`step ${n}`).width - 4, h - 4);
    g.strokeStyle = colour("accent");
    g.lineWidth = 2;
    g.beginPath();
    const stride = Math.max(1, Math.floor(losses.length / (2 * w)));
    if (losses.length === 1) g.arc(4, h - 4 - (losses[0] / most) * (h - 20), 1.5, 0, 7);
    for (let k = 0; k < losses.length; k += stride) g.lineTo(4 + (k / n) * (w - 8), h - 4 - (losses[k] / most) * (h - 20));
    g.stroke();
  }
  // A row for each neuron, a column for each input, and one for the bias.
  function drawWeights() {
    const [g, w, h] = canvas("net"), numbers = net.tape.numbers, off = shows === "weights" ? 0 : 1;
    const [page, below, above] = [hex("page"), hex("below"), hex("above")];
    const columns = net.sizes.slice(0, -1).reduce((sum, n) => sum + n + 1, 0), gap = 14, rows = Math.max(...net.sizes.slice(1));
    const cell = Math.min((w - 12 - (gap + 2) * net.neurons.length) / columns, (h - 18) / rows);
    const largest = Math.max(1e-12, ...[...net.params].map((id) => Math.abs(numbers[4 * id + off])).filter(Number.isFinite));
    let x = 6;
    g.font = "12px system-ui, sans-serif";
    net.neurons.forEach((layer, k) => {
      g.fillStyle = colour("soft");
      if (cell * (layer[0].w.length + 1) + gap > 40) g.fillText(`layer ${k + 1}`, x, 12);
      layer.forEach(({ w: weights, b }, j) => [...weights, b].forEach((id, i) => {
        g.fillStyle = `rgb(${mix(Math.sign(numbers[4 * id + off]) * Math.sqrt(Math.abs(numbers[4 * id + off]) / largest), page, below, above)})`;
        g.fillRect(x + i * cell + (i === weights.length ? 2 : 0), 18 + j * cell, Math.max(1, cell - 1), Math.max(1, cell - 1));
      }));
      x += cell * (layer[0].w.length + 1) + gap + 2;
    });
    put($("scale"), `The strongest colour is ±${general(largest, 3)}.`);
  }
  function draw() {
    // The boundary takes longer than a step: 20 times a second while it runs.
    if (!running || performance.now() - bounded > 50) { drawBoundary(); bounded = performance.now(); }
    drawLosses();
    drawWeights();
    const last = losses.length ? losses[losses.length - 1] : net.lossNow, right = losses.length ? net.right0 : net.right;
    put($("loss"), general(last, 6));
    $("loss").title = exact(last);
    put($("step"), String(step));
    put($("right"), `${Math.round(right * 100)}%`);
    put($("speed"), running && rates.length > 1 ? `${Math.round((1000 * (rates.length - 1)) / (rates[rates.length - 1] - rates[0]))} steps a second` : "");
    if (!Number.isFinite(last)) { play(false); put($("status"), "The loss is no longer finite: reset, and choose a smaller step size."); }
    else if (!running) put($("status"), `Step ${step}: loss ${general(last, 6)}, ${Math.round(right * 100)}% of the points on the right side.`);
    for (const [id, text] of [["boundary", `Decision boundary after step ${step}: ${Math.round(right * 100)}% right`], ["losses", `Loss curve of ${step} steps, now ${general(last, 4)}`], ["net", `The network's ${shows} by layer: blue is above 0, red below`]])
      $(id).setAttribute("aria-label", text);
  }

  // ---- Running: one step a frame, or as many as a frame holds.
  function tick() {
    if (!running) return;
    const start = performance.now(), fast = $("pace").value === "fast";
    const isDone = () => $("until").checked && step >= data.steps;
    do { train(); rates.push(performance.now()); } while (fast && !isDone() && performance.now() - start < 8);
    rates = rates.slice(-120);
    if (isDone()) return play(false);
    draw();
    frame = requestAnimationFrame(tick);
  }
  function play(on) {
    running = on ? 1 : 0;
    cancelAnimationFrame(frame);
    rates = [];
    put($("play"), on ? "Pause" : "Play");
    $("play").setAttribute("aria-pressed", String(on));
    if (on) frame = requestAnimationFrame(tick);
    else draw();
  }
  $("play").onclick = () => { if (!running && $("until").checked && step >= data.steps) build(); play(!running); };
  $("one").onclick = () => { play(false); train(); draw(); };
  $("reset").onclick = () => { play(false); build(); };
  $("l2").onchange = () => { net.tape.set(net.l2, Number($("l2").value)); };
  $("weights").onclick = () => {
    shows = shows === "weights" ? "gradients" : "weights";
    put($("weights"), shows === "weights" ? "Show gradients" : "Show weights");
    put($("showing"), shows === "weights" ? "Weights" : "Gradients");
    draw();
  };
  // Another network, with weights that Python would draw for the seed.
  $("shape").onsubmit = (e) => {
    e.preventDefault();
    const widths = $("layers").value.split(/[\s,]+/).filter(Boolean).map(Number), seed = $("seed").value.trim();
    const fits = widths.length >= 1 && widths.length <= 6 && widths.every((n) => Number.isInteger(n) && n >= 1 && n <= 64), seeds = /^\d{1,18}$/.test(seed);
    $("layers").setAttribute("aria-invalid", String(!fits));
    $("seed").setAttribute("aria-invalid", String(!seeds));
    if (!fits || !seeds) return void put($("status"), fits ? "A seed is a whole number, 0 or more." : "Layers: 1 to 6 widths from 1 to 64, such as 16, 16.");
    const sizes = [2, ...widths, 1], nonlin = $("nonlin").value;
    setup = { sizes, nonlins: sizes.slice(1).map((_, k) => (k < widths.length ? nonlin : "linear")), numbers: drawn(sizes, seed) };
    play(false);
    build();
  };
  $("layers").value = data.sizes.slice(1, -1).join(", ");
  $("nonlin").value = data.nonlins[0];
  $("l2").value = [...$("l2").options].some((o) => Number(o.value) === data.l2) ? [...$("l2").options].find((o) => Number(o.value) === data.l2).value : "0";
  put($("until-text"), `stop after ${data.steps}`);
  const toggle = $("theme").onclick;
  $("theme").onclick = () => { toggle(); draw(); };
  addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, select, button, summary")) return;
    const actions = { " ": () => $("play").click(), ArrowRight: () => $("one").click(), n: () => $("one").click(), r: () => $("reset").click(), w: () => $("weights").click() };
    if (e.key in actions) { e.preventDefault(); actions[e.key](); }
  });
  build();
  new ResizeObserver(draw).observe($("boundary"));
  document.documentElement.dataset.engine = "runs";
})();
