// ---- view.js: the picture: boxes, ovals, edges; pan, zoom and the small map.

const SVG = "http://www.w3.org/2000/svg";
function shape(name, attributes, parent, text) {
  const e = document.createElementNS(SVG, name);
  for (const key in attributes) e.setAttribute(key, attributes[key]);
  if (text !== undefined) e.textContent = text;
  if (parent) parent.append(e);
  return e;
}

const CHARACTER = 8.5, BOX_HEIGHT = 62, OVAL = [46, 34], BETWEEN = 16, LEGIBLE = 0.75;
const widthOf = (text) => [...text].reduce((sum, c) => sum + (c.codePointAt(0) >= 0x1100 ? 2 : 1), 0) * CHARACTER;

class View {
  constructor(host, isDown) {
    this.host = host;
    this.isDown = isDown;
    this.at = { x: 0, y: 0, k: 1 };
    this.moved = false;
    this.draggedAt = -1e9;
    this.svg = shape("svg", { role: "group", "aria-label": "Nodes, in the order of the forward pass" });
    host.prepend(this.svg);
    this.map = shape("svg", { class: "map", "aria-hidden": "true" });
    host.append(this.map);
    this.listen();
  }

  // Draws vertices that have a name, and symbol for an oval.
  draw({ vertices, edges }, boxOf) {
    this.svg.textContent = "";
    for (const v of vertices) {
      v.box = boxOf(v);
      const { lines, symbol } = v.box;
      v.w = Math.max(...lines.map(widthOf)) + 2 * CHARACTER;
      v.h = BOX_HEIGHT + (v.fold ? 20 : 0);
      v.ow = symbol ? Math.max(OVAL[0], (Math.min([...symbol].length, 12) + 2) * CHARACTER) : 0;
      v.width = this.isDown ? Math.max(v.w, v.ow) : v.w + (v.ow ? v.ow + BETWEEN : 0);
      v.height = this.isDown && v.ow ? v.h + OVAL[1] + BETWEEN : v.h;
    }
    this.size = layOut(vertices, edges, this.isDown);
    this.world = shape("g", {}, this.svg);
    const lines = shape("g", { "aria-hidden": "true" }, this.world);
    for (const edge of edges) this.drawEdge(edge, lines);
    for (const v of vertices) this.drawVertex(v, lines);
    this.labels = shape("g", { "aria-hidden": "true", class: "slopes" }, this.world);
    for (const edge of edges) {
      const [x, y] = this.beforeEnd(edge);
      edge.label = shape("text", { x, y: y - 5, "text-anchor": this.isDown ? "start" : "middle" }, this.labels);
    }
    this.apply();
    this.drawMap(vertices);
  }

  drawVertex(v, lines) {
    const down = this.isDown, bx = down ? v.x : v.x + (v.width - v.w) / 2, by = down ? v.y + (v.height - v.h) / 2 : v.y;
    v.g = shape("g", { class: `node ${v.box.kind}`, id: `n${v.id}`, tabindex: "-1", role: "button", transform: `translate(${bx} ${by})` }, this.world);
    v.title = shape("title", {}, v.g);
    if (v.fold) shape("rect", { class: "box behind", x: -v.w / 2 + 5, y: -v.h / 2 + 5, width: v.w, height: v.h, rx: 2 }, v.g);
    shape("rect", { class: "box", x: -v.w / 2, y: -v.h / 2, width: v.w, height: v.h, rx: v.box.kind === "input" ? 12 : 2 }, v.g);
    v.texts = (v.fold ? [-25, -5, 14, 33] : [-15, 5, 24]).map((y) => shape("text", { x: -v.w / 2 + CHARACTER, y }, v.g));
    ["name", "data", "grad"].forEach((name, k) => v.texts[k && v.texts.length - 3 + k].setAttribute("class", name));
    v.texts[0].textContent = v.box.lines[0];
    for (const text of v.texts) text.after(" "); // words apart, for those who hear them
    v.spine = null;
    if (!v.ow) return;
    const ox = down ? 0 : -v.w / 2 - BETWEEN - v.ow / 2, oy = down ? -v.h / 2 - BETWEEN - OVAL[1] / 2 : 0;
    const symbol = [...v.box.symbol];
    v.oval = shape("ellipse", { class: "box oval", cx: ox, cy: oy, rx: v.ow / 2, ry: OVAL[1] / 2 }, v.g);
    shape("text", { class: "symbol", "text-anchor": "middle", x: ox, y: oy + 5 }, v.g, symbol.length > 12 ? `${symbol.slice(0, 11).join("")}…` : v.box.symbol);
    const from = down ? [bx, by - v.h / 2 - BETWEEN] : [bx - v.w / 2 - BETWEEN, by], to = down ? [bx, by - v.h / 2] : [bx - v.w / 2, by];
    v.spine = shape("path", { class: "edge", d: `M${from}L${to}` }, lines);
  }

  drawEdge(edge, parent) {
    const p = edge.points;
    let d = `M${p[0]}`;
    for (let k = 1; k < p.length; k++) {
      const [x0, y0] = p[k - 1], [x1, y1] = p[k];
      d += this.isDown ? `C${x0} ${(y0 + y1) / 2} ${x1} ${(y0 + y1) / 2} ${x1} ${y1}` : `C${(x0 + x1) / 2} ${y0} ${(x0 + x1) / 2} ${y1} ${x1} ${y1}`;
    }
    const [x, y] = p[p.length - 1], [x0, y0] = p[0];
    const angle = (forward) => (this.isDown ? 90 : 0) + (forward ? 0 : 180);
    edge.path = shape("path", { class: "edge", d, "stroke-width": edge.count > 1 && !edge.slots.length ? Math.min(4, 1.3 + Math.log10(edge.count)) : 1.3 }, parent);
    edge.tip = shape("path", { class: "tip", d: "M0 0L-10 4.5V-4.5Z", transform: `translate(${x} ${y}) rotate(${angle(true)})` }, parent);
    edge.back = shape("path", { class: "tip back", d: "M0 0L-10 4.5V-4.5Z", transform: `translate(${x0} ${y0}) rotate(${angle(false)})` }, parent);
  }

  // A place for an edge's label: near its end, where edges from one source have parted.
  beforeEnd(edge) {
    const p = edge.points, [x, y] = p[p.length - 1], [x0, y0] = p[p.length - 2];
    return this.isDown ? [x + 6 - (x - x0) * 0.12, y - LAYER_GAP * 0.3] : [x - LAYER_GAP * 0.5, y + (y0 - y) * 0.5];
  }

  // ---- Where one looks.
  rect() { return this.svg.getBoundingClientRect(); }
  apply() {
    const { x, y, k } = this.at;
    this.world.setAttribute("transform", `translate(${x} ${y}) scale(${k})`);
    mark(this.svg, "far", k < 0.5);
    this.showMap();
    this.onMove?.();
  }

  fit() {
    const { width, height } = this.rect();
    const k = Math.max(0.02, Math.min((width - 32) / this.size.width, (height - 32) / this.size.height, 1.6));
    this.at = { k, x: (width - k * this.size.width) / 2, y: (height - k * this.size.height) / 2 };
    this.moved = false;
    this.apply();
  }

  zoom(factor, x = this.rect().width / 2, y = this.rect().height / 2) {
    const k = Math.max(0.02, Math.min(8, this.at.k * factor));
    this.at = { k, x: x - (x - this.at.x) * k / this.at.k, y: y - (y - this.at.y) * k / this.at.k };
    this.moved = true;
    this.apply();
  }

  center(x, y) {
    const { width, height } = this.rect();
    this.at.x = width / 2 - x * this.at.k;
    this.at.y = height / 2 - y * this.at.k;
    this.moved = true;
    this.apply();
  }

  isInside(v) {
    const { width, height } = this.rect(), { x, y, k } = this.at;
    const left = (v.x - v.width / 2) * k + x, right = (v.x + v.width / 2) * k + x, top = (v.y - v.height / 2) * k + y, bottom = (v.y + v.height / 2) * k + y;
    return left > 4 && right < width - 4 && top > 4 && bottom < height - 4;
  }

  // Whether a vertex is in view, or nearly so.
  near() {
    const { width, height } = this.rect(), { x, y, k } = this.at;
    return (v) => Math.abs(v.x * k + x - width / 2) < width / 2 + (v.width * k) / 2 + 40 && Math.abs(v.y * k + y - height / 2) < height / 2 + (v.height * k) / 2 + 40;
  }

  // Moves so that the first of these vertices is seen, and the others if they fit. Legible where that shows less.
  reveal(vertices) {
    const { width, height } = this.rect();
    const legible = this.at.k >= LEGIBLE;
    if (!legible) this.at.k = LEGIBLE;
    else if (vertices.every((v) => this.isInside(v))) return;
    const left = Math.min(...vertices.map((v) => v.x - v.width / 2)), right = Math.max(...vertices.map((v) => v.x + v.width / 2));
    const top = Math.min(...vertices.map((v) => v.y - v.height / 2)), bottom = Math.max(...vertices.map((v) => v.y + v.height / 2));
    const fits = (right - left) * this.at.k < width && (bottom - top) * this.at.k < height;
    if (fits) this.center((left + right) / 2, (top + bottom) / 2);
    else this.center(vertices[0].x, vertices[0].y);
  }

  drawMap(vertices) {
    this.map.textContent = "";
    this.map.setAttribute("viewBox", `0 0 ${this.size.width} ${this.size.height}`);
    for (const v of vertices) shape("rect", { x: v.x - v.width / 2, y: v.y - v.height / 2, width: v.width, height: v.height }, this.map);
    this.window = shape("rect", { class: "window" }, this.map);
  }

  showMap() {
    if (!this.window) return;
    const { width, height } = this.rect(), { x, y, k } = this.at;
    const hides = this.size.width * k > width + 2 || this.size.height * k > height + 2;
    mark(this.map, "on", hides && this.map.childElementCount > 12);
    for (const [key, value] of Object.entries({ x: -x / k, y: -y / k, width: width / k, height: height / k, "stroke-width": this.size.width / 80 }))
      this.window.setAttribute(key, value);
  }

  listen() {
    const isFramed = window.top !== window;
    // Within another page the wheel is the page's, but for Ctrl.
    this.host.addEventListener("wheel", (e) => {
      if (isFramed && !e.ctrlKey && !e.metaKey) return;
      e.preventDefault();
      const r = this.rect();
      this.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0016)), e.clientX - r.left, e.clientY - r.top);
    }, { passive: false });
    if (isFramed) this.host.classList.add("framed");
    const fingers = new Map();
    this.host.addEventListener("pointerdown", (e) => {
      if (e.target.closest("button, input, .map, .editable .number") || e.defaultPrevented) return;
      fingers.set(e.pointerId, e);
      this.from = [e.clientX, e.clientY];
    });
    addEventListener("pointermove", (e) => {
      const before = fingers.get(e.pointerId);
      if (!before) return;
      if (Math.hypot(e.clientX - this.from[0], e.clientY - this.from[1]) > 4) this.host.classList.add("dragging");
      if (fingers.size === 1 && this.host.classList.contains("dragging")) {
        this.draggedAt = performance.now();
        this.at.x += e.clientX - before.clientX;
        this.at.y += e.clientY - before.clientY;
        this.moved = true;
        this.apply();
      } else if (fingers.size > 1) {
        const other = [...fingers.values()].find((f) => f.pointerId !== e.pointerId);
        const r = this.rect(), distance = (f) => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY);
        this.zoom(distance(e) / Math.max(1, distance(before)), (e.clientX + other.clientX) / 2 - r.left, (e.clientY + other.clientY) / 2 - r.top);
      }
      fingers.set(e.pointerId, e);
    });
    for (const name of ["pointerup", "pointercancel"])
      addEventListener(name, (e) => {
        if (this.host.classList.contains("dragging")) this.draggedAt = performance.now();
        fingers.delete(e.pointerId);
        this.host.classList.remove("dragging");
      });
    const look = (e) => {
      const r = this.map.getBoundingClientRect(), scale = Math.max(this.size.width / r.width, this.size.height / r.height);
      this.center(this.size.width / 2 + (e.clientX - r.left - r.width / 2) * scale, this.size.height / 2 + (e.clientY - r.top - r.height / 2) * scale);
    };
    this.map.addEventListener("pointerdown", (e) => { this.map.setPointerCapture(e.pointerId); look(e); });
    this.map.addEventListener("pointermove", (e) => { if (e.buttons) look(e); });
    let width = 0;
    new ResizeObserver(() => {
      const now = this.rect();
      if (!this.world || !now.width) return;
      if (!this.moved) this.fit();
      else if (width) { this.at.x += (now.width - width) / 2; this.apply(); }
      width = now.width;
    }).observe(this.host);
  }
}
