// ---- explore.js: the page: steps, changes of numbers, stories, the quiz, search.

(async () => {
  const holder = $("data");
  const columns = JSON.parse(holder.dataset.packed ? new TextDecoder().decode(await inflated(holder.textContent)) : holder.textContent);
  const { precision, rankdir } = columns;
  let graph = new Graph(columns), folding = new Folding(graph), story = new Story(graph, precision);
  if (!graph.partials) {
    const engine = await loadEngine();
    if (!engine) {
      theme();
      document.documentElement.dataset.engine = "none";
      put($("said"), `This graph of ${counted(graph.n, "node")} needs WebAssembly, which this browser does not run here.`);
      return;
    }
    graph.attach(engine);
  }
  const view = new View($("graph"), rankdir === "TB");
  const number = (x) => general(x, precision);
  let picture, steps, at = 0, chosen = -1, focused = null, timer = 0;
  const quiz = { on: false, open: false, right: 0, asked: 0 };

  // ---- The picture of what is open.
  function boxOf(v) {
    const room = "0".repeat(precision + 12);
    if (v.fold) return { kind: "fold", symbol: "", lines: [v.name, v.text, room] };
    return { kind: graph.kindOf(v.row), symbol: graph.operands[v.row].length ? graph.symbolOf(v.row) : "", lines: [graph.nameOf(v.row), room] };
  }
  function draw(keep) {
    const before = focused && (focused.fold || focused.rows[0]);
    picture = folding.make();
    view.draw(picture, boxOf);
    picture.into = new Map(picture.vertices.map((v) => [v, []]));
    picture.outOf = new Map(picture.vertices.map((v) => [v, []]));
    for (const edge of picture.edges) { picture.into.get(edge.to).push(edge); picture.outOf.get(edge.from).push(edge); }
    for (const v of picture.vertices) v.canEdit = null;
    focus(picture.vertices.find((v) => (v.fold || v.rows[0]) === before) || picture.vertices[0], false);
    renew();
    table();
    at = Math.min(at, steps.list.length - 1);
    if (keep) view.apply(); else view.fit();
  }
  function renew() {
    const old = steps;
    steps = new Steps(graph, picture);
    if (old) at = steps.like(old, at);
    $("slider").max = steps.list.length - 1;
    $("stride").hidden = steps.list.length < 60;
    $("restore").hidden = !graph.edited;
  }

  // ---- What is said at a step.
  function say() {
    const said = $("said"), { phase, v, seed, gifts, accumulates } = steps.list[at];
    said.textContent = "";
    const line = (...parts) => lineOf(said, ...parts), term = (i) => graph.termOf(i);
    if (graph.failed >= 0) line(["b", "Not defined. "], graph.failure()).className = "wrong";
    if (phase === "start")
      line(["b", "Start. "], "Inputs, parameters and constants have numbers. Forward, each operation computes its own number. Backward, each node multiplies its grad by its local derivative and adds the product to its operand's grad.");
    else if (phase === "forward" && v.fold) line(["b", "Forward. "], ["code", v.name], `: ${v.text}, all of them at once. Click the box to unfold it.`);
    else if (phase === "forward") line(["b", "Forward. "], ["code", `${graph.nameOf(v.row)} = ${graph.formula(v.row, precision)}`]);
    else if (phase === "zero")
      line(["b", "zero_grad. "], "Every grad is set to 0", graph.before ? ": grads of an earlier pass would stay in the sums." : ". Backward adds to grads; without this step, grads of an earlier pass would stay in the sums.");
    else if (seed) line(["b", "Backward. "], ["code", `${term(graph.root)}.grad = 1`], ", the derivative of the root with respect to itself.");
    else if (v.fold) line(["b", "Backward. "], ["code", v.name], `: ${v.text}, all of them at once. Click the box to unfold it.`);
    else backward(line, v.row, gifts, accumulates);
    if (quiz.on && quiz.open) ask(said);
  }
  function backward(line, i, gifts, accumulates) {
    const hidden = quiz.on && quiz.open, of = graph.termOf(i);
    if (graph.isUnknown(i)) return void line(["b", "Backward. "], ["code", graph.nameOf(i)], " is below a custom operation, whose Python function is not in this page: after a change, grads below it are not known.");
    if (accumulates) line(["b", "Accumulate. "], ["code", graph.nameOf(gifts[0].operand)], " is used more than once: the part from ", ["code", graph.nameOf(i)], " is added to its grad.");
    else line(["b", "Backward. "], "At ", ["code", graph.nameOf(i)], ", whose grad is complete: ", ["code", number(graph.grads[i])], ".");
    for (const { operand, k, amount, before, sum } of gifts) {
      const words = graph.partialWords(i, k), to = `${graph.termOf(operand)}.grad`;
      if (graph.custom.has(i)) line(["code", `${to} += ${words}${hidden ? "" : ` = ${graph.edited ? "?" : number(amount)}`}`]);
      else if (hidden) line(["code", `${to} += ${words} · ${of}.grad`]);
      else line(["code", `${to} += ${words} · ${of}.grad = ${number(graph.partialOf(i, k))} · ${number(graph.grads[i])} = ${number(amount)}`],
        ...(accumulates && !graph.isUnknown(operand) ? [", so ", ["code", `${number(before)} + ${number(amount)} = ${number(sum)}`]] : []));
    }
  }

  // ---- The quiz: at each backward step, the new grads are asked for.
  function ask(said) {
    const { gifts } = steps.list[at], form = element("form", { class: "quiz" }, said);
    gifts.forEach(({ operand }, k) => {
      const label = element("label", {}, form, `${graph.termOf(operand)}.grad = `);
      element("input", { type: "text", inputmode: "decimal", size: "10", autocomplete: "off", id: `answer${k}` }, label);
    });
    element("button", { type: "submit", class: "main" }, form, "Check");
    element("button", { type: "button", id: "reveal" }, form, "Reveal").onclick = () => { quiz.open = false; quiz.asked += gifts.length; show(at); $("next").focus(); };
    const verdict = element("p", { role: "status" }, form);
    form.onsubmit = (e) => {
      e.preventDefault();
      const wrong = gifts.filter(({ sum }, k) => {
        const x = Number($(`answer${k}`).value.trim().replace("−", "-") || NaN), isRight = Math.abs(x - sum) <= 0.01 * Math.abs(sum) + 1e-9;
        $(`answer${k}`).setAttribute("aria-invalid", String(!isRight));
        return !isRight;
      });
      if (wrong.length) return void put(verdict, `Not yet: ${wrong.map(({ operand }) => graph.nameOf(operand)).join(", ")}. The chain rule is above.`);
      quiz.right += gifts.length;
      quiz.asked += gifts.length;
      quiz.open = false;
      show(at);
      lineOf($("said"), ["b", "Right. "], `${quiz.right} of ${quiz.asked} so far.`);
      $("next").focus();
    };
  }

  // ---- Showing a step.
  function show(step, follow = true) {
    const moved = step !== at;
    at = Math.max(0, Math.min(steps.list.length - 1, step));
    const { phase, v, gifts, seed } = steps.list[at];
    if (moved) quiz.open = quiz.on && phase === "backward" && gifts.length > 0 && gifts.every(({ sum }) => Number.isFinite(sum));
    const fresh = phase === "forward" ? v : null, freshGrads = new Set(phase === "backward" ? gifts.map(({ operand }) => operand) : []);
    if (seed) freshGrads.add(graph.root);
    if ($("graph").dataset.phase !== phase) $("graph").dataset.phase = phase;
    const now = phase === "start" || phase === "zero" ? null : v;
    if (follow && v) view.reveal([v, ...picture.into.get(v).map((edge) => edge.from)]);
    paintSoon((u) => paint(u, fresh, freshGrads, now), (edge) => paintEdge(edge, phase, v, freshGrads));
    say();
    $("slider").value = at;
    const where = phase === "start" ? "start" : phase === "forward" ? `forward ${at} of ${steps.zero - 1}` : phase === "zero" ? "zero_grad"
      : `backward ${at - steps.first + 1} of ${steps.list.length - steps.first}`;
    put($("where"), where);
    $("slider").setAttribute("aria-valuetext", where);
    $("first").disabled = $("back").disabled = at === 0;
    $("next").disabled = $("last").disabled = at === steps.list.length - 1;
    if (chosen >= 0) tell();
    if (moved) try { history.replaceState(null, "", at ? `#step=${at}` : "#"); } catch { /* a sandbox may refuse */ }
  }
  // What is in view at once; the rest, of a large picture, when there is time.
  let owed = null, owing = 0;
  function paintSoon(paintVertex, paintOne) {
    const isNear = view.near(), vertices = [], edges = [];
    for (const u of picture.vertices) if (isNear(u)) paintVertex(u); else vertices.push(u);
    for (const edge of picture.edges) if (isNear(edge.to) || isNear(edge.from)) paintOne(edge); else edges.push(edge);
    owed = () => { vertices.forEach(paintVertex); edges.forEach(paintOne); };
    if (!vertices.length && !edges.length) return settle(false);
    if (!owing) { $("graph").dataset.owed = ""; owing = setTimeout(settle, 150); }
  }
  function settle(paints = true) {
    clearTimeout(owing);
    if (paints && owed) owed();
    owing = 0;
    owed = null;
    delete $("graph").dataset.owed;
  }
  function paint(u, fresh, freshGrads, now) {
    const row = u.fold ? u.output : u.row, known = steps.isKnown(u, at);
    const hidden = quiz.on && quiz.open && freshGrads.has(row);
    const data = row < 0 ? "" : known ? number(graph.data[row]) : "?";
    const grad = row < 0 ? "" : hidden || (graph.isUnknown(row) && at > steps.zero) ? "?" : number(steps.gradAt(row, at));
    const key = `${data} ${grad} ${known} ${fresh === u} ${freshGrads.has(row)} ${u === now} ${row >= 0 && chosen === row} ${at >= steps.zero}`;
    if (u.key === key && u.edited === graph.edited) return;
    u.key = key;
    u.edited = graph.edited;
    const canEdit = !u.fold && graph.canEdit(u.row);
    const [dataText, gradText] = u.texts.slice(-2);
    if (u.fold) {
      put(u.texts[1], u.text);
      put(dataText, row < 0 ? counted(u.out.size, "output") : `data ${data}`);
      put(gradText, row < 0 ? "" : `grad ${grad}`);
    } else {
      if (!dataText.firstChild) { dataText.append("data "); shape("tspan", { class: "number" }, dataText, data); }
      put(dataText.lastChild, data);
      mark(dataText, "editable", canEdit);
      put(gradText, `grad ${grad}`);
    }
    mark(dataText, "unknown", !known);
    mark(dataText, "fresh", fresh === u);
    mark(gradText, "unknown", at < steps.zero);
    mark(gradText, "fresh", freshGrads.has(row) || (u.fold && u === now));
    mark(u.g, "now", u === now);
    mark(u.g, "chosen", row >= 0 && chosen === row);
    if (u.spine) mark(u.spine, "lit", u === now);
    const name = u.fold ? u.name : graph.labelOf(u.row) || graph.nameOf(u.row), place = u.fold ? u.text : graph.scopeOf(u.row);
    const full = row < 0 ? "" : `\ndata ${known ? exact(graph.data[row]) : "not yet known"}\ngrad ${grad === "?" ? "not known" : exact(steps.gradAt(row, at))}`;
    put(u.title, `${name}${place ? ` in ${place}` : ""}${full}`);
    const seen = u.texts.map((text) => text.textContent).join(" "); // a name begins with what is seen
    u.g.setAttribute("aria-label", `${seen} ${u.fold ? "folded" : graph.symbolOf(u.row) || graph.kindOf(u.row)}${canEdit ? "; e changes it" : ""}`);
    if (u.cells) { put(u.cells[3], data); put(u.cells[4], grad); }
  }
  function paintEdge(edge, phase, now, freshGrads) {
    const isLit = edge.to === now && phase !== "start" && phase !== "zero";
    const isBack = isLit && phase === "backward" && (now.fold || edge.from.rows.some((row) => freshGrads.has(row)));
    const lit = isBack ? "back" : isLit && phase === "forward" ? "ahead" : "";
    const slope = edge.to.fold || !edge.slots.length || !steps.isKnown(edge.to, at) || $("slopes").getAttribute("aria-pressed") !== "true" ? ""
      : edge.slots.map((k) => { const p = graph.partialOf(edge.to.row, k); return Number.isNaN(p) && graph.custom.has(edge.to.row) ? "?" : general(p, Math.min(precision, 4)); }).join(", ");
    if (edge.key === lit + slope) return;
    edge.key = lit + slope;
    mark(edge.path, "lit", lit);
    mark(edge.path, "flows", lit === "back");
    mark(edge.tip, "off", lit === "back");
    mark(edge.tip, "lit-tip", lit === "ahead");
    mark(edge.back, "lit-tip", lit === "back");
    put(edge.label, slope);
    mark(edge.label, "lit", lit);
  }

  // ---- The table of what is shown.
  function table() {
    const body = $("values").querySelector("tbody");
    body.textContent = "";
    for (const u of picture.vertices) {
      u.cells = null;
      if (!$("values").open) continue;
      const tr = element("tr", {}, body), texts = u.fold ? [u.name, u.text, "", "", ""] : [graph.nameOf(u.row), graph.symbolOf(u.row) || graph.kindOf(u.row), graph.scopeOf(u.row), "", ""];
      u.cells = texts.map((text, k) => element(k ? "td" : "th", k ? (k > 2 ? { class: "number" } : {}) : { scope: "row" }, tr, text));
      u.key = null;
    }
  }

  // ---- A node's story.
  function tell() {
    const panel = $("story"), body = $("told"), wasOpen = !panel.hidden;
    panel.hidden = chosen < 0;
    if (chosen < 0) return;
    put($("teller"), graph.nameOf(chosen));
    body.textContent = "";
    const hidden = quiz.on && at < steps.list.length - 1;
    story.tell(body, chosen, hidden);
    const buttons = element("div", { class: "controls" }, body);
    if (graph.canEdit(chosen)) element("button", { type: "button", id: "change" }, buttons, "Change its number").onclick = () => edit(picture.of[chosen]);
    else if (graph.isLeaf(chosen) && graph.tape) lineOf(body, "Its number can't be changed here: a custom operation uses it, whose Python function is not in this page.");
    const path = graph.scopeOf(chosen) ? graph.scopeOf(chosen).split("/") : [];
    path.forEach((_, k) => {
      const scope = path.slice(0, k + 1).join("/");
      element("button", { type: "button" }, buttons, `Fold ${scope}`).onclick = () => { folding.fold(scope); choose(-1); draw(false); show(at, false); };
    });
    // Below the steps, where the page is narrow.
    if (!wasOpen && panel.offsetTop > $("steps").offsetTop) $("panel").scrollTop = panel.offsetTop - $("steps").offsetTop;
  }
  function choose(row) {
    chosen = row;
    show(at, false);
    tell();
  }
  function activate(v) {
    if (!v.fold) return choose(chosen === v.row ? -1 : v.row);
    if (!v.canOpen) return;
    folding.unfold(v);
    const inner = new Set(v.rows);
    draw(true);
    const now = picture.vertices.filter((u) => u.rows.some((row) => inner.has(row)));
    focus(now[0], true);
    show(at, false);
    view.reveal(now.length ? now : [picture.vertices[0]]);
  }
  function focus(v, move) {
    if (focused && focused.g) focused.g.setAttribute("tabindex", "-1");
    focused = v;
    v.g.setAttribute("tabindex", "0");
    if (move) { v.g.focus({ preventScroll: true }); if (!view.isInside(v)) view.reveal([v]); }
  }

  $("graph").addEventListener("focusin", (e) => {
    const v = picture.vertices.find((u) => u.g === e.target);
    if (v && v !== focused) focus(v, false);
  });

  // ---- Changing a leaf's number.
  let waiting = 0, editing = null;
  function change(row, x) {
    graph.edit(row, x);
    quiz.open = false;
    renew();
    show(steps.list.length - 1, false);
  }
  const unitOf = (x) => 10 ** Math.floor(Math.log10(Math.max(Math.abs(x), 0.1))) / 100;
  const rounded = (x) => Number(x.toPrecision(12));
  function edit(v) {
    const input = $("edited");
    editing = { row: v.row, before: graph.data[v.row], v };
    put($("editing"), `${graph.nameOf(v.row)}:`);
    $("edit").hidden = false;
    follow();
    input.value = exact(editing.before);
    input.setAttribute("aria-invalid", "false");
    input.focus();
    input.select();
  }
  // The editor stays at its box.
  function follow() {
    const form = $("edit"), host = $("graph").getBoundingClientRect();
    if (form.hidden || !editing) return;
    const r = editing.v.g.querySelector(".box").getBoundingClientRect();
    form.style.left = `${Math.max(4, Math.min(host.width - form.offsetWidth - 4, r.left - host.left))}px`;
    form.style.top = `${Math.max(4, Math.min(host.height - form.offsetHeight - 4, r.bottom - host.top + 4))}px`;
  }
  view.onMove = () => { follow(); if (owing) settle(); };
  function typed() {
    const text = $("edited").value.trim().replace("−", "-"), x = text === "" ? NaN : Number(text);
    $("edited").setAttribute("aria-invalid", String(!Number.isFinite(x)));
    if (Number.isFinite(x)) change(editing.row, x);
    return Number.isFinite(x);
  }
  function close(keep) {
    if (!editing) return;
    const { row, before, v } = editing;
    if (!keep) change(row, before);
    editing = null;
    $("edit").hidden = true;
    focus(picture.of[row] || v, true);
  }
  $("edited").oninput = typed;
  $("edit").onsubmit = (e) => { e.preventDefault(); if (typed()) close(true); };
  $("edited").onkeydown = (e) => {
    e.stopPropagation();
    if (e.key === "Escape") close(false);
    if (e.key !== "ArrowUp" && e.key !== "ArrowDown") return;
    e.preventDefault();
    const x = graph.data[editing.row], up = e.key === "ArrowUp" ? 1 : -1;
    $("edited").value = exact(rounded(x + up * unitOf(x) * (e.shiftKey ? 100 : 10)));
    typed();
  };
  $("edited").onblur = (e) => { if (!$("edit").contains(e.relatedTarget)) { editing = null; $("edit").hidden = true; } };
  $("restore").onclick = () => { graph.restore(); renew(); show(at, false); $("next").focus(); };
  let drag = null;
  $("graph").addEventListener("pointerdown", (e) => {
    const target = e.target.closest(".editable .number");
    if (!target || e.button) return;
    const v = picture.vertices.find((u) => u.g === target.closest(".node"));
    drag = { v, x: e.clientX, start: graph.data[v.row], unit: unitOf(graph.data[v.row]), moved: false, id: e.pointerId };
  });
  addEventListener("pointermove", (e) => {
    if (!drag || e.pointerId !== drag.id) return;
    const by = e.clientX - drag.x;
    if (!drag.moved && Math.abs(by) <= 3) return;
    drag.moved = true;
    drag.value = rounded(drag.start + by * drag.unit * (e.shiftKey ? 10 : 1));
    const { row } = drag.v;
    waiting ||= requestAnimationFrame(() => { waiting = 0; if (drag) change(row, drag.value); });
  });
  addEventListener("pointerup", (e) => {
    if (!drag || e.pointerId !== drag.id) return;
    const { v, moved, value } = drag;
    drag = null;
    view.draggedAt = performance.now(); // the click that follows is part of it
    if (moved) change(v.row, value);
    else edit(v);
  });
  addEventListener("pointercancel", () => { drag = null; });
  $("graph").addEventListener("click", (e) => {
    const g = e.target.closest(".node");
    if (!g || performance.now() - view.draggedAt < 300) return;
    const v = picture.vertices.find((u) => u.g === g);
    focus(v, false);
    activate(v);
  });

  // ---- Controls.
  function play(on) {
    clearInterval(timer);
    timer = 0;
    if (on && at === steps.list.length - 1) show(0);
    if (on) timer = setInterval(() => { if (quiz.on && quiz.open) return; show(at + stride()); if (at === steps.list.length - 1) play(false); }, 900);
    put($("play"), on ? "Pause" : "Play");
    $("play").setAttribute("aria-pressed", String(on));
  }
  const stride = () => ($("stride").hidden ? 1 : Number($("stride").value));
  const go = (step) => { play(false); show(step); };
  $("first").onclick = () => go(0);
  $("back").onclick = () => go(at - stride());
  $("next").onclick = () => go(at + stride());
  $("last").onclick = () => go(steps.list.length - 1);
  $("backward").onclick = () => go(steps.zero);
  $("play").onclick = () => play(!timer);
  $("slider").oninput = () => go(Number($("slider").value));
  $("in").onclick = () => view.zoom(1.3);
  $("out").onclick = () => view.zoom(1 / 1.3);
  $("fit").onclick = () => view.fit();
  $("close").onclick = () => { const row = chosen; choose(-1); focus(picture.of[row], true); };
  $("values").ontoggle = () => { table(); show(at, false); };
  const press = (id, on) => $(id).setAttribute("aria-pressed", String(on));
  $("slopes").onclick = () => { press("slopes", $("slopes").getAttribute("aria-pressed") !== "true"); show(at, false); };
  $("quiz").onclick = () => {
    quiz.on = !quiz.on;
    quiz.open = false;
    quiz.right = quiz.asked = 0;
    press("quiz", quiz.on);
    if (quiz.on && at < steps.first) at = steps.first;
    else if (quiz.on && at === steps.list.length - 1) at = steps.first;
    show(at);
  };
  theme();

  let hits = [], hit = -1;
  function find(again) {
    const wanted = $("search").value.trim().toLowerCase();
    for (const v of picture.vertices) mark(v.g, "found", false);
    if (!wanted) { hits = []; hit = -1; put($("found"), ""); return; }
    if (!again) {
      hits = [];
      for (let i = 0; i < graph.n; i++)
        if ([graph.labelOf(i), graph.nameOf(i), graph.symbolOf(i), graph.scopeOf(i)].some((text) => text.toLowerCase().includes(wanted))) hits.push(i);
    }
    const shown = [...new Set(hits.map((i) => picture.of[i]))];
    for (const v of shown) mark(v.g, "found", true);
    hit = again ? hit + 1 : 0;
    if (shown.length) { const v = shown[hit % shown.length]; focus(v, false); view.reveal([v]); }
    put($("found"), shown.length ? `${(hit % shown.length) + 1} of ${shown.length}` : "none");
  }
  $("search").oninput = () => find(false);
  $("search").onkeydown = (e) => {
    e.stopPropagation();
    if (e.key === "Enter") find(true);
    if (e.key === "Escape") { $("search").value = ""; find(false); focus(focused, true); }
  };

  // ---- A formula of one's own; variables keep their numbers.
  function write() {
    const values = new Map(), { engine } = graph.tape;
    $("formula").hidden = false;
    $("text").value = columns.formula.text;
    $("formula").onsubmit = (e) => e.preventDefault();
    $("text").oninput = () => {
      for (let i = 0; i < graph.n; i++) if (graph.labelOf(i) && graph.isLeaf(i)) values.set(graph.labelOf(i), graph.data[i]);
      let made = null;
      try { made = recorded($("text").value, columns.formula, values, engine); } catch (error) {
        if (!(error instanceof FormulaError)) throw error;
        $("text").setAttribute("aria-invalid", "true");
        return void put($("mistake"), `${error.message}${error.position === undefined ? "" : ` (at character ${error.position + 1})`}`);
      }
      $("text").setAttribute("aria-invalid", "false");
      put($("mistake"), "");
      graph.tape.free();
      graph = new Graph(made);
      graph.attach(engine);
      folding = new Folding(graph);
      story = new Story(graph, precision);
      chosen = -1;
      tell();
      play(false);
      draw(false);
      show(steps.list.length - 1, false);
      view.fit();
    };
  }

  // ---- Keys. Within the graph arrows go along edges, elsewhere they step.
  function walk(key) {
    const along = view.isDown ? { ArrowDown: 1, ArrowUp: -1 } : { ArrowRight: 1, ArrowLeft: -1 }, way = along[key];
    let to = null;
    if (way) {
      const next = way > 0 ? picture.outOf.get(focused).map((edge) => edge.to) : picture.into.get(focused).map((edge) => edge.from);
      to = next.sort((a, b) => Math.hypot(a.x - focused.x, a.y - focused.y) - Math.hypot(b.x - focused.x, b.y - focused.y))[0];
    } else {
      const sign = key === "ArrowDown" || key === "ArrowRight" ? 1 : -1, side = view.isDown ? "x" : "y", depth = view.isDown ? "y" : "x";
      const beyond = picture.vertices.filter((v) => v !== focused && (v[side] - focused[side]) * sign > 0);
      const cost = (v) => Math.abs(v[side] - focused[side]) + 3 * Math.abs(v[depth] - focused[depth]);
      to = beyond.sort((a, b) => cost(a) - cost(b))[0];
    }
    if (to) focus(to, true);
  }
  addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const field = e.target.closest("input, select, textarea");
    if (field && (field.id !== "slider" || e.key.length > 1 || e.key === " ")) return;
    const node = e.target.closest(".node"), control = e.target.closest("button, summary, select");
    if (node && /^Arrow/.test(e.key)) { e.preventDefault(); return walk(e.key); }
    if (node && (e.key === "Enter" || e.key === " ")) { e.preventDefault(); return activate(focused); }
    if (node && e.key === "e" && !focused.fold && graph.canEdit(focused.row)) { e.preventDefault(); return edit(focused); }
    if (e.key === "Escape" && chosen >= 0) return $("close").click();
    const actions = {
      ArrowRight: () => go(at + stride()), ArrowLeft: () => go(at - stride()), Home: () => go(0), End: () => go(steps.list.length - 1),
      n: () => go(at + stride()), p: () => go(at - stride()), b: () => go(steps.zero), q: () => $("quiz").click(), "+": () => view.zoom(1.3), "=": () => view.zoom(1.3), "-": () => view.zoom(1 / 1.3), 0: () => view.fit(),
      "/": () => $("search").focus(), " ": () => play(!timer),
    };
    if (!(e.key in actions) || (control && (e.key === " " || e.key === "Enter"))) return;
    e.preventDefault();
    actions[e.key]();
  });

  draw(false);
  const linked = /^#step=(\d+)$/.exec(location.hash);
  at = -1;
  show(linked ? Number(linked[1]) : 0, Boolean(linked));
  if (!graph.tape) {
    const engine = await loadEngine();
    if (engine) { graph.attach(engine); for (const v of picture.vertices) v.key = null; show(at, false); }
  }
  if (columns.formula && graph.tape) { write(); show(steps.list.length - 1, false); }
  document.documentElement.dataset.engine = graph.tape ? "runs" : "none";
  if (!graph.tape) put($("hint"), "Numbers can't be changed: this browser runs no WebAssembly here.");
})();
