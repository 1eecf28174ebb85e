// Items on rows: what is where, and the little of it that a row of pixels can show.

/**
 * Items that lie on rows and never overlap there. An item has a row, a start and an end; the items of a row come in the
 * order of their start.
 */
class Rows {
  constructor(row, start, end, rowCount) {
    Object.assign(this, { row, start, end, rowCount });
    const count = row.length;
    this.first = new Int32Array(rowCount + 1);
    for (let i = 0; i < count; i++) this.first[row[i] + 1]++;
    for (let r = 0; r < rowCount; r++) this.first[r + 1] += this.first[r];
    const next = this.first.slice();
    this.order = new Int32Array(count); // row after row, and by start in each
    for (let i = 0; i < count; i++) this.order[next[row[i]]++] = i;
  }

  /** How many of the items before each place of `order` are flagged. */
  tally(flagged) {
    const before = new Int32Array(this.order.length + 1);
    for (let place = 0; place < this.order.length; place++)
      before[place + 1] = before[place] + (flagged(this.order[place]) ? 1 : 0);
    return before;
  }

  /** The first place of a row, from `low` on, at which `column` is beyond the time. */
  _beyond(column, time, low, high) {
    while (low < high) {
      const middle = (low + high) >> 1;
      if (column[this.order[middle]] > time) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The same, for a place that is probably near. */
  _soonBeyond(column, time, low, high) {
    let stride = 1;
    while (low + stride < high && column[this.order[low + stride]] <= time) stride *= 2;
    return this._beyond(column, time, low, Math.min(high, low + stride + 1));
  }

  /**
   * What to draw of a row between two times: `draw(first, beyond, start, end)` for the items in `order[first, beyond)`.
   * An item as wide as a pixel comes alone. Narrower ones that share a pixel come together, as that pixel.
   */
  visit(row, from, to, pixel, draw) {
    const high = this.first[row + 1];
    let place = this._beyond(this.end, from, this.first[row], high);
    while (place < high) {
      const item = this.order[place];
      const start = this.start[item];
      if (start >= to) return;
      if (this.end[item] - start >= pixel) {
        draw(place, place + 1, start, this.end[item]);
        place++;
        continue;
      }
      const cell = from + Math.floor((start - from) / pixel) * pixel;
      let beyond = this._soonBeyond(this.start, cell + pixel * 0.9999, place + 1, high);
      const last = this.order[beyond - 1];
      if (beyond - 1 > place && this.end[last] - this.start[last] >= pixel) beyond--;
      draw(place, beyond, cell, cell + pixel);
      place = beyond;
    }
  }

  /** The item of a row at a time, or the nearest within the tolerance; -1 for none. */
  at(row, time, tolerance) {
    const [low, high] = [this.first[row], this.first[row + 1]];
    const place = this._beyond(this.end, time - tolerance, low, high);
    let best = -1;
    let nearest = tolerance;
    for (let p = place; p < high && p < place + 64; p++) {
      const item = this.order[p];
      const away = Math.max(this.start[item] - time, time - this.end[item], 0);
      if (this.start[item] > time + tolerance) break;
      if (away <= nearest && (best < 0 || away < nearest)) [best, nearest] = [item, away];
    }
    return best;
  }
}
