// The search: names, errors, and what is in tags. `user:7` finds the tag `user` with the value 7.

class Search {
  constructor(run) {
    this.run = run;
    this.latest = 0;
    this.clear();
  }

  clear() {
    this.latest++;
    this.text = "";
    this.spans = null; // 1 for each span that matches
    this.names = null; // 1 for each name of which a span does
    this.count = 0;
  }

  /** Whether a whole name is asked for: `"like this"`. */
  static exactly(name) {
    return `"${name}"`;
  }

  /** Find the text; false if another search has begun meanwhile. */
  async find(text) {
    this.clear();
    if (!text) return true;
    const mine = this.latest;
    const { run } = this;
    const spans = new Uint8Array(run.count);
    const whole = /^"([^]*)"$/.exec(text)?.[1];
    const wanted = text.toLowerCase();
    const holds = (one) => one != null && one.toLowerCase().includes(wanted);
    const byName = run.names.map((name) => (whole === undefined ? holds(name) || holds(visible(name)) : name === whole));
    const byOutcome = run.outcomes.map((outcome, i) => i > 0 && whole === undefined && outcome.some(holds));
    for (let i = 0; i < run.count; i++) if (byName[run.name[i]] || byOutcome[run.outcome[i]]) spans[i] = 1;
    if (whole === undefined || !byName.includes(true)) {
      const stored = new Uint8Array(run.tags.place ? run.count : 0);
      for (const form of this._inTags(text)) {
        await run.tags.search(form, (place) => (stored[place] = 1));
        if (mine !== this.latest) return false;
      }
      if (run.tags.place) for (let i = 0; i < run.count; i++) spans[i] |= stored[run.tags.place[i]];
    }
    const names = new Uint8Array(run.names.length);
    let count = 0;
    for (let i = 0; i < run.count; i++)
      if (spans[i]) {
        names[run.name[i]] = 1;
        count++;
      }
    Object.assign(this, { text, spans, names, count });
    return true;
  }

  /** What to look for in the JSON of tags. */
  _inTags(text) {
    const pair = /^([\w.-]+)[:=]\s*(.*)$/.exec(text);
    const plain = JSON.stringify(text).slice(1, -1);
    if (!pair) return [plain];
    const [key, value] = [JSON.stringify(pair[1]), pair[2]];
    if (!value) return [plain, `${key}:`];
    return [plain, `${key}:${value},`, `${key}:${value}}`, `${key}:${JSON.stringify(value)}`];
  }

  /** The next match after a span, or before it, round the end; -1 for none. */
  next(span, step) {
    if (!this.count) return -1;
    let one = span;
    do one = one < 0 && step < 0 ? this.run.count - 1 : (one + step + this.run.count) % this.run.count;
    while (!this.spans[one]);
    return one;
  }

  /** The number of a match among all, from 1. */
  rank(span) {
    let rank = 0;
    for (let i = 0; i <= span; i++) rank += this.spans[i];
    return rank;
  }
}
