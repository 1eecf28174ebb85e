// A chart of rows under strips: flame-chart-js draws, zooms and drags; what is in sight is decided here, in `Rows`.

const ROW = 18;
const STRIP = 20;
const FONT = '11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
const SLIVER = 1.6; // pixels: what is narrower is drawn together with what is beside it
const CROWD = 4; // spans in a sliver, from which on it says little by its colour
const BLOCK = 4; // pixels in which such slivers have one colour, so that they are one rectangle
const CLOSEST = 40; // pixels for a nanosecond, and no more

/** A dotted name, or only its end where no more fits. */
function fitting(label, width) {
  if (label.length * 6.4 < width) return label;
  return label.slice(label.lastIndexOf(".") + 1) || label;
}

/** Lines at round times instead of the library's powers of two, and labels with units that fit. */
function roundTimes(grid) {
  grid.recalc = function () {
    const engine = this.renderEngine;
    const least = 110 / engine.zoom;
    const power = 10 ** Math.floor(Math.log10(least));
    this.delta = Math.max([1, 2, 5, 10].find((step) => step * power >= least) * power, 1);
    this.start = Math.floor((engine.positionX - engine.min) / this.delta);
    this.end = Math.ceil(engine.getRealView() / this.delta) + this.start + 1;
    this.accuracy = engine.zoom >= CLOSEST ? 6 : 0; // at six the library zooms no further
  };
  grid.renderTimes = function (engine = this.renderEngine) {
    engine.setCtxValue("fillStyle", engine.styles.fontColor);
    engine.setCtxFont(engine.styles.font);
    this.forEachTime((pixel, time) => {
      if (time >= 0) engine.fillText(moment(Math.round(time), this.delta), pixel + 5, engine.height / 2 + 4);
    });
  };
}

/** The library's frame selector over the whole run, without its tooltip. */
class Overview extends flameChart.TimeframeSelectorPlugin {
  postInit() {
    super.postInit();
    roundTimes(this.timeGrid);
    this.timeGrid.renderTimes = () => {};
  }

  renderTooltip() {
    return false;
  }
}

/** Strips and rows. `scene` has `rows`, `strips` (`kind`, `depth`, `label`, `note`, `firstRow`, `rowCount`, `collapsed`). */
class RowsPlugin extends flameChart.UIPlugin {
  constructor(scene) {
    super("rows");
    this.scene = scene;
    this.height = 100;
    this.min = 0;
    this.max = Math.max(scene.length, 1);
    this.top = 0; // how far it is scrolled, in pixels
    this.hovered = -1;
    this.selected = -1;
    this.matches = null; // while something is searched for: how many matches are before each place
    this.frame = 0; // milliseconds that the last drawing took
    this.arrange();
  }

  init(renderEngine, interactionsEngine) {
    super.init(renderEngine, interactionsEngine);
    interactionsEngine.on("change-position", ({ deltaX, deltaY }) => {
      interactionsEngine.setCursor("grabbing");
      this.renderEngine.tryToChangePosition(deltaX);
      this.scrollTo(this.top + deltaY);
    });
    interactionsEngine.on("up", () => interactionsEngine.clearCursor());
    interactionsEngine.on("move", () => this.point());
    interactionsEngine.on("click", () => this.click());
  }

  /** Where each strip is, from the top; again whenever one is opened or closed. */
  arrange() {
    let hiddenBelow = Infinity;
    let y = 0;
    this.shown = [];
    this.tops = [];
    for (const strip of this.scene.strips) {
      if (strip.depth > hiddenBelow) continue;
      hiddenBelow = strip.collapsed ? strip.depth : Infinity;
      this.shown.push(strip);
      this.tops.push(y);
      y += (strip.label ? STRIP : 0) + (strip.collapsed ? 0 : strip.rowCount * ROW);
    }
    this.contentHeight = y;
  }

  scrollTo(top) {
    this.top = Math.max(0, Math.min(top, this.contentHeight + ROW - this.height));
    this.renderEngine?.parent.render();
    this.emit("scroll");
  }

  /** The strip, and the row or -1, at a height of the canvas. */
  under(y) {
    const [low, at] = [this._stripAt(y + this.top), y + this.top];
    if (low < 0 || at >= this.contentHeight) return { strip: null, row: -1 };
    const strip = this.shown[low];
    const inside = at - this.tops[low] - (strip.label ? STRIP : 0);
    return { strip, row: inside < 0 ? -1 : strip.firstRow + Math.floor(inside / ROW) };
  }

  _stripAt(y) {
    let [low, high] = [0, this.tops.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle] > y) high = middle;
      else low = middle + 1;
    }
    return low - 1;
  }

  point() {
    const mouse = this.interactionsEngine.getMouse();
    const { row } = this.under(mouse.y);
    const engine = this.renderEngine;
    const time = engine.positionX + engine.pixelToTime(mouse.x);
    const item = row < 0 ? -1 : this.scene.rows.at(row, time, engine.pixelToTime(2));
    if (item !== this.hovered) {
      this.hovered = item;
      engine.render();
    }
    this.emit("hover", item);
  }

  click() {
    this.point();
    const { strip, row } = this.under(this.interactionsEngine.getMouse().y);
    if (row >= 0) this.emit("select", this.hovered);
    else if (strip?.label) {
      strip.collapsed = !strip.collapsed;
      this.arrange();
      this.scrollTo(this.top);
    }
  }

  /** Scroll so that the item's row can be seen, opening what hides it. */
  reveal(item) {
    const row = this.scene.rows.row[item];
    const holder = this.scene.strips.findIndex((one) => row >= one.firstRow && row < one.firstRow + one.rowCount);
    let depth = Infinity;
    for (let i = holder; i >= 0; i--) {
      const strip = this.scene.strips[i];
      if (strip.depth >= depth) continue;
      depth = strip.depth;
      strip.collapsed = false;
    }
    this.arrange();
    const strip = this.scene.strips[holder];
    const y = this.tops[this.shown.indexOf(strip)] + (strip.label ? STRIP : 0) + (row - strip.firstRow) * ROW;
    if (y < this.top + 2 * STRIP || y + ROW > this.top + this.height) this.scrollTo(y - this.height / 3);
  }

  render() {
    const begun = performance.now();
    const engine = this.renderEngine;
    const colours = this.scene.palette();
    for (let i = Math.max(this._stripAt(this.top), 0); i < this.shown.length; i++) {
      const y = this.tops[i] - this.top;
      if (y > engine.height) break;
      this._renderStrip(this.shown[i], y, colours);
    }
    const above = this.shown[this._stripAt(this.top)];
    if (above?.label) this._renderHead(above, 0, colours, 5); // what one has scrolled into keeps its name in sight
    engine.resolveQueue();
    engine.renderTimeGrid();
    this.frame = performance.now() - begun;
    return true;
  }

  _renderStrip(strip, y, colours) {
    const top = y + (strip.label ? STRIP : 0);
    if (strip.label) this._renderHead(strip, y, colours, 2);
    if (strip.collapsed) return;
    const from = Math.max(0, Math.floor(-top / ROW));
    const to = Math.min(strip.rowCount, Math.ceil((this.renderEngine.height - top) / ROW));
    for (let i = from; i < to; i++) this._renderRow(strip.firstRow + i, top + i * ROW, colours);
  }

  _renderHead({ kind, depth, label, note, collapsed, rowCount }, y, colours, priority) {
    const engine = this.renderEngine;
    engine.addRect({ color: kind === "process" ? colours.process : colours.strip, x: 0, y, w: engine.width, h: STRIP - 1 }, priority);
    const mark = collapsed ? "▸" : rowCount || kind === "process" ? "▾" : "·";
    const text = `${mark} ${label}${note ? "   " + note : ""}`;
    engine.addText({ text, x: 4 + depth * 14, y: y + 1, w: engine.width - 8 - depth * 14 }, priority);
  }

  _renderRow(row, y, colours) {
    const engine = this.renderEngine;
    const { scene, matches } = this;
    const { rows, errors } = scene;
    const sliver = SLIVER / engine.zoom;
    let [block, crowd] = [-1, ""]; // where the slivers of a crowd have which colour
    let last = null; // the slivers drawn last, as long as the next one of the same colour adjoins them
    rows.visit(row, engine.positionX, engine.positionX + engine.getRealView(), sliver, (first, beyond, start, end) => {
      const item = rows.order[first];
      const x = engine.timeToPosition(start);
      const color = matches && matches[beyond] === matches[first] ? colours.dimmed
        : errors[beyond] > errors[first] ? colours.error
        : beyond - first < CROWD ? scene.colour(item)
        : Math.floor(x / BLOCK) === block ? crowd
        : scene.colour(item);
      if (beyond - first >= CROWD && color !== colours.dimmed && color !== colours.error)
        [block, crowd] = [Math.floor(x / BLOCK), color];
      const wide = first + 1 === beyond && end - start === rows.end[item] - rows.start[item];
      const w = wide ? Math.max((end - start) * engine.zoom - 0.7, 1) : SLIVER;
      if (!wide && last && last.color === color && Math.abs(last.x + last.w - x) < 0.5) last.w = x + w - last.x;
      else {
        const rect = { color, x, y, w, h: ROW - 1 };
        engine.addRect(rect);
        last = wide ? null : rect;
      }
      if (w > 22) engine.addText({ text: fitting(scene.label(item), w), x, y, w });
      if (first + 1 === beyond && (item === this.selected || item === this.hovered)) {
        const color = item === this.selected ? colours.selected : colours.hovered;
        const left = Math.max(x, -2);
        engine.addStroke({ color, x: left + 0.5, y: y + 0.5, w: Math.max(Math.min(w + x - left, engine.width + 4 - left) - 1, 1), h: ROW - 2 }, 1);
      }
    });
  }
}

/** A chart in an element of the page, with its scroll bar. */
class Chart {
  /** `scene` is what `RowsPlugin` shows; `overview`, if there is one, the library's points over the whole length. */
  constructor(host, scene, overview) {
    this.host = host;
    this.canvas = element("canvas", { width: 800, height: 400 }); // until it is in sight
    this.bar = element("div", { className: "bar" }, (this.filler = element("div")));
    host.append(this.canvas, this.bar);
    this.plugin = new RowsPlugin(scene);
    const settings = this._settings();
    this.axis = new flameChart.TimeGridPlugin({ styles: settings.styles.timeGridPlugin });
    this.overview =
      overview && new Overview({ timeseries: overview(), settings: { styles: settings.styles.timeframeSelectorPlugin } });
    this._series = overview;
    this.plugins = [this.overview, this.axis, this.plugin].filter(Boolean);
    this.container = new flameChart.FlameChartContainer({ canvas: this.canvas, plugins: this.plugins, settings });
    this.engine = this.container.renderEngine;
    this.engine.truncateChildrenLayout = (layout) => layout; // the library's never ends where nothing can shrink
    roundTimes(this.container.timeGrid);
    this.plugin.on("scroll", () => this._showScroll());
    this.bar.addEventListener("scroll", () => {
      if (Math.abs(this.bar.scrollTop - this.plugin.top) > 1) this.plugin.scrollTo(this.bar.scrollTop);
    });
    this.canvas.addEventListener("wheel", (event) => this._wheel(event), { capture: true, passive: false });
    this.canvas.addEventListener("mouseleave", () => this._leave());
    new ResizeObserver(() => this.fit()).observe(host);
    dark.addEventListener("change", () => this.restyle());
    this.fit();
    this.engine.resetView();
  }

  _settings() {
    const text = themed("text");
    const plain = { font: FONT, fontColor: text, backgroundColor: themed("page") };
    return {
      styles: {
        main: { ...plain, blockHeight: ROW },
        timeGrid: { color: themed("grid") },
        timeGridPlugin: { font: FONT, fontColor: themed("faint") },
        timeframeSelectorPlugin: {
          ...plain, height: 52, overlayColor: themed("shade"), knobColor: themed("knob"), knobStrokeColor: themed("page"),
          bottomLineColor: themed("line"),
        },
      },
    };
  }

  restyle() {
    this.plugin.scene.repaint();
    const settings = this._settings();
    this.container.setSettings({ styles: { ...settings.styles } });
    this.axis.setSettings({ styles: settings.styles.timeGridPlugin });
    if (this.overview) {
      this.overview.setSettings({ styles: settings.styles.timeframeSelectorPlugin });
      this.overview.setTimeseries(this._series());
    }
    this.fit();
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !height) return; // not in sight
    const others = this.plugins.slice(0, -1).reduce((sum, plugin) => sum + plugin.height, 0);
    this.plugin.height = Math.max(height - others, ROW);
    this.offset = others;
    this.bar.style.top = `${others}px`;
    const [from, to] = this.window; // what is in sight stays so, in a wider or narrower chart
    this.engine.resize(width - 12, Math.max(height, others + ROW));
    this._window(from, to);
    this.plugin.scrollTo(this.plugin.top);
    this._draw();
  }

  /** Draw at once: the library does it in the next frame, and a canvas that got another size is black in this one. */
  _draw() {
    this.container.timeGrid.recalc();
    this.plugins.forEach((_, index) => this.engine.renderPlugin(index));
    this.engine.shallowRender();
  }

  _showScroll() {
    this.filler.style.height = `${this.plugin.contentHeight + ROW}px`;
    if (Math.abs(this.bar.scrollTop - this.plugin.top) > 1) this.bar.scrollTop = this.plugin.top;
  }

  /** With Shift, or where there is nothing to zoom, the wheel scrolls; the library zooms otherwise. */
  _wheel(event) {
    if (!event.shiftKey) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    this.plugin.scrollTo(this.plugin.top + (event.deltaY || event.deltaX));
  }

  _leave() {
    this.plugin.hovered = -1;
    this.plugin.emit("hover", -1);
    this.engine.render();
  }

  zoom(factor) {
    const at = this.canvas.matches(":hover") ? this.container.interactionsEngine.mouse.x : this.engine.width / 2;
    this.container.interactionsEngine.changeZoom(this.engine.zoom * (1 - factor), at);
    this.engine.render();
  }

  /** Move by a part of what is in sight. */
  pan(part) {
    this.engine.tryToChangePosition(this.engine.getRealView() * part);
    this.engine.render();
  }

  scroll(pixels) {
    this.plugin.scrollTo(this.plugin.top + pixels);
  }

  reset() {
    this.engine.resetView();
    this.engine.render();
  }

  /** Show from one time to another, with some room on either side. */
  show(start, end) {
    const room = Math.max((end - start) * 0.15, 10);
    const width = Math.min(end - start + 2 * room, this.engine.max);
    const from = Math.max(0, Math.min(start - room, this.engine.max - width));
    this._window(from, from + width);
    this.engine.render();
  }

  _window(from, to) {
    this.engine.timeGrid.accuracy = 0; // it may have been as close as it goes
    this.engine.setZoom(Math.min(this.engine.width / (to - from), CLOSEST));
    this.engine.setPositionX(from);
  }

  get window() {
    return [this.engine.positionX, this.engine.positionX + this.engine.getRealView()];
  }

  select(item) {
    this.plugin.selected = item;
    this.engine.render();
  }

  highlight(matches) {
    this.plugin.matches = matches;
    this.engine.render();
  }
}
