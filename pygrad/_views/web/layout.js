// ---- layout.js: places for boxes, in layers (Sugiyama, Tagawa & Toda 1981; layers as late as can be).
// vertices: {width, height}, in an order in which edges lead forward but for a few; edges: {from, to}.
// Sets each vertex's x and y, its middle, and each edge's points; returns {width, height}.

const LAYER_GAP = 80, BESIDE = 22;

function layOut(vertices, edges, isDown) {
  const nodes = vertices.map((v) => ({ v, along: isDown ? v.height : v.width, across: isDown ? v.width : v.height, before: [], after: [] }));
  layers(nodes, edges);
  const chains = withDummies(nodes, edges);
  const rows = [];
  for (const node of nodes) (rows[node.layer] ||= []).push(node);
  order(rows);
  place(rows);
  let start = 0;
  const ends = rows.map((row) => {
    const along = Math.max(...row.map((node) => node.along));
    for (const node of row) node.at = start + along / 2;
    const here = [start, start + along];
    start += along + LAYER_GAP;
    return here;
  });
  const low = Math.min(...nodes.map((node) => node.pos - node.across / 2)), high = Math.max(...nodes.map((node) => node.pos + node.across / 2));
  const point = (at, pos) => (isDown ? [pos - low, at] : [at, pos - low]);
  for (const node of nodes) if (node.v) [node.v.x, node.v.y] = point(node.at, node.pos);
  for (const { edge, chain } of chains) {
    const path = [];
    const first = chain[0], last = chain[chain.length - 1];
    const forward = first.layer < last.layer;
    chain.forEach((node, k) => {
      const [from, to] = ends[node.layer];
      if (k === 0) path.push([node.at + (forward ? node.along : -node.along) / 2, node.pos]);
      else if (k === chain.length - 1) path.push([node.at - (forward ? node.along : -node.along) / 2, node.pos]);
      else path.push([forward ? from : to, node.pos], [forward ? to : from, node.pos]);
    });
    edge.points = path.map(([at, pos]) => point(at, pos));
  }
  return isDown ? { width: high - low, height: start - LAYER_GAP } : { width: start - LAYER_GAP, height: high - low };
}

// As late as can be: a vertex is just before its nearest user. An edge that leads back is turned round.
function layers(nodes, edges) {
  nodes.forEach((node) => { node.late = 0; node.users = []; });
  for (const { from, to } of edges) {
    const [a, b] = from.id < to.id ? [from.id, to.id] : [to.id, from.id];
    nodes[a].users.push(nodes[b]);
  }
  for (let i = nodes.length - 1; i >= 0; i--) nodes[i].late = Math.max(-1, ...nodes[i].users.map((user) => user.late)) + 1;
  const most = Math.max(...nodes.map((node) => node.late));
  for (const node of nodes) node.layer = most - node.late;
}

// Long edges pass through dummies, one chain for all edges from a vertex.
function withDummies(nodes, edges) {
  const chains = [], trunks = new Map();
  for (const edge of edges) {
    let a = nodes[edge.from.id], b = nodes[edge.to.id];
    const turned = a.layer > b.layer;
    if (turned) [a, b] = [b, a];
    const trunk = trunks.get(a) || trunks.set(a, []).get(a), chain = [a];
    for (let layer = a.layer + 1; layer < b.layer; layer++) {
      let dummy = trunk[layer];
      if (!dummy) {
        dummy = trunk[layer] = { v: null, layer, along: 0, across: 6, before: [], after: [] };
        nodes.push(dummy);
        link(chain[chain.length - 1], dummy);
      }
      chain.push(dummy);
    }
    link(chain[chain.length - 1], b);
    chain.push(b);
    chains.push({ edge, chain: turned ? chain.reverse() : chain });
  }
  return chains;
}

function link(a, b) { a.after.push(b); b.before.push(a); }

// Fewer crossings: from the root's side, each layer by the middle of its neighbours, there and back.
function order(rows) {
  const seen = new Set(), ordered = rows.map(() => []);
  const visit = [...rows[rows.length - 1]].reverse();
  while (visit.length) {
    const node = visit.pop();
    if (seen.has(node)) continue;
    seen.add(node);
    ordered[node.layer].push(node);
    visit.push(...[...node.before].reverse());
  }
  rows.forEach((row, k) => { for (const node of row) if (!seen.has(node)) ordered[k].push(node); rows[k] = ordered[k]; });
  const number = (row) => row.forEach((node, k) => { node.k = k; });
  rows.forEach(number);
  let best = rows.map((row) => [...row]), least = crossings(rows);
  for (let round = 0; round < 8 && least > 0; round++) {
    const down = round % 2 === 1, turn = down ? rows : [...rows].reverse();
    for (const row of turn) {
      for (const node of row) {
        const near = (down ? node.before : node.after).map((other) => other.k).sort((a, b) => a - b);
        node.middle = near.length ? (near[(near.length - 1) >> 1] + near[near.length >> 1]) / 2 : node.k;
      }
      row.sort((a, b) => a.middle - b.middle || a.k - b.k);
      number(row);
    }
    const now = crossings(rows);
    if (now < least) { least = now; best = rows.map((row) => [...row]); }
  }
  best.forEach((row, k) => { rows[k] = row; number(row); });
}

// The number of crossings between neighbouring layers: inversions, counted in a Fenwick tree.
function crossings(rows) {
  let count = 0;
  for (let k = 0; k + 1 < rows.length; k++) {
    const tree = new Int32Array(rows[k + 1].length + 1);
    let total = 0;
    for (const node of rows[k]) {
      const ends = node.after.map((other) => other.k);
      for (const end of ends) { let below = 0; for (let i = end + 1; i > 0; i -= i & -i) below += tree[i]; count += total - below; }
      for (const end of ends) { total++; for (let i = end + 1; i < tree.length; i += i & -i) tree[i]++; }
    }
  }
  return count;
}

// Each at the mean of its neighbours, as near as the order and the sizes allow: isotonic regression, layer by layer.
function place(rows) {
  for (const row of rows) {
    let at = 0;
    for (const node of row) { node.pos = at + node.across / 2; at += node.across + BESIDE; }
    for (const node of row) node.pos -= at / 2;
  }
  for (let round = 0; round < 16; round++) {
    const down = round % 2 === 1, isLast = round >= 12;
    for (const row of down ? rows : [...rows].reverse()) {
      for (const node of row) {
        const near = isLast ? [...node.before, ...node.after] : down ? node.before : node.after;
        node.wish = near.length ? near.reduce((sum, other) => sum + other.pos, 0) / near.length : node.pos;
      }
      settle(row);
    }
  }
}

function settle(row) {
  let offset = 0;
  const blocks = [];
  row.forEach((node, k) => {
    if (k) offset += (row[k - 1].across + node.across) / 2 + BESIDE;
    const weight = node.v ? 1 : 3;
    blocks.push({ sum: weight * (node.wish - offset), weight, first: k, offset });
    while (blocks.length > 1) {
      const b = blocks[blocks.length - 1], a = blocks[blocks.length - 2];
      if (a.sum / a.weight <= b.sum / b.weight) break;
      a.sum += b.sum;
      a.weight += b.weight;
      blocks.pop();
    }
    node.offset = offset;
  });
  blocks.forEach((block, k) => {
    const end = k + 1 < blocks.length ? blocks[k + 1].first : row.length;
    for (let i = block.first; i < end; i++) row[i].pos = block.sum / block.weight + row[i].offset;
  });
}
