// The panel beside the views: all that is known of a span, of a call path, or of a name.

function fact(title, ...content) {
  const shown = content.filter((one) => one != null && one !== "");
  return shown.length ? [element("dt", { textContent: title }), element("dd", {}, ...shown)] : [];
}

function action(text, hint, onclick) {
  return element("button", { className: "action", textContent: text, title: hint, onclick });
}

class Details {
  /** `go` has what the panel's buttons do: `select(span)`, `zoom(span)`, `find(name)`, `slowest(name)`. */
  constructor(host, run, go) {
    Object.assign(this, { host, run, go, shown: 0 });
  }

  clear() {
    this.shown++;
    this.host.replaceChildren();
    document.body.classList.remove("detailed");
  }

  _show(title, kind, ...content) {
    this.shown++;
    const close = element("button", { className: "close", textContent: "×", title: "Close (Esc)", onclick: () => this.go.close() });
    this.host.replaceChildren(
      element("header", {}, element("p", { className: "kind", textContent: kind }), close),
      element("h2", { textContent: visible(title, 10_000) }),
      ...content.filter((one) => one != null),
    );
    this.host.scrollTop = 0;
    document.body.classList.add("detailed");
  }

  async span(span) {
    const { run, go } = this;
    const track = run.tracks[run.track[span]];
    const [status, error, errorType] = run.outcomes[run.outcome[span]];
    const source = run.sources.get(run.name[span]);
    const parent = run.parent[span];
    const tags = element("pre", { id: "tags" });
    const link = (other) =>
      element("button", { className: "link", textContent: visible(run.names[run.name[other]], 200), onclick: () => go.select(other) });
    const failure = [errorType, error].filter(Boolean).join(": ");
    this._show(
      run.names[run.name[span]],
      "Span",
      element("div", { className: "actions" },
        action("Zoom to it", "F, or a double click", () => go.zoom(span)),
        action("Find its name", "Mark every span of this name", () => go.find(run.name[span])),
      ),
      status === "ok" ? null : element("p", { className: "failure" }, element("strong", { textContent: visible(status, 200) }), " ", visible(failure, 10_000)),
      element("dl", {},
        ...fact("Duration", duration(run.duration[span])),
        ...fact("Self", `${duration(run.self[span])}  ${share(run.self[span], run.duration[span])}`),
        ...fact("Suspended", run.suspended[span] ? `${duration(run.suspended[span])}  ${share(run.suspended[span], run.duration[span])}` : ""),
        ...fact("Began", `+${duration(run.start[span])}`, element("br"), run.clock(span)),
        ...fact("Source", source && visible(`${source[0]}:${source[1]}`, 2000)),
        ...fact("Task", visible(track.task, 2000)),
        ...fact("Thread", `${visible(track.thread_name, 2000)} (${track.thread_id})`),
        ...fact("Process", String(track.process_id)),
        ...fact("Parent", parent >= 0 ? link(parent) : "none in this run"),
        ...fact("Inside it", this._children(span)),
        ...fact("Id", run.id(span)),
      ),
      element("h3", { textContent: "Tags" }),
      tags,
    );
    const mine = this.shown;
    const text = await run.tags.of(span);
    if (mine !== this.shown) return; // another one is shown by now
    tags.textContent = text ? text.split("\n").map((line) => visible(line)).join("\n") : "none";
    tags.classList.toggle("none", !text);
  }

  _children(span) {
    const { run } = this;
    let children = 0;
    let last = span;
    for (let i = 0; i < run.count; i++) if (run.parent[i] === span) [children, last] = [children + 1, i];
    return children ? counted(children, "span") + (children === 1 ? `: ${visible(run.names[run.name[last]], 200)}` : "") : "";
  }

  /** A node of the flame graph. */
  path(nodes, node, whole) {
    const names = [];
    for (let one = nodes.parent[node]; one >= 0; one = nodes.parent[one]) names.unshift(one);
    const { run, go } = this;
    this._show(
      run.names[nodes.name[node]],
      "Call path",
      element("div", { className: "actions" },
        action("Slowest span", "Show the longest span of this name on the timeline", () => go.slowest(nodes.name[node])),
        action("Find its name", "Mark every span of this name", () => go.find(nodes.name[node])),
      ),
      element("dl", {},
        ...fact("Spans", number(nodes.count[node])),
        ...fact("Total", duration(nodes.total[node])),
        ...fact("Mean", duration(nodes.total[node] / nodes.count[node])),
        ...fact("Self", `${duration(nodes.self[node])}  ${share(nodes.self[node], whole)} of all`),
        ...fact("With all below", `${duration(nodes.value[node])}  ${share(nodes.value[node], whole)} of all`),
        ...fact("Errors", nodes.errors[node] ? number(nodes.errors[node]) : ""),
        ...fact("Called by", ...names.slice(-100).map((one) => element("div", { textContent: visible(run.names[nodes.name[one]], 200) }))),
      ),
    );
  }

  /** A line of the table. */
  name(sum, whole) {
    const { run, go } = this;
    const source = run.sources.get(sum.name);
    this._show(
      run.names[sum.name],
      "Name",
      element("div", { className: "actions" },
        action("Slowest span", "Show it on the timeline", () => go.slowest(sum.name)),
        action("Find", "Mark every span of this name", () => go.find(sum.name)),
      ),
      element("dl", {},
        ...fact("Spans", number(sum.count)),
        ...fact("Errors", sum.errors ? `${number(sum.errors)}  ${share(sum.errors, sum.count)}` : ""),
        ...fact("Total", duration(sum.total)),
        ...fact("Self", `${duration(sum.self)}  ${share(sum.self, whole)} of all`),
        ...fact("Mean", duration(sum.mean)),
        ...fact("p50 · p95 · p99", `${duration(sum.p50)} · ${duration(sum.p95)} · ${duration(sum.p99)}`),
        ...fact("Longest", duration(sum.max)),
        ...fact("Source", source && visible(`${source[0]}:${source[1]}`, 2000)),
      ),
    );
  }
}
