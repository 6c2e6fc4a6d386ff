// The page of a Roofline. Roofs are drawn from the sliders at once; the kernel's answer brings the layers.
// page.js, drawing.js, controls.js and roofs.js stand before this text.

// The finding in numbers that move with the sliders.
function roofTiles(view, answer) {
  const { peak, roofs } = view.roofs;
  const counts = { compute: 0, external: 0, inside: 0 };
  for (const layer of view.layers) counts[layer.kind] += 1;
  return [
    { label: "Peak", value: quantity(peak, "MAC/s"), note: `${view.p.rows} × ${view.p.cols} PEs` },
    { label: "External", value: quantity(roofs[0].bandwidth, "B/s"), note: "that the array can use" },
    { label: "Ridge", value: `${threeDigits(peak / roofs[0].bandwidth)} MAC/B`, note: "above it external memory keeps up" },
    { label: "Under the flat roof", value: `${counts.compute} of ${view.layers.length}`, note: `${counts.external} under external memory's slope, ${counts.inside} under an on-chip one` },
    { label: "Latency", value: answer.latency, note: answer.cycles, state: "kernel" },
  ];
}

function roofLayout(setup, id) {
  const chooser = (name, label, options) => {
    const select = make("select", { id: `${id}-${name}` }, ...options.map((option) => make("option", { value: option }, option)));
    return { select, row: make("div", { className: "ckx-network" }, make("label", { for: `${id}-${name}` }, label), select) };
  };
  const network = chooser("network", "Network", setup.networks);
  const machine = chooser("machine", "Accelerator", Object.keys(setup.machines));
  const about = make("p", { className: "ckx-hint" });
  const fields = fieldGroup("What if", "The roof follows at once; the layers follow when they are evaluated.");
  const reset = make("button", { type: "button", className: "ckx-button" }, "As described");
  const other = make("p", { className: "ckx-error", role: "alert" });
  const form = make("form", { className: "ckx-controls", "aria-label": "Network and accelerator" }, network.row, machine.row, about, fields, other, make("div", { className: "ckx-buttons" }, reset));
  form.addEventListener("submit", (event) => event.preventDefault());
  const tiles = make("dl", { className: "ckx-tiles" });
  const state = make("p", { className: "ckx-state", role: "status" });
  const head = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), state, tiles);
  const title = make("h3", { className: "ck-title", "aria-live": "polite" });
  const plot = make("div", { className: "ckx-plot" });
  const caption = make("p", { className: "ck-caption" });
  const save = make("div", { className: "ck-save" });
  const readout = make("p", { className: "ckx-readout" });
  const memories = make("ul", { className: "ckx-memories" });
  const figure = make(
    "figure",
    { className: "ck-figure" },
    title,
    make("p", { className: "ck-subtitle" }, "What each layer attains, under the roofs of the array and of each memory; size: its share of the time."),
    plot,
    readout,
  );
  const table = plainTable("Layers, in the order of the network", ["Layer", "MAC", "Rate", "Of its roof", "MAC/B external", "Limit", "Of the time"]);
  const details = make("details", {}, make("summary", {}, "The layers as a table"), table.frame);
  const rest = make("div", { className: "ckx-rest" }, memories, legendOf(), make("div", { className: "ck-foot" }, caption, save), details);
  return { network: network.select, machine: machine.select, about, fields, reset, other, form, tiles, state, head, title, plot, caption, save, readout, memories, figure, table, details, rest };
}

function legendOf() {
  const entry = (kind, words) => make("span", { className: "ckx-key" }, svgNode("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, svgNode("g", { class: "ckx-point", "data-kind": kind }, svgNode("path", { d: SHAPES[kind], transform: "scale(6)" }))), words);
  return make("p", { className: "ckx-legend" }, entry("compute", "the array is the limit"), entry("external", "external memory is"), entry("inside", "an on-chip memory is"));
}

function render({ model, el }) {
  const id = viewId();
  const setup = model.get("setup");
  const ui = roofLayout(setup, id);
  const root = make("div", { className: "ckx ckx-split ckx-roofline" }, ui.head, ui.form, ui.figure, ui.rest);
  el.append(root);
  el.classList.add("ckx-host");
  const external = setup.external;
  let wanted = { ...model.get("answer").parameters };
  let hovered = "";
  let rows = {};
  let view;
  const usualOf = (machine) => Object.fromEntries(setup.machines[machine].controls.map((c) => [c.name, c.default]));

  const look = () => {
    const answer = model.get("answer");
    const usual = usualOf(ui.machine.value);
    const terms = setup.machines[ui.machine.value].terms;
    const roofs = roofsOf(terms, external, wanted);
    const layers = (answer.layers ?? []).map((layer) => ({ ...layer, intensities: Object.fromEntries(roofs.roofs.map(({ level }) => [level, layer.intensities[level] ?? null])) }));
    for (const layer of layers) {
      Object.assign(layer, underRoofs(roofs, layer, setup.near));
      layer.kind = kindOf(layer.limit, external);
    }
    const known = layers.some(({ name }) => name === model.get("selected"));
    const selected = known ? model.get("selected") : "";
    const moved = Object.keys(usual).some((name) => usual[name] !== wanted[name]);
    view = { roofs, layers, p: wanted, usual: roofsOf(terms, external, usual), external: external.level, moved, selected, looked: hovered || selected };
    return view;
  };
  const readout = () => {
    const layer = view.layers.find(({ name }) => name === view.looked);
    const words = layer && layerWords(layer, view);
    ui.readout.replaceChildren(...(words ? [make("b", {}, words.name), `: ${words.sentence}.`] : ["Point at a layer, or walk through them with the arrow keys."]));
    ui.memories.replaceChildren(...(words?.memories ?? []).map((line) => make("li", {}, line)));
  };
  const tableRows = () => view.layers.map((layer) => [
    layer.name, quantity(layer.macs, "MAC"), quantity(layer.attained, "MAC/s"), percent(layer.attained / layer.allowed),
    layer.intensities[view.external] === null ? "none moves" : threeDigits(layer.intensities[view.external]),
    view.roofs.roofs.find(({ level }) => level === layer.limit)?.label ?? "array", percent(layer.share),
  ]);
  const picture = roofPicture((name) => {
    if (name !== model.get("selected")) {
      model.set("selected", name);
      model.save_changes();
    }
    draw();
  });
  ui.plot.append(picture.svg);
  let width = 0;
  let tiled = "";
  let rest;
  const settle = () => {
    picture.label(view);
    if (ui.details.open) ui.table.show(tableRows());
  };
  const draw = (later = false) => {
    look();
    if (!width || !view.layers.length) return;
    picture.draw(view, width);
    const tiles = roofTiles(view, model.get("answer"));
    if (JSON.stringify(tiles) !== tiled) drawTiles(ui.tiles, tiles);
    tiled = JSON.stringify(tiles);
    readout();
    clearTimeout(rest);
    if (later) rest = setTimeout(settle, 150);
    else settle();
  };
  const data = () => [
    ["layer", "MAC", "MAC/s", "limit", "share of time", ...view.roofs.roofs.map(({ label }) => `MAC per byte of ${label}`)],
    ...view.layers.map((layer) => [layer.name, layer.macs, layer.attained, layer.limit, layer.share, ...view.roofs.roofs.map(({ level }) => layer.intensities[level] ?? "")]),
  ];
  ui.save.append(...saveButtons(picture.svg, "roofline", () => ui.title.textContent, data));

  const talk = conversation(model, root, () => ({ network: ui.network.value, machine: ui.machine.value, parameters: wanted }), (answer, more) => showAnswer(answer, more));
  const moved = () => {
    ui.reset.disabled = !view.moved;
    ui.reset.title = view.moved ? "" : "This is the accelerator as described";
    talk.ask();
  };
  const showRows = (machine) => {
    ui.about.textContent = setup.machines[machine].about;
    rows = Object.fromEntries(
      setup.machines[machine].controls.map((control) => [
        control.name,
        controlRow(control, `${id}-${control.name}`, (name, value) => {
          wanted = { ...wanted, [name]: value };
          if (Number(value) > 0) draw(true);
          moved();
        }),
      ]),
    );
    ui.fields.replaceChildren(...[...ui.fields.children].filter((child) => !child.matches(".ckx-control")), ...Object.values(rows).map(({ row }) => row));
  };
  const fill = () => {
    for (const [name, { show }] of Object.entries(rows)) show(wanted[name]);
  };
  const take = (machine, parameters) => {
    ui.machine.value = machine;
    wanted = { ...parameters };
    fill();
    draw();
    moved();
  };
  ui.network.addEventListener("change", () => talk.ask());
  ui.machine.addEventListener("change", () => {
    showRows(ui.machine.value);
    take(ui.machine.value, usualOf(ui.machine.value));
  });
  ui.reset.addEventListener("click", () => take(ui.machine.value, usualOf(ui.machine.value)));

  const showAnswer = (answer, more) => {
    const error = answer.error;
    for (const [name, row] of Object.entries(rows)) row.complain(error?.control === name ? error.text : "");
    ui.other.textContent = error && !(error.control in rows) ? error.text : "";
    root.classList.toggle("ckx-stale", Boolean(error));
    ui.state.textContent = error ? "Not possible: see the message at the controls. The layers are those of the last accelerator that works." : "";
    ui.state.classList.toggle("ckx-bad", Boolean(error));
    if (!more && !error) {
      wanted = { ...answer.parameters };
      ui.network.value = answer.network;
      if (ui.machine.value !== answer.machine) {
        ui.machine.value = answer.machine;
        showRows(answer.machine);
      }
      fill();
    }
    if (!error) {
      ui.title.textContent = answer.finding;
      ui.caption.textContent = `A layer under an on-chip slope uses each word of that memory too little to fill the array, which takes one word a cycle; a faster memory helps only an array that takes more. A slope within 5 % of the flat roof is not told as a limit. ${answer.left_out}`;
    }
    draw(more);
    if (view) {
      ui.reset.disabled = !view.moved;
      ui.reset.title = view.moved ? "" : "This is the accelerator as described";
    }
  };
  const hover = (name) => {
    if (name === hovered) return;
    hovered = name;
    draw();
  };
  picture.svg.addEventListener("pointermove", (event) => hover(picture.nameAt(picture.nearest(event))));
  picture.svg.addEventListener("pointerleave", () => hover(""));
  picture.svg.addEventListener("click", (event) => {
    const name = picture.nameAt(picture.nearest(event));
    if (name !== model.get("selected")) {
      model.set("selected", name);
      model.save_changes();
    }
    draw();
  });
  ui.details.addEventListener("toggle", () => draw());
  const stopTheme = followTheme(root, () => draw());
  const resized = new ResizeObserver(() => {
    const now = Math.floor(ui.plot.clientWidth);
    if (now === width) return;
    width = now;
    draw();
  });
  resized.observe(ui.plot);
  const reselected = () => draw();
  model.on("change:selected", reselected);

  ui.network.value = model.get("answer").network;
  ui.machine.value = model.get("answer").machine;
  showRows(ui.machine.value);
  fill();
  showAnswer(model.get("answer"), false);
  return () => {
    talk.stop();
    stopTheme();
    resized.disconnect();
    clearTimeout(rest);
    model.off("change:selected", reselected);
  };
}

export default { render: renewed(render) };
