// The page of a ModelExplorer: graph, table and chart of the same layers. models_graph.js and models_table.js stand before.

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
  const models = make("div", { className: "ckx-choices" }, field("Model", ui.model), ...(many ? [field("Compare with", ui.other), ui.swap] : []), field("Show", ui.measure), ui.errors.model, ui.errors.measure);
  const left = make("div", { className: "ckx-pane" }, make("div", { className: "ckx-choices" }, field("Graph of", ui.level), make("div", { className: "ckx-zoom" }, ui.less, ui.more, ui.fit)), graph, ui.legend);
  const tools = make("div", { className: "ckx-choices" }, field("Table of", ui.by), field("Operator", ui.op), field("Filter", ui.text), ui.wide, ui.save);
  const right = make("div", { className: "ckx-pane" }, tools, table, ui.count);
  const head = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), ui.state, ui.tiles);
  const walk = make("label", { className: "ckx-walk" }, make("span", {}, "Walk through the layers"), ui.slider);
  return [models, head, ui.detail, make("div", { className: "ckx-panes" }, left, right), walk, ui.shells.timeline, ui.shells.operators];
}

// Runs of neighbours as rectangles behind the bars.
function marksOf(layers, accent) {
  const runs = [];
  for (const layer of [...layers].sort((a, b) => a - b)) {
    if (runs.length && runs.at(-1)[1] === layer - 1) runs.at(-1)[1] = layer;
    else runs.push([layer, layer]);
  }
  return runs.slice(0, 200).map(([a, b]) => ({
    type: "rect", xref: "x", yref: "paper", x0: a - 0.5, x1: b + 0.5, y0: 0, y1: 1, layer: "below", fillcolor: accent, opacity: 0.25, line: { width: 1, color: accent },
  }));
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

function csvOf(frame, names) {
  const cell = (value) => {
    const text = String(value ?? "");
    // a spreadsheet takes text that starts with one of these for a formula
    const safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  return [names, ...frame].map((row) => row.map(cell).join(",")).join("\r\n");
}

function render({ model, el }) {
  const id = `ckx${(instances += 1)}`;
  const setup = model.get("setup");
  const ui = partsOf(setup, id);
  let chosen = { ...model.get("chosen") };
  let items;
  let marked = new Set();
  let told = model.get("answer");
  const data = () => setup.models[chosen.model];
  const itemOf = (selected) => selected && items.all.find((item) => item.kind === selected[0] && item.name === selected[1]);
  const keep = (changes) => {
    chosen = { ...chosen, ...changes };
    model.set("chosen", chosen);
    model.save_changes();
  };

  const graph = graphView(id, (n) => pickNode(n), () => setLevel(Math.max(chosen.level - 1, 0)), (zoom) => keep({ zoom }));
  const table = tableView(id, {
    picked: (item) => select([item.kind, item.name], "table"),
    opened: (path) => {
      keep({ open: chosen.open.includes(path) ? chosen.open.filter((one) => one !== path) : [...chosen.open, path] });
      drawTable();
    },
    sorted: (sort, name) => {
      keep({ sort });
      drawTable();
      table.focusHead(name);
    },
  });
  const root = make("div", { className: "ckx ckx-models" }, ...layoutOf(ui, graph.list, table.frame));
  el.append(root);
  el.classList.add("ckx-host");
  const isDark = () => root.dataset.dark === "true";
  const views = { timeline: figureView(ui.shells.timeline, isDark), operators: figureView(ui.shells.operators, isDark) };

  const pickNode = (n) => {
    const inside = data().levels[chosen.level].layers[n];
    const paths = data().modules;
    const name = data().levels[chosen.level].name[n];
    const whole = inside.length > 1 && paths.name.indexOf(name);
    if (inside.length > 1 && whole > 0) select(["module", name], "graph");
    else select(["layer", data().layers.name[inside[0]]], "graph");
  };
  const layersOf = (item) => new Set(!item || item.a < 0 ? [] : item.kind === "layer" ? [item.a] : data().modules.layers[item.a]);
  const go = (layer, name) => {
    const button = make("button", { type: "button", className: "ckx-link" }, name);
    button.addEventListener("click", () => select(["layer", data().layers.name[layer]], "detail"));
    return button;
  };

  // The selection moves over the chart without drawing its bars again; what draws them later takes it from the spec.
  let spec;
  let frame = 0;
  const markTimeline = () => {
    if (!spec) return;
    spec.layout.shapes = marksOf(marked, "#2563EB");
    const plot = ui.shells.timeline.querySelector(".ck-plot");
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => plot.layout && Plotly.relayout(plot, { shapes: isDark() ? ckRecolour(spec.layout.shapes) : spec.layout.shapes }));
  };
  const drawTimeline = () => {
    spec = { ...told.timeline, layout: { ...told.timeline.layout, shapes: marksOf(marked, "#2563EB") } };
    views.timeline.show(spec);
  };
  const mark = () => {
    const item = itemOf(chosen.selected);
    marked = layersOf(item);
    const keys = new Set([...marked].map((layer) => `layer ${data().layers.name[layer]}`));
    graph.mark(marked, true);
    table.mark(item?.key, keys, true);
    drawDetail(ui.detail, { first: data(), second: setup.models[chosen.other], measures: setup.measures, item, go });
    const first = Math.min(...marked);
    if (marked.size) {
      ui.slider.value = String(first);
      ui.slider.setAttribute("aria-valuetext", data().layers.name[first]);
    }
    markTimeline();
  };
  // The modules to open so that what is selected is in sight.
  const opening = (selected) => {
    const open = new Set(chosen.open);
    const name = selected?.[1] ?? "";
    for (let at = name.lastIndexOf("."); at > 0; at = name.lastIndexOf(".", at - 1)) open.add(name.slice(0, at));
    return [...open];
  };
  const select = (selected, from) => {
    const open = from === "table" ? chosen.open : opening(selected);
    const more = chosen.by === "modules" && open.length > chosen.open.length;
    keep(more ? { selected, open } : { selected });
    if (more) drawTable();
    mark();
  };

  const narrow = () => root.clientWidth < 700;
  const drawGraph = () => {
    const level = data().levels[chosen.level];
    const there = new Set(chosen.other ? setup.models[chosen.other].layers.name : []);
    const absent = (layers) => (chosen.other && !layers.some((layer) => there.has(data().layers.name[layer])) ? chosen.other : "");
    graph.show(level, { ...chosen, low: narrow() ? 40 : BOX.low, peak: data().peak, absent });
    const most = level[chosen.measure].reduce((best, value, n) => (value > level[chosen.measure][best] ? n : best), 0);
    ui.legend.replaceChildren(
      make("span", { className: "ckx-ramp", "aria-hidden": "true" }),
      `Height and colour: ${setup.measures[chosen.measure].label}, from 0 to ${level.text[chosen.measure][most]} (by its square root). The dot marks the memory peak${chosen.other ? `, a dashed border what ${chosen.other} has not` : ""}. Arrow keys walk.`,
    );
  };
  const drawTable = () => {
    const second = setup.models[chosen.other];
    const item = itemOf(chosen.selected);
    const { shown } = table.show({
      ...chosen, items, first: data(), second, measures: setup.measures, selected: item?.key,
      marked: new Set([...marked].map((layer) => `layer ${data().layers.name[layer]}`)),
      names: { model: chosen.model, other: chosen.other },
    });
    const all = items.all.filter(({ kind }) => kind === "layer").length;
    ui.count.textContent = chosen.by === "modules" && shown < all && !chosen.text && !chosen.op ? "" : `${shown.toLocaleString("en")} of ${all.toLocaleString("en")} layers`;
    ui.wide.hidden = chosen.by !== "modules";
    ui.wide.textContent = chosen.open.length ? "Close all" : "Open all";
    ui.wide.setAttribute("aria-label", `${ui.wide.textContent.slice(0, -4)} all modules`);
  };
  const setLevel = (level) => {
    keep({ level });
    ui.level.value = String(level);
    drawGraph();
    mark();
  };
  // Everything that follows from the choice of models.
  const drawModels = () => {
    items = unite(data(), setup.models[chosen.other]);
    ui.level.replaceChildren(...data().levels.map(({ label }, n) => option(String(n), label)));
    const ops = [...new Set(items.all.filter(({ kind }) => kind === "layer").map(({ a, b }) => (a < 0 ? setup.models[chosen.other].layers.op[b] : data().layers.op[a])))].sort();
    if (chosen.op && !ops.includes(chosen.op)) keep({ op: "" });
    ui.op.replaceChildren(option("", "all"), ...ops.map((op) => option(op)));
    for (const name of ["model", "other", "measure", "by", "op", "text"]) ui[name].value = chosen[name];
    ui.level.value = String(chosen.level);
    ui.slider.max = String(data().layers.name.length - 1);
    ui.swap.hidden = !chosen.other;
    drawGraph();
    drawTable();
    mark();
  };

  const showAnswer = (answer, more) => {
    for (const [name, place] of Object.entries(ui.errors)) place.textContent = answer.error?.control === name ? answer.error.text : "";
    if (answer.error || more) return;
    told = answer;
    drawTiles(ui.tiles, answer.tiles);
    ui.shells.operators.hidden = !answer.operators;
    if (answer.operators) views.operators.show(answer.operators);
    drawTimeline();
  };
  const talk = conversation(
    model,
    root,
    () => ({ model: chosen.model, other: chosen.other, measure: chosen.measure }),
    (answer, more) => showAnswer(answer, more),
  );
  const take = (changes) => {
    const next = { ...chosen, ...changes };
    if (next.other === next.model) next.other = "";
    const found = setup.models[next.model];
    if (next.model !== chosen.model) {
      next.level = found.start.level;
      const [kind, name] = next.selected ?? [];
      if (!kind || !found[`${kind}s`].name.includes(name)) next.selected = found.start.selected;
    }
    keep(next);
    drawModels();
    talk.ask();
  };
  ui.model.addEventListener("change", () => take({ model: ui.model.value, open: [] }));
  ui.other.addEventListener("change", () => take({ other: ui.other.value }));
  ui.swap.addEventListener("click", () => take({ model: chosen.other, other: chosen.model }));
  ui.measure.addEventListener("change", () => take({ measure: ui.measure.value, sort: null }));
  ui.level.addEventListener("change", () => setLevel(Number(ui.level.value)));
  ui.less.addEventListener("click", () => graph.setZoom(graph.zoom() / 1.25));
  ui.more.addEventListener("click", () => graph.setZoom(graph.zoom() * 1.25));
  ui.fit.addEventListener("click", () => graph.fit());
  const narrowDown = (changes) => {
    keep(changes);
    drawTable();
  };
  ui.by.addEventListener("change", () => {
    narrowDown({ by: ui.by.value, open: opening(chosen.selected) });
    mark();
  });
  ui.op.addEventListener("change", () => narrowDown({ op: ui.op.value }));
  ui.text.addEventListener("input", () => narrowDown({ text: ui.text.value }));
  ui.wide.addEventListener("click", () => narrowDown({ open: chosen.open.length ? [] : data().modules.name.slice(1) }));
  ui.save.addEventListener("click", () => {
    const { names, rows } = table.all();
    ckSave("layers.csv", new Blob([csvOf(rows, names)], { type: "text/csv" }));
  });
  ui.slider.addEventListener("input", () => select(["layer", data().layers.name[Number(ui.slider.value)]], "slider"));

  // chosen in another view of the same widget, or in the kernel
  const askIfOther = () => ["model", "other", "measure"].some((name) => told[name] !== chosen[name]) && talk.ask();
  const changed = () => {
    if (JSON.stringify(model.get("chosen")) === JSON.stringify(chosen)) return;
    chosen = { ...model.get("chosen") };
    drawModels();
    askIfOther();
  };
  model.on("change:chosen", changed);
  const stopTheme = followTheme(root, () => {
    for (const view of Object.values(views)) view.draw();
  });
  let slim = narrow();
  const sized = new ResizeObserver(() => {
    if (narrow() === slim) return;
    slim = narrow();
    drawGraph();
    mark();
  });
  sized.observe(root);
  drawModels();
  showAnswer(told, false);
  askIfOther();
  plotlyFor(model)
    .then((loaded) => {
      Plotly = loaded;
      for (const view of Object.values(views)) view.start();
      ui.shells.timeline.querySelector(".ck-plot").on("plotly_click", ({ points: [point] }) => select(["layer", data().layers.name[point.x]], "chart"));
    })
    .catch((problem) => {
      ui.state.textContent = `The figures cannot be drawn: ${problem.message}`;
    });
  return () => {
    cancelAnimationFrame(frame);
    talk.stop();
    model.off("change:chosen", changed);
    stopTheme();
    sized.disconnect();
    table.stop();
    for (const view of Object.values(views)) view.stop();
  };
}

export default { render };
