// The page of a Playground. The kernel checks and computes; this draws, and asks one question at a time.
// page.js and controls.js stand before this text.

// The front with the traces and axes that follow the chosen design put in.
function withMarks(spec, marks) {
  if (!marks) return spec;
  const data = spec.data.map((trace) => marks.data[trace.meta] ?? trace);
  return { ...spec, data, layout: { ...spec.layout, ...mergeAxes(spec.layout, marks.layout) } };
}

function mergeAxes(layout, changes) {
  return Object.fromEntries(
    Object.entries(changes).map(([axis, change]) => {
      const { range, rangemode, ...rest } = layout[axis];
      return [axis, { ...rest, ...change }];
    }),
  );
}

function layoutOf(setup, id) {
  const select = make("select", { id: `${id}-network` }, ...setup.networks.map((name) => make("option", { value: name }, name)));
  const reset = make("button", { type: "button", className: "ckx-button" }, "Back to the defaults");
  const knee = make("button", { type: "button", className: "ckx-button" }, "Take the knee");
  const groups = {
    conditions: fieldGroup("Conditions", "The front is of all designs under these."),
    choices: fieldGroup(setup.conditions.length ? "Design" : "", "These move the chosen design."),
  };
  const other = make("p", { className: "ckx-error", role: "alert" });
  const form = make(
    "form",
    { className: "ckx-controls", "aria-label": "Network and accelerator" },
    make("div", { className: "ckx-network" }, make("label", { for: `${id}-network` }, "Network"), select),
    ...(setup.conditions.length ? [groups.conditions] : []),
    groups.choices,
    other,
    make("div", { className: "ckx-buttons" }, reset, knee),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
  const tiles = make("dl", { className: "ckx-tiles", "aria-live": "polite" });
  const state = make("p", { className: "ckx-state", role: "status" });
  const shells = { front: figureShell(460), roofline: figureShell(440), layers: figureShell(300) };
  const more = make("details", {}, make("summary", {}, "Where the cycles and the energy go"), shells.layers);
  const head = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), state, tiles);
  const figures = make("div", { className: "ckx-figures" }, shells.front, shells.roofline, more);
  return { select, reset, knee, groups, other, form, tiles, state, shells, more, head, figures };
}

function render({ model, el }) {
  const id = viewId();
  const setup = model.get("setup");
  const defaults = Object.fromEntries(setup.controls.map((c) => [c.name, c.default]));
  const ui = layoutOf(setup, id);
  const root = make("div", { className: "ckx ckx-split ckx-playground" }, ui.head, ui.form, ui.figures);
  el.append(root);
  el.classList.add("ckx-host");
  const isDark = () => root.dataset.dark === "true";
  const views = Object.fromEntries(Object.entries(ui.shells).map(([name, shell]) => [name, figureView(shell, isDark)]));

  let wanted = { ...model.get("answer").parameters };
  const talk = conversation(
    model,
    root,
    () => ({ network: ui.select.value, parameters: wanted, details: ui.more.open }),
    (answer, more) => showAnswer(answer, more),
  );
  const ask = () => {
    ui.reset.disabled = setup.controls.every((c) => wanted[c.name] === defaults[c.name]);
    ui.reset.title = ui.reset.disabled ? "These are the defaults" : "";
    talk.ask();
  };
  const rows = Object.fromEntries(
    setup.controls.map((control) => [
      control.name,
      controlRow(control, `${id}-${control.name}`, (name, value) => {
        wanted = { ...wanted, [name]: value };
        ask();
      }),
    ]),
  );
  for (const [name, { row }] of Object.entries(rows)) ui.groups[setup.conditions.includes(name) ? "conditions" : "choices"].append(row);
  const take = (parameters) => {
    wanted = { ...wanted, ...parameters };
    for (const [name, { show }] of Object.entries(rows)) show(wanted[name]);
    ask();
  };
  ui.select.addEventListener("change", ask);
  ui.reset.addEventListener("click", () => take(defaults));
  ui.knee.addEventListener("click", () => take(model.get("front_figure").knee ?? {}));

  const showFront = () => {
    const front = model.get("front_figure");
    ui.knee.disabled = !front.knee;
    views.front.show(withMarks(front.spec, model.get("answer").marks));
  };
  const showError = (error) => {
    for (const [name, row] of Object.entries(rows)) row.complain(error?.control === name ? error.text : "");
    ui.other.textContent = error && !(error.control in rows) ? error.text : "";
    root.classList.toggle("ckx-stale", Boolean(error));
    ui.state.textContent = error ? "Not possible: see the message at the controls. Shown is the last design that works." : (model.get("answer").note ?? "");
    ui.state.classList.toggle("ckx-bad", Boolean(error));
  };
  const showAnswer = (answer, more) => {
    if (!more && !answer.error) {
      wanted = { ...answer.parameters };
      ui.select.value = answer.network;
      for (const [name, { show }] of Object.entries(rows)) show(wanted[name]);
    }
    showError(answer.error);
    if (answer.error) return;
    drawTiles(ui.tiles, answer.tiles);
    showFront();
    views.roofline.show(answer.roofline);
    if (ui.more.open && answer.layers) views.layers.show(answer.layers);
  };
  // the layers are computed while they are looked at
  ui.more.addEventListener("toggle", () => ui.more.open && ask());

  const stopTheme = followTheme(root, () => {
    for (const view of Object.values(views)) view.draw();
  });
  ui.select.value = model.get("answer").network;
  for (const [name, { show }] of Object.entries(rows)) show(wanted[name]);
  ui.reset.disabled = true;
  ui.reset.title = "These are the defaults";
  showAnswer(model.get("answer"), false);
  plotlyFor(model)
    .then((loaded) => {
      Plotly = loaded;
      for (const view of Object.values(views)) view.start();
      const plot = ui.shells.front.querySelector(".ck-plot");
      plot.on("plotly_click", ({ points: [point] }) => {
        const columns = Object.entries(model.get("front_figure").picks[point.data.name] ?? {});
        if (columns.length) take(Object.fromEntries(columns.map(([name, values]) => [name, values[point.pointNumber]])));
      });
    })
    .catch((problem) => {
      ui.state.textContent = `The figures cannot be drawn: ${problem.message}`;
    });
  return () => {
    talk.stop();
    stopTheme();
    for (const view of Object.values(views)) view.stop();
  };
}

export default { render };
