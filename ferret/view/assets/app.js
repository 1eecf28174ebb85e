// The page: what the run was, three views of it, and what keys and clicks do.

const VIEWS = ["timeline", "flame", "table"];
const OVERVIEW_PARTS = 600;

async function main() {
  const run = await Run.load();
  await new Promise(requestAnimationFrame); // let the page show that it is there
  describe(run);
  const search = new Search(run);
  const whole = run.self.reduce((total, one) => total + one, 0);
  const tip = find("tip");
  let selected = -1;
  let view = "timeline";

  const labels = run.names.map((name) => visible(name, 160));
  let [colours, paler, palette] = [];
  const repaint = () => {
    colours = coloursOf(run.names);
    paler = coloursOf(run.names, 0.45);
    palette = readPalette();
  };
  repaint();
  const scene = (extra) => ({ palette: () => palette, repaint, ...extra });

  const laid = layOut(run);
  const timeline = new Chart(
    find("timeline"),
    scene({
      ...laid,
      length: run.length,
      errors: laid.rows.tally((span) => run.isError(span)),
      label: (span) => labels[run.name[span]],
      colour: (span) => (2 * run.suspended[span] > run.duration[span] ? paler : colours)[run.name[span]],
    }),
    () => overviewOf(run),
  );
  // the two that add up all spans are made when somebody first looks
  const flame = later(() => {
    const nodes = mergePaths(run);
    const laid = layOutFlame(nodes);
    const graph = new Chart(
      find("flame"),
      scene({
        rows: laid.rows,
        length: laid.length,
        strips: [{ kind: "flame", depth: 0, label: "", firstRow: 0, rowCount: laid.rows.rowCount, collapsed: false }],
        errors: new Int32Array(laid.node.length + 1),
        label: (item) => labels[nodes.name[laid.node[item]]],
        colour: (item) => colours[nodes.name[laid.node[item]]],
      }),
    );
    const made = { ...laid, nodes, graph };
    pointAtFlame(made);
    return made;
  });
  const table = later(() => {
    const sums = sumUp(run);
    return new Table(find("table"), sums, (name) => details.name(sums.find((one) => one.name === name), whole));
  });
  const go = {
    select, zoom, slowest,
    find: (name) => ask(Search.exactly(run.names[name])),
    close: () => select(-1),
  };
  const details = new Details(find("details"), run, go);

  function show(next) {
    view = next;
    for (const name of VIEWS) {
      find(name).hidden = name !== view;
      find(`to-${name}`).ariaSelected = String(name === view);
    }
    find("hint").textContent = HINTS[view];
    mark();
    chart()?.fit();
  }

  function chart() {
    return view === "timeline" ? timeline : view === "flame" ? flame().graph : null;
  }

  function select(span, reveal = true) {
    selected = span;
    timeline.select(span);
    if (view === "flame") flame().graph.select(-1);
    if (span < 0) return details.clear();
    if (reveal) {
      if (view !== "timeline") show("timeline");
      const [from, to] = timeline.window;
      if (run.end[span] < from || run.start[span] > to || run.duration[span] * timeline.engine.zoom < 3) zoom(span);
      timeline.plugin.reveal(span);
    }
    details.span(span);
    position();
  }

  function zoom(span) {
    if (view !== "timeline") show("timeline");
    timeline.show(run.start[span], run.end[span]);
    timeline.plugin.reveal(span);
  }

  function slowest(name) {
    let longest = -1;
    for (let i = 0; i < run.count; i++)
      if (run.name[i] === name && (longest < 0 || run.duration[i] > run.duration[longest])) longest = i;
    zoom(longest);
    select(longest);
  }

  // -- searching

  const box = find("search");

  function ask(text) {
    box.value = text;
    return lookFor(text);
  }

  async function lookFor(text) {
    find("found").textContent = text ? "…" : "";
    if (!(await search.find(text.trim()))) return;
    mark();
    position();
  }

  /** Show in the view what is searched for. */
  function mark() {
    const { spans, names } = search;
    if (view === "timeline") timeline.highlight(spans && laid.rows.tally((span) => spans[span]));
    if (view === "table") table().filter((name) => !names || names[name]);
    if (view !== "flame") return;
    const { graph, rows, node, nodes } = flame();
    graph.highlight(names && rows.tally((item) => names[nodes.name[node[item]]]));
  }

  function position() {
    const rank = search.spans && selected >= 0 && search.spans[selected] ? `${number(search.rank(selected))} of ` : "";
    find("found").textContent = search.spans ? rank + counted(search.count, "span") : "";
    find("search-form").classList.toggle("nothing", Boolean(search.spans) && !search.count);
  }

  function step(by) {
    const next = search.next(selected, by);
    if (next >= 0) select(next);
  }

  let typing;
  box.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => lookFor(box.value), 120);
  });
  find("search-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (search.text !== box.value.trim()) {
      clearTimeout(typing);
      await lookFor(box.value);
    }
    step(1);
  });
  find("next").onclick = () => step(1);
  find("previous").onclick = () => step(-1);

  // -- pointing and clicking

  function hint(event, title, lines) {
    tip.replaceChildren(element("strong", { textContent: title }), ...lines.filter(Boolean).map((one) => element("div", { textContent: one })));
    tip.hidden = false;
    const { clientWidth: width, clientHeight: height } = document.documentElement;
    tip.style.left = `${Math.max(4, Math.min(event.x + 14, width - tip.offsetWidth - 8))}px`;
    tip.style.top = `${event.y + 18 + tip.offsetHeight > height ? event.y - tip.offsetHeight - 10 : event.y + 18}px`;
  }

  const mouse = { x: 0, y: 0 };
  document.addEventListener("mousemove", ({ clientX, clientY }) => Object.assign(mouse, { x: clientX, y: clientY }), { capture: true });

  timeline.plugin.on("hover", (span) => {
    if (span < 0) return void (tip.hidden = true);
    const [status, error, errorType] = run.outcomes[run.outcome[span]];
    const { task, thread_name } = run.tracks[run.track[span]];
    hint(mouse, labels[run.name[span]], [
      `${duration(run.duration[span])}, self ${duration(run.self[span])}`,
      run.suspended[span] ? `suspended ${duration(run.suspended[span])}` : "",
      status === "ok" ? "" : visible([status, errorType, error].filter(Boolean).join(": "), 200),
      visible(task ? `${task} on ${thread_name}` : thread_name, 120),
    ]);
  });
  timeline.plugin.on("select", (span) => select(span, false));
  timeline.canvas.addEventListener("dblclick", () => timeline.plugin.hovered >= 0 && zoom(timeline.plugin.hovered));

  function pointAtFlame({ graph, nodes, node: nodeOf, rows, length }) {
    graph.plugin.on("hover", (item) => {
      if (item < 0) return void (tip.hidden = true);
      const node = nodeOf[item];
      hint(mouse, labels[nodes.name[node]], [
        `${duration(nodes.value[node])}, ${share(nodes.value[node], length)} of all`,
        `self ${duration(nodes.self[node])}`,
        `${counted(nodes.count[node], "span")}, ${duration(nodes.total[node])} in total`,
        nodes.errors[node] ? counted(nodes.errors[node], "error") : "",
      ]);
    });
    graph.plugin.on("select", (item) => {
      graph.select(item);
      if (item < 0) return details.clear();
      details.path(nodes, nodeOf[item], length);
      graph.show(rows.start[item], rows.end[item]);
    });
  }

  for (const name of VIEWS) find(`to-${name}`).onclick = () => show(name);
  find("help").onclick = () => find("keys").showModal();
  find("keys").onclick = () => find("keys").close();

  const keys = {
    w: () => chart()?.zoom(1.25), s: () => chart()?.zoom(0.8), "+": () => chart()?.zoom(1.25), "=": () => chart()?.zoom(1.25),
    "-": () => chart()?.zoom(0.8), a: () => chart()?.pan(-0.12), d: () => chart()?.pan(0.12),
    ArrowLeft: () => chart()?.pan(-0.12), ArrowRight: () => chart()?.pan(0.12),
    ArrowUp: () => chart()?.scroll(-3 * ROW), ArrowDown: () => chart()?.scroll(3 * ROW),
    PageUp: () => chart()?.scroll(-20 * ROW), PageDown: () => chart()?.scroll(20 * ROW),
    0: () => chart()?.reset(), f: () => selected >= 0 && zoom(selected), n: () => step(1), N: () => step(-1), p: () => step(-1),
    1: () => show("timeline"), 2: () => show("flame"), 3: () => show("table"),
    "/": () => box.select(), "?": () => find("keys").showModal(),
    Escape: () => (box.value && selected < 0 ? ask("") : select(-1)),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || find("keys").open) return;
    if (event.target === box) {
      if (event.key !== "Escape") return;
      event.preventDefault();
      if (box.value) ask("");
      else box.blur();
      return;
    }
    const act = keys[event.key];
    const scrolls = view === "table" && /^(Arrow|Page)/.test(event.key);
    if (!act || scrolls) return;
    event.preventDefault();
    act();
  });

  show("timeline");
  document.body.dataset.ready = "yes";
  window.ferret = { run, laid, timeline, flame, table, search, select }; // for the console
}

/** What `make` makes, made when it is first asked for. */
function later(make) {
  let made;
  return () => (made ??= make());
}

const HINTS = {
  timeline: "Scroll to zoom, drag to move, Shift and scroll for up and down, double-click to zoom to a span",
  flame: "Each bar is a call path: as wide as the time that it and all below it ran themselves. Click to zoom, 0 to go back",
  table: "Click a heading to sort, a line for more",
};

function readPalette() {
  const named = (...names) => Object.fromEntries(names.map((name) => [name, themed(name)]));
  return named("strip", "process", "error", "dimmed", "selected", "hovered");
}

function overviewOf(run) {
  const { open, errors, width } = activity(run, OVERVIEW_PARTS);
  const points = (values) => Array.from(values, (value, i) => [(i + 0.5) * width, value]);
  const series = (values, colour, max) => ({
    points: [[0, 0], ...points(values), [run.length, 0]], min: 0, max: Math.max(max, 1), group: colour,
    style: { type: "line", lineColor: themed(colour), fillColor: themed(`${colour}-fill`) },
  });
  const shown = [series(open, "open", Math.max(...open))];
  if (errors.some(Boolean)) shown.push(series(errors.map((count) => Math.sign(count)), "failed", 4));
  return shown;
}

/** The head of the page: what ran, when, and whether all of it is here. */
function describe(run) {
  const { info } = run;
  const program = visible(info.program || "a run", 200);
  document.title = `${program} · ferret`;
  find("program").textContent = program;
  const began = new Date(info.started_at * 1000);
  const when = Number.isNaN(began.getTime()) ? "?" : `${began.toLocaleDateString("sv")} ${began.toLocaleTimeString("sv")}`;
  const facts = [when, duration(run.length), counted(run.count, "span")];
  find("facts").replaceChildren(...facts.map((text) => element("span", { textContent: text })));
  const warn = (text, hint, kind) => find("facts").append(element("span", { textContent: text, title: hint, className: kind }));
  let errors = 0;
  for (let i = 0; i < run.count; i++) if (run.isError(i)) errors++;
  if (errors) warn(counted(errors, "error"), "Spans that ended with another status than ok", "bad");
  if (info.lost) warn(`${counted(info.lost, "span")} lost`, "They were recorded, and did not reach the file: the run's ledger says so", "bad");
  if (info.unclean) warn("no clean end", "A process of this run still records, or was killed: what it had not stored is not here", "bad");
  find("run-id").textContent = `run ${visible(info.run_id, 80)}`;
}

main().catch((error) => {
  document.body.dataset.ready = "failed";
  find("loading").textContent = `This page could not be shown: ${error}. It needs a browser of 2024 or later.`;
  throw error;
});
