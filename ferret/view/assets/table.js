// The table: a line per name, sorted by any column, as many lines as somebody can look at.

const COLUMNS = [
  { key: "text", title: "Name", hint: "What was recorded" },
  { key: "count", title: "Count", hint: "How many spans", show: (one) => number(one.count) },
  { key: "total", title: "Total", hint: "All durations together", show: (one) => duration(one.total) },
  { key: "self", title: "Self", hint: "Without what ran inside, and without waiting", show: (one) => duration(one.self) },
  { key: "share", title: "Self %", hint: "The part of all self time", show: (one, all) => share(one.self, all) },
  { key: "mean", title: "Mean", hint: "Total by count", show: (one) => duration(one.mean) },
  { key: "p50", title: "p50", hint: "Half of the spans took no longer", show: (one) => duration(one.p50) },
  { key: "p95", title: "p95", hint: "95% of the spans took no longer", show: (one) => duration(one.p95) },
  { key: "p99", title: "p99", hint: "99% of the spans took no longer", show: (one) => duration(one.p99) },
  { key: "max", title: "Max", hint: "The longest", show: (one) => duration(one.max) },
  { key: "errors", title: "Errors", hint: "Spans that ended with another status than ok", show: (one) => (one.errors ? number(one.errors) : "") },
];
const LINES = 200;

class Table {
  constructor(host, sums, chosen) {
    this.sums = sums;
    this.chosen = chosen;
    this.all = sums.reduce((total, one) => total + one.self, 0);
    this.most = sums.reduce((most, one) => Math.max(most, one.self), 0);
    this.sorted = { key: "self", down: true };
    this.limit = LINES;
    this.matches = () => true;
    this.head = element("tr");
    this.body = element("tbody");
    this.more = element("button", { className: "more", onclick: () => this._more() });
    host.append(element("table", {}, element("thead", {}, this.head), this.body), this.more);
    for (const column of COLUMNS) {
      const button = element("button", { textContent: column.title, title: column.hint, onclick: () => this.sort(column.key) });
      this.head.append(element("th", { scope: "col" }, button));
    }
    this.render();
  }

  sort(key) {
    const { sorted } = this;
    this.sorted = { key, down: sorted.key === key ? !sorted.down : key !== "text" };
    this.render();
  }

  filter(matches) {
    this.matches = matches;
    this.limit = LINES;
    this.render();
  }

  _more() {
    this.limit *= 5;
    this.render();
  }

  render() {
    const { key, down } = this.sorted;
    const by = key === "share" ? "self" : key;
    const order = by === "text" ? (a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0) : (a, b) => a[by] - b[by];
    const lines = this.sums.filter((one) => this.matches(one.name)).sort((a, b) => (down ? -1 : 1) * order(a, b));
    [...this.head.children].forEach((cell, i) => {
      cell.ariaSort = COLUMNS[i].key !== key ? "none" : down ? "descending" : "ascending";
    });
    this.body.replaceChildren(...lines.slice(0, this.limit).map((one) => this._line(one)));
    if (!lines.length) this.body.append(element("tr", {}, element("td", { className: "nothing", colSpan: 11, textContent: "no name matches" })));
    this.more.hidden = lines.length <= this.limit;
    this.more.textContent = `${number(lines.length - this.limit)} more names`;
  }

  _line(one) {
    const line = element("tr", { tabIndex: 0, onclick: () => this.chosen(one.name) });
    line.onkeydown = (event) => event.key === "Enter" && this.chosen(one.name);
    for (const { key, show } of COLUMNS) {
      const cell = element("td", { textContent: show ? show(one, this.all) : visible(one.text, 400) });
      if (key === "text") cell.title = visible(one.text, 2000);
      if (key === "share") cell.style.setProperty("--part", this.most ? one.self / this.most : 0);
      if (key === "errors" && one.errors) cell.className = "failed";
      line.append(cell);
    }
    return line;
  }
}
