// The run, out of the page's blocks: `ferret/view/page.py` says what is in them.

/** A block's bytes; its elements are taken out of the page, so that their text need not be kept. */
function takeBlock(name) {
  const elements = [...document.querySelectorAll(`script[data-block="${name}"]`)];
  return elements.map((one) => {
    const text = one.textContent;
    one.remove();
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  });
}

async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Values of `width` bytes each, of which first all the lowest bytes come, then all the next. */
function unpack(bytes, width, values) {
  const count = values.length;
  for (let plane = 0, weight = 1; plane < width; plane++, weight *= 256) {
    const from = plane * count;
    for (let i = 0; i < count; i++) values[i] += bytes[from + i] * weight;
  }
  return values;
}

function zigzag(value) {
  return value % 2 ? -(value + 1) / 2 : value / 2;
}

/** A recorded run: its facts, and a value per span in each column. Times are nanoseconds since the first span. */
class Run {
  static async load() {
    const run = new Run();
    const facts = JSON.parse(new TextDecoder().decode(await inflate(takeBlock("facts"))));
    Object.assign(run, {
      info: facts.run, count: facts.count, names: facts.names, tracks: facts.tracks, outcomes: facts.outcomes,
      origin: BigInt(facts.origin_ns), sources: new Map(Object.entries(facts.sources).map(([i, s]) => [Number(i), s])),
    });
    const column = async (name, Kind) => {
      const packed = takeBlock(name);
      return unpack(await inflate(packed), facts.widths[name], new Kind(facts.count));
    };
    run.start = await column("start", Float64Array);
    for (let i = 1; i < run.count; i++) run.start[i] += run.start[i - 1];
    run.duration = await column("duration", Float64Array);
    run.self = await column("inner", Float64Array);
    for (let i = 0; i < run.count; i++) run.self[i] = run.duration[i] - run.self[i];
    run.suspended = await column("suspended", Float64Array);
    run.name = await column("name", Int32Array);
    run.track = await column("track", Int32Array);
    run.outcome = await column("outcome", Int32Array);
    const distance = await column("parent", Float64Array);
    run.parent = Int32Array.from(distance, (value, i) => (value ? i - zigzag(value) : -1));
    run.ids = await inflate(takeBlock("id"));
    run.idWidth = facts.widths.id;
    run.failed = run.outcomes.map(([status]) => status !== "ok");
    run.end = Float64Array.from(run.start, (start, i) => start + run.duration[i]);
    run.length = run.end.reduce((latest, end) => Math.max(latest, end), 0);
    run.tags = new Tags(facts);
    if (facts.widths.stored !== undefined) await run.tags.load(column);
    return run;
  }

  /** 16 hex digits. */
  id(span) {
    let digits = "";
    for (let plane = this.idWidth - 1; plane >= 0; plane--)
      digits += this.ids[plane * this.count + span].toString(16).padStart(2, "0");
    return digits.padStart(16, "0");
  }

  isError(span) {
    return this.failed[this.outcome[span]];
  }

  /** When the span began, as a date and time of this machine's clock. */
  clock(span) {
    const ns = this.origin + BigInt(Math.round(this.start[span]));
    const date = new Date(Number(ns / 1000000n));
    if (Number.isNaN(date.getTime())) return "?";
    return `${date.toLocaleDateString("sv")} ${date.toLocaleTimeString("sv")}.${String(ns % 1000000000n).padStart(9, "0")}`;
  }
}

/** The spans' tags: texts of JSON, in blocks that are only unpacked when somebody looks. */
class Tags {
  constructor(facts) {
    this.blocks = facts.tag_blocks;
    this.texts = new Map();
  }

  async load(column) {
    const moved = await column("stored", Float64Array);
    this.place = Int32Array.from(moved, (value, i) => i + zigzag(value));
    this.ends = await column("tag_lengths", Float64Array);
    for (let i = 1; i < this.ends.length; i++) this.ends[i] += this.ends[i - 1];
    this.packed = new Blob(takeBlock("tags"));
    let bytes = 0;
    let spans = 0;
    for (const block of this.blocks) {
      block.from = bytes;
      block.first = spans;
      bytes += block.bytes;
      spans += block.spans;
    }
  }

  /** The span's tags as JSON over several lines, or nothing. Numbers stand as they were written, however long. */
  async of(span) {
    if (!this.place) return "";
    const place = this.place[span];
    if (this._from(place) === this.ends[place]) return "";
    const block = this.blocks.findLast((one) => one.first <= place);
    const start = this._from(block.first);
    const bytes = (await this._block(block)).subarray(this._from(place) - start, this.ends[place] - start);
    const exact = (_, value, context) =>
      typeof value === "number" && JSON.rawJSON && context ? JSON.rawJSON(context.source) : value;
    return JSON.stringify(JSON.parse(new TextDecoder().decode(bytes), exact), null, 2);
  }

  /** Calls `found` with the stored number of each span whose tags hold the text. */
  async search(text, found) {
    const needle = latin(new TextEncoder().encode(text)).toLowerCase();
    for (const block of this.place ? this.blocks : []) {
      if (!block.bytes) continue;
      const bytes = await this._block(block, false);
      const haystack = latin(bytes).toLowerCase();
      const start = this._from(block.first);
      let place = block.first;
      let at = haystack.indexOf(needle);
      while (at >= 0) {
        while (this.ends[place] - start <= at) place++;
        if (at + needle.length <= this.ends[place] - start) {
          found(place);
          at = haystack.indexOf(needle, this.ends[place] - start);
        } else at = haystack.indexOf(needle, at + 1);
      }
    }
  }

  _from(place) {
    return place ? this.ends[place - 1] : 0;
  }

  async _block(block, keep = true) {
    if (this.texts.has(block)) return this.texts.get(block);
    const bytes = await inflate([this.packed.slice(block.from, block.from + block.bytes)]);
    if (keep) {
      if (this.texts.size > 16) this.texts.clear();
      this.texts.set(block, bytes);
    }
    return bytes;
  }
}

/** Bytes as a text with one character for each: a search in it is quick, and what it finds has a place. */
function latin(bytes) {
  return new TextDecoder("latin1").decode(bytes);
}
