// What many spans come to: per call path for the flame graph, per name for the table.

/** All spans under one path of names as one node each, in columns. A node comes after its parent. */
function mergePaths(run) {
  const path = new Int32Array(run.count).fill(-1);
  const numbers = new Map();
  const nodes = { name: [], parent: [], count: [], total: [], self: [], errors: [] };
  const waiting = [];
  for (let i = 0; i < run.count; i++) {
    for (let one = i; one >= 0 && path[one] < 0; one = run.parent[one]) waiting.push(one);
    while (waiting.length) {
      const span = waiting.pop();
      const above = run.parent[span] < 0 ? -1 : path[run.parent[span]];
      const key = (above + 1) * run.names.length + run.name[span];
      let node = numbers.get(key);
      if (node === undefined) {
        numbers.set(key, (node = numbers.size));
        nodes.name.push(run.name[span]);
        nodes.parent.push(above);
        for (const column of [nodes.count, nodes.total, nodes.self, nodes.errors]) column.push(0);
      }
      path[span] = node;
      nodes.count[node]++;
      nodes.total[node] += run.duration[span];
      nodes.self[node] += run.self[span];
      if (run.isError(span)) nodes.errors[node]++;
    }
  }
  nodes.value = nodes.self.slice(); // what a node and all below it took themselves: children always fit into it
  for (let node = nodes.name.length - 1; node >= 0; node--)
    if (nodes.parent[node] >= 0) nodes.value[nodes.parent[node]] += nodes.value[node];
  return nodes;
}

/** The merged paths as rows, each node above those that it called, and the widest of those first. */
function layOutFlame(nodes) {
  const count = nodes.name.length;
  const children = new Map();
  for (let node = 0; node < count; node++) {
    const siblings = children.get(nodes.parent[node]);
    if (siblings) siblings.push(node);
    else children.set(nodes.parent[node], [node]);
  }
  const [item, row, start, end] = [[], [], [], []];
  let depth = 0;
  for (let level = [[-1, 0]]; level.length; depth++) {
    const next = [];
    for (const [above, from] of level) {
      let at = from;
      for (const node of (children.get(above) ?? []).sort((a, b) => nodes.value[b] - nodes.value[a])) {
        if (nodes.value[node] <= 0) continue; // it took no time, and neither did anything that it called
        item.push(node);
        row.push(depth);
        start.push(at);
        end.push(at + nodes.value[node]);
        next.push([node, at]);
        at += nodes.value[node];
      }
    }
    level = next;
  }
  const rows = new Rows(Int32Array.from(row), Float64Array.from(start), Float64Array.from(end), Math.max(depth - 1, 1));
  const length = nodes.value.reduce((sum, value, node) => (nodes.parent[node] < 0 ? sum + value : sum), 0);
  return { rows, node: Int32Array.from(item), length };
}

/** Each name's numbers; a quantile is the duration that so many of its spans do not exceed. */
function sumUp(run) {
  const count = new Int32Array(run.names.length);
  for (let i = 0; i < run.count; i++) count[run.name[i]]++;
  const first = new Int32Array(run.names.length + 1);
  for (let name = 0; name < run.names.length; name++) first[name + 1] = first[name] + count[name];
  const next = first.slice();
  const durations = new Float64Array(run.count);
  const self = new Float64Array(run.names.length);
  const errors = new Int32Array(run.names.length);
  for (let i = 0; i < run.count; i++) {
    durations[next[run.name[i]]++] = run.duration[i];
    self[run.name[i]] += run.self[i];
    if (run.isError(i)) errors[run.name[i]]++;
  }
  const sums = [];
  for (let name = 0; name < run.names.length; name++) {
    if (!count[name]) continue;
    const sorted = durations.subarray(first[name], first[name + 1]).sort();
    const quantile = (part) => sorted[Math.max(Math.ceil(part * sorted.length) - 1, 0)];
    const total = sorted.reduce((sum, one) => sum + one, 0);
    sums.push({
      name, text: visible(run.names[name]), count: count[name], total, self: self[name], mean: total / count[name],
      p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99), max: sorted.at(-1), errors: errors[name],
    });
  }
  return sums;
}

/** How many spans are open in each of so many parts of the run, and how many of those that begin there failed. */
function activity(run, parts) {
  const open = new Float64Array(parts + 1);
  const errors = new Float64Array(parts);
  const width = Math.max(run.length, 1) / parts;
  const part = (time) => Math.min(Math.floor(time / width), parts - 1);
  for (let i = 0; i < run.count; i++) {
    open[part(run.start[i])]++;
    open[part(run.end[i]) + 1]--;
    if (run.isError(i)) errors[part(run.start[i])]++;
  }
  for (let i = 1; i < parts; i++) open[i] += open[i - 1];
  return { open: open.subarray(0, parts), errors, width };
}
