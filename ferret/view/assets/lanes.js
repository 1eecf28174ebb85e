// Where each span goes on the timeline: under its process, its thread and its task, and never over another span.

const TASKS_SHOWN_EACH = 12;

/** Lanes side by side, each taken until some time. Finding the first free one takes few steps, however many there are. */
class Lanes {
  constructor() {
    this.size = 1;
    this.until = [-Infinity, -Infinity]; // a tree: each node has the least of its two children, the lanes are its leaves
    this.used = 0;
  }

  /** Take the first lane from `lowest` on that is free at `start`, until `end`. */
  take(start, end, lowest = 0) {
    let node;
    while (lowest >= this.size || (node = this._free(lowest, start)) < 0) this._grow();
    this.used = Math.max(this.used, node - this.size + 1);
    const lane = node - this.size;
    this.until[node] = end;
    for (node >>= 1; node; node >>= 1) this.until[node] = Math.min(this.until[2 * node], this.until[2 * node + 1]);
    return lane;
  }

  _free(lowest, start) {
    let node = lowest + this.size;
    while (this.until[node] > start) {
      while (node & 1) node >>= 1; // the last of its kind: go up, until there is one beside it
      if (!node) return -1;
      node++;
    }
    while (node < this.size) node = this.until[2 * node] <= start ? 2 * node : 2 * node + 1;
    return node;
  }

  _grow() {
    const leaves = this.until.slice(this.size);
    this.size *= 2;
    this.until = new Array(this.size).fill(-Infinity).concat(leaves, new Array(this.size / 2).fill(-Infinity));
    for (let node = this.size - 1; node; node--)
      this.until[node] = Math.min(this.until[2 * node], this.until[2 * node + 1]);
  }
}

/** Each span's lane on its track, below its parent's, and how many lanes each track has. */
function placeOnLanes(run) {
  const lane = new Int32Array(run.count);
  const tracks = run.tracks.map(() => new Lanes());
  for (let i = 0; i < run.count; i++) {
    const parent = run.parent[i];
    const below = parent >= 0 && parent < i && run.track[parent] === run.track[i] && run.end[parent] > run.start[i];
    const end = Math.max(run.end[i], run.start[i] + 1); // what took no time is there, too
    lane[i] = tracks[run.track[i]].take(run.start[i], end, below ? lane[parent] + 1 : 0);
  }
  return { lane, lanes: tracks.map((one) => one.used) };
}

/**
 * The timeline: rows for all spans, and the strips that head them. A strip is a process, a thread, a task, or all the
 * tasks of a thread that has many: those share rows where they follow one another.
 */
function layOut(run) {
  const { lane, lanes } = placeOnLanes(run);
  const first = new Float64Array(run.tracks.length).fill(Infinity);
  const last = new Float64Array(run.tracks.length);
  for (let i = 0; i < run.count; i++) {
    const track = run.track[i];
    first[track] = Math.min(first[track], run.start[i]);
    last[track] = Math.max(last[track], run.end[i]);
  }
  const base = new Int32Array(run.tracks.length); // the track's first row
  const strips = [];
  let rows = 0;
  const add = (strip, tracks) => {
    strips.push({ collapsed: false, firstRow: rows, rowCount: 0, ...strip });
    for (const track of tracks) {
      base[track] = rows;
      rows += lanes[track];
    }
    strips.at(-1).rowCount = rows - strips.at(-1).firstRow;
  };
  const pack = (tracks) => {
    const slots = new Lanes();
    const taken = tracks.map((track) => slots.take(first[track], Math.max(last[track], first[track] + 1)));
    const heights = new Int32Array(slots.used);
    taken.forEach((slot, i) => (heights[slot] = Math.max(heights[slot], lanes[tracks[i]])));
    const tops = new Int32Array(slots.used + 1);
    heights.forEach((height, slot) => (tops[slot + 1] = tops[slot] + height));
    taken.forEach((slot, i) => (base[tracks[i]] = rows + tops[slot]));
    strips.push({
      kind: "tasks", depth: 2, label: `${number(tracks.length)} tasks`, note: "side by side where they overlap",
      collapsed: false, firstRow: rows, rowCount: tops[slots.used],
    });
    rows += tops[slots.used];
  };
  const byStart = [...run.tracks.keys()].filter((track) => lanes[track]).sort((a, b) => first[a] - first[b]);
  for (const [, ofProcess] of Map.groupBy(byStart, (track) => run.tracks[track].token)) {
    const { process_id } = run.tracks[ofProcess[0]];
    const facts = run.info.processes.find((one) => one.token === run.tracks[ofProcess[0]].token);
    const label = `process ${process_id}`;
    add({ kind: "process", depth: 0, label, note: processNote(facts) }, []);
    const threads = Map.groupBy(ofProcess, (track) => `${run.tracks[track].thread_id} ${run.tracks[track].thread_name}`);
    for (const ofThread of [...threads.values()].sort(inOrder(run))) {
      const { thread_name, thread_id } = run.tracks[ofThread[0]];
      const shown = visible(thread_name || `thread ${thread_id}`, 200);
      add({ kind: "thread", depth: 1, label: shown, note: "" }, ofThread.filter((track) => !run.tracks[track].task));
      const tasks = ofThread.filter((track) => run.tracks[track].task);
      if (tasks.length > TASKS_SHOWN_EACH) pack(tasks);
      else
        for (const track of tasks)
          add({ kind: "task", depth: 2, label: visible(run.tracks[track].task, 200), note: "" }, [track]);
    }
  }
  const row = Int32Array.from(run.track, (track, i) => base[track] + lane[i]);
  return { rows: new Rows(row, run.start, run.end, Math.max(rows, 1)), strips };
}

/** The main thread before all, and others by their names, in which 2 comes before 10. */
function inOrder(run) {
  const name = ([track]) => run.tracks[track].thread_name;
  const isMain = (thread) => Number(name(thread) === "MainThread");
  return (a, b) => isMain(b) - isMain(a) || name(a).localeCompare(name(b), "en", { numeric: true });
}

function processNote(facts) {
  if (!facts) return "";
  const program = visible(facts.program, 120);
  return facts.ended_at == null ? `${program} · no end was stored: it still runs, or was killed` : program;
}
