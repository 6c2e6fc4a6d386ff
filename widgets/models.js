// The page of a ModelExplorer: graph, table and chart of the same layers. models_graph.js, models_table.js and
// models_chart.js stand before this text.

function option(value, text) {
  return make("option", { value }, text ?? value);
}

function field(label, control) {
  return make("div", { className: "ckx-network" }, make("label", { for: control.id }, label), control);
}

function partsOf(setup, id) {
  const labels = Object.keys(setup.models);
  const select = (name, ...options) => make("select", { id: `${id}-${name}` }, ...options);
  const button = (text, label) => make("button", { type: "button", className: "ckx-button", "aria-label": label ?? text }, text);
  const ui = {
    model: select("model", ...labels.map((label) => option(label))),
    other: select("other", option("", "nothing"), ...labels.map((label) => option(label))),
    measure: select("measure", ...setup.shown.map((name) => option(name, setup.measures[name].label))),
    level: select("level"),
    by: select("by", option("layers", "layers"), option("modules", "modules, rolled up")),
    op: select("op"),
    text: make("input", { type: "search", id: `${id}-text`, placeholder: "part of a name", maxLength: 300 }),
    swap: button("Swap", "Swap the two models"),
    less: button("−", "Smaller graph"),
    more: button("+", "Larger graph"),
    fit: button("Fit", "Fit the graph to the width"),
    wide: button("Open all", "Open all modules"),
    save: button("CSV", "Save the table as CSV"),
    slider: make("input", { type: "range", id: `${id}-at`, min: "0", step: "1", "aria-label": "Layer, in the order of execution" }),
    state: make("p", { className: "ckx-state", role: "status" }),
    errors: { model: make("p", { className: "ckx-error", role: "alert" }), measure: make("p", { className: "ckx-error", role: "alert" }) },
    tiles: make("dl", { className: "ckx-tiles" }),
    detail: make("section", { className: "ckx-detail", "aria-label": "Selected", "aria-live": "polite" }),
    count: make("p", { className: "ckx-hint", role: "status" }),
    legend: make("p", { className: "ckx-legend ckx-hint" }),
    shells: { timeline: figureShell(430), operators: figureShell(300) },
  };
  return ui;
}

function layoutOf(ui, graph, table) {
  const many = ui.other.options.length > 2;
  const models = make("div", { className: "ckx-choices" }, ...(many ? [field("Model", ui.model), field("Compare with", ui.other), ui.swap] : []), field("Show", ui.measure), ui.errors.model, ui.errors.measure);
  const left = make("div", { className: "ckx-pane" }, make("div", { className: "ckx-choices" }, field("Graph of", ui.level), make("div", { className: "ckx-zoom" }, ui.less, ui.more, ui.fit)), graph, ui.legend);
  const tools = make("div", { className: "ckx-choices" }, field("Table of", ui.by), field("Operator", ui.op), field("Filter", ui.text), ui.wide, ui.save);
  const right = make("div", { className: "ckx-pane" }, tools, table, ui.count);
  const head = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), ui.state, ui.tiles);
  const walk = make("label", { className: "ckx-walk" }, make("span", {}, "Walk through the layers"), ui.slider);
  return [models, head, ui.detail, make("div", { className: "ckx-panes" }, left, right), walk, ui.shells.timeline, ui.shells.operators];
}

// What is known of the layer or module that is selected, and the layers beside it as buttons.
function drawDetail(section, { first, second, measures, item, go }) {
  if (!item) {
    section.replaceChildren(make("p", { className: "ckx-hint" }, "Select a layer in the graph, the table or the chart."));
    return;
  }
  const layer = item.kind === "layer";
  const here = item.a >= 0;
  const model = here ? first : second;
  const columns = model[layer ? "layers" : "modules"];
  const i = here ? item.a : item.b;
  const beside = (name) => (here && second && item.b >= 0 ? second[layer ? "layers" : "modules"].text[name][item.b] : "");
  const pairs = Object.entries(measures).map(([name, { label, help }]) =>
    make("div", { title: help }, make("dt", {}, label), make("dd", {}, columns.text[name][i] || "–", ...(beside(name) ? [make("span", {}, ` (${beside(name)})`)] : []))),
  );
  let kind = layer ? `${columns.op[i]}, ${columns.shape[i]}` : `${columns.layers[i].length} layers`;
  if (second) kind += here && item.b >= 0 ? `; in brackets ${second.name}` : `; only in ${model.name}`;
  const parts = [make("h3", {}, item.name || model.name), make("p", { className: "ckx-hint" }, kind), make("dl", {}, ...pairs)];
  if (layer && here) {
    const names = model.layers.name;
    const edges = model.levels[0].edges;
    const links = (word, found, none) =>
      make("p", { className: "ckx-links" }, `${word} `, ...(found.length ? found.slice(0, 8).map((n) => go(n, names[n])) : [none]), ...(found.length > 8 ? [` and ${found.length - 8} more`] : []));
    const reads = edges.filter(([, b]) => b === i).map(([a]) => a);
    const feeds = edges.filter(([a]) => a === i).map(([, b]) => b);
    const alive = model.activations.filter(([, first, last]) => first <= i && i <= last).sort((a, b) => b[4] - a[4]);
    const told = alive.slice(0, 6).map(([name, , , text]) => `${name} ${text}`).join(", ");
    parts.push(links("Reads", reads, "the network's input"), links("Read by", feeds, "nobody: it is the network's output"));
    if (alive.length) parts.push(make("p", { className: "ckx-hint" }, `${i === model.peak ? "Here memory peaks. " : ""}Alive while it runs: ${told}${alive.length > 6 ? ` and ${alive.length - 6} smaller` : ""}.`));
  }
  section.replaceChildren(...parts);
}

// What is chosen, and the views of it. Each choice is drawn at once and kept in the widget; figures come from the kernel.
class Explorer {
  constructor(model, el, id) {
    this.model = model;
    this.chosen = { ...model.get("chosen") };
    this.told = model.get("answer");
    this.marked = new Set(); // layers of the first model
    this.ui = partsOf(this.setup, id);
    this.graph = graphView(id, (n) => this.pickNode(n), () => this.setLevel(Math.max(this.chosen.level - 1, 0)), (zoom) => this.keep({ zoom }));
    this.table = tableView(id, {
      picked: (item) => this.select([item.kind, item.name], true),
      opened: (path) => this.narrowDown({ open: this.chosen.open.includes(path) ? this.chosen.open.filter((one) => one !== path) : [...this.chosen.open, path] }),
      sorted: (sort, name) => {
        this.narrowDown({ sort });
        this.table.focusHead(name);
      },
    });
    this.root = make("div", { className: "ckx ckx-models" }, ...layoutOf(this.ui, this.graph.list, this.table.frame));
    el.append(this.root);
    const isDark = () => this.root.dataset.dark === "true";
    this.chart = chartOf(this.ui.shells.timeline, isDark);
    this.operators = figureView(this.ui.shells.operators, isDark);
    this.talk = conversation(
      model,
      this.root,
      () => ({ model: this.chosen.model, other: this.chosen.other, measure: this.chosen.measure }),
      (answer, more) => this.showAnswer(answer, more),
    );
  }

  // not kept: a network may come while the page stands, and its choice be told before it
  get setup() {
    return this.model.get("setup");
  }

  get first() {
    return this.setup.models[this.chosen.model];
  }

  get second() {
    return this.setup.models[this.chosen.other];
  }

  get narrow() {
    return this.root.clientWidth < 700;
  }

  keep(changes) {
    this.chosen = { ...this.chosen, ...changes };
    this.model.set("chosen", this.chosen);
    this.model.save_changes();
  }

  // Another choice of models or measure: of a new model the graph that is readable, and a layer that it has.
  take(changes) {
    const next = { ...this.chosen, ...changes };
    if (next.other === next.model) next.other = "";
    if (next.model !== this.chosen.model) {
      const found = this.setup.models[next.model];
      next.level = found.start.level;
      const [kind, name] = next.selected ?? [];
      if (!kind || !found[`${kind}s`].name.includes(name)) next.selected = found.start.selected;
    }
    this.keep(next);
    this.drawModels();
    this.talk.ask();
  }

  narrowDown(changes) {
    this.keep(changes);
    this.drawTable();
  }

  setLevel(level) {
    this.keep({ level });
    this.ui.level.value = String(level);
    this.drawGraph();
    this.mark();
  }

  // The modules to open so that what is selected is in sight.
  opening(selected) {
    const open = new Set(this.chosen.open);
    const name = selected?.[1] ?? "";
    for (let at = name.lastIndexOf("."); at > 0; at = name.lastIndexOf(".", at - 1)) open.add(name.slice(0, at));
    return [...open];
  }

  select(selected, inTable = false) {
    const open = inTable ? this.chosen.open : this.opening(selected);
    const more = this.chosen.by === "modules" && open.length > this.chosen.open.length;
    this.keep(more ? { selected, open } : { selected });
    if (more) this.drawTable();
    this.mark();
  }

  selectLayer(layer) {
    this.select(["layer", this.first.layers.name[layer]]);
  }

  pickNode(n) {
    const { layers, name } = this.first.levels[this.chosen.level];
    if (layers[n].length > 1 && this.first.modules.name.includes(name[n])) this.select(["module", name[n]]);
    else this.selectLayer(layers[n][0]);
  }

  // What is selected, in all views.
  mark() {
    const { first, ui } = this;
    const item = this.item();
    this.marked = new Set(!item || item.a < 0 ? [] : item.kind === "layer" ? [item.a] : first.modules.layers[item.a]);
    this.graph.mark(this.marked, true);
    this.table.mark(item?.key, this.keys(), true);
    const go = (layer, name) => {
      const button = make("button", { type: "button", className: "ckx-link" }, name);
      button.addEventListener("click", () => this.selectLayer(layer));
      return button;
    };
    drawDetail(ui.detail, { first, second: this.second, measures: this.setup.measures, item, go });
    if (this.marked.size) {
      const start = Math.min(...this.marked);
      ui.slider.value = String(start);
      ui.slider.setAttribute("aria-valuetext", first.layers.name[start]);
    }
    this.chart.mark(this.marked);
  }

  item() {
    const { selected } = this.chosen;
    return selected && this.items.all.find((item) => item.kind === selected[0] && item.name === selected[1]);
  }

  keys() {
    return new Set([...this.marked].map((layer) => `layer ${this.first.layers.name[layer]}`));
  }

  drawGraph() {
    const { chosen, first, second } = this;
    const level = first.levels[chosen.level];
    const there = new Set(second ? second.layers.name : []);
    const absent = (layers) => (second && !layers.some((layer) => there.has(first.layers.name[layer])) ? chosen.other : "");
    this.graph.show(level, { ...chosen, low: this.narrow ? 40 : BOX.low, peak: first.peak, absent });
    const values = level[chosen.measure];
    const most = values.reduce((best, value, n) => (value > values[best] ? n : best), 0);
    this.ui.legend.replaceChildren(
      make("span", { className: "ckx-ramp", "aria-hidden": "true" }),
      `Height and colour: ${this.setup.measures[chosen.measure].label}, from 0 to ${level.text[chosen.measure][most]} (by its square root). `,
      `The dot marks the memory peak${second ? `, a dashed border what ${chosen.other} has not` : ""}. Arrow keys walk.`,
    );
  }

  drawTable() {
    const { chosen, items, ui } = this;
    const { shown } = this.table.show({
      ...chosen, items, first: this.first, second: this.second, measures: this.setup.measures, selected: this.item()?.key,
      marked: this.keys(), names: { model: chosen.model, other: chosen.other },
    });
    const all = items.all.filter(({ kind }) => kind === "layer").length;
    const filtered = chosen.by === "layers" || chosen.text || chosen.op;
    ui.count.textContent = filtered ? `${shown.toLocaleString("en")} of ${all.toLocaleString("en")} layers` : "";
    ui.wide.hidden = chosen.by !== "modules";
    const does = chosen.open.length ? "Close" : "Open";
    ui.wide.textContent = `${does} all`;
    ui.wide.setAttribute("aria-label", `${does} all modules`);
  }

  // Everything that follows from the choice of models.
  drawModels() {
    const { chosen, ui, first, second } = this;
    this.items = unite(first, second);
    ui.level.replaceChildren(...first.levels.map(({ label }, n) => option(String(n), label)));
    const ops = [...new Set([...first.layers.op, ...(second ? second.layers.op : [])])].sort();
    if (chosen.op && !ops.includes(chosen.op)) this.keep({ op: "" });
    ui.op.replaceChildren(option("", "all"), ...ops.map((op) => option(op)));
    for (const name of ["model", "other", "measure", "by", "op", "text"]) ui[name].value = this.chosen[name];
    ui.level.value = String(chosen.level);
    ui.slider.max = String(first.layers.name.length - 1);
    ui.swap.hidden = !second;
    this.drawGraph();
    this.drawTable();
    this.mark();
  }

  showAnswer(answer, more) {
    const { ui } = this;
    for (const [name, place] of Object.entries(ui.errors)) place.textContent = answer.error?.control === name ? answer.error.text : "";
    if (answer.error || more) return;
    this.told = answer;
    drawTiles(ui.tiles, answer.tiles);
    ui.shells.operators.hidden = !answer.operators;
    if (answer.operators) this.operators.show(answer.operators);
    this.chart.show(answer.timeline, this.marked);
  }

  askIfOther() {
    if (["model", "other", "measure"].some((name) => this.told[name] !== this.chosen[name])) this.talk.ask();
  }

  // Something was chosen in another view of the same widget, or in the kernel.
  changed() {
    const now = this.model.get("chosen");
    if (JSON.stringify(now) === JSON.stringify(this.chosen)) return;
    this.chosen = { ...now };
    this.drawModels();
    this.askIfOther();
  }

  listen() {
    const { ui, graph } = this;
    const acts = {
      model: () => this.take({ model: ui.model.value, open: [] }),
      other: () => this.take({ other: ui.other.value }),
      measure: () => this.take({ measure: ui.measure.value, sort: null }),
      level: () => this.setLevel(Number(ui.level.value)),
      op: () => this.narrowDown({ op: ui.op.value }),
      by: () => {
        this.narrowDown({ by: ui.by.value, open: this.opening(this.chosen.selected) });
        this.mark();
      },
    };
    for (const [name, act] of Object.entries(acts)) ui[name].addEventListener("change", act);
    ui.text.addEventListener("input", () => this.narrowDown({ text: ui.text.value }));
    ui.slider.addEventListener("input", () => this.selectLayer(Number(ui.slider.value)));
    ui.swap.addEventListener("click", () => this.take({ model: this.chosen.other, other: this.chosen.model }));
    ui.less.addEventListener("click", () => graph.setZoom(graph.zoom() / 1.25));
    ui.more.addEventListener("click", () => graph.setZoom(graph.zoom() * 1.25));
    ui.fit.addEventListener("click", () => graph.fit());
    ui.wide.addEventListener("click", () => this.narrowDown({ open: this.chosen.open.length ? [] : this.first.modules.name.slice(1) }));
    ui.save.addEventListener("click", () => {
      const { names, rows } = this.table.all();
      ckSave("layers.csv", new Blob([csvOf(rows, names)], { type: "text/csv" }));
    });
  }
}

function render({ model, el }) {
  el.classList.add("ckx-host");
  const shown = new Explorer(model, el, viewId());
  const changed = () => shown.changed();
  model.on("change:chosen", changed);
  const stopTheme = followTheme(shown.root, () => {
    shown.chart.draw();
    shown.operators.draw();
  });
  let slim = shown.narrow;
  const sized = new ResizeObserver(() => {
    if (shown.narrow === slim) return;
    slim = shown.narrow;
    shown.drawGraph();
    shown.mark();
  });
  sized.observe(shown.root);
  shown.listen();
  shown.drawModels();
  shown.showAnswer(model.get("answer"), false);
  shown.askIfOther();
  plotlyFor(model)
    .then((loaded) => {
      Plotly = loaded;
      shown.operators.start();
      shown.chart.start((layer) => shown.selectLayer(layer));
    })
    .catch((problem) => {
      shown.ui.state.textContent = `The figures cannot be drawn: ${problem.message}`;
    });
  return () => {
    shown.talk.stop();
    model.off("change:chosen", changed);
    stopTheme();
    sized.disconnect();
    shown.table.stop();
    shown.chart.stop();
    shown.operators.stop();
  };
}

export default { render: renewed(render) };
