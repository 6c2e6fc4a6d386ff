// The page of a DesignExplorer. The kernel checks and computes; this draws, and asks one question at a time.
// figure.js stands before this text and uses the variable Plotly, which is set once the bundle has loaded.

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name === "className" ? "class" : name, value);
  }
  node.append(...children);
  return node;
}

let instances = 0;

// One parameter: a slider over the usual values and a field for any other.
function controlRow(control, id, changed) {
  const { name, label, unit, values, help } = control;
  const range = make("input", { type: "range", id: `${id}-range`, min: "0", max: String(values.length - 1), step: "1", "aria-label": label });
  const field = make("input", { type: "number", id, min: String(values[0]), max: String(values.at(-1)), step: control.whole ? "1" : "any" });
  field.setAttribute("aria-describedby", `${id}-help ${id}-error`);
  const error = make("p", { className: "ckx-error", id: `${id}-error`, role: "alert" });
  const nearest = (value) => values.reduce((best, v, i) => (Math.abs(v - value) < Math.abs(values[best] - value) ? i : best), 0);
  const usual = nearest(control.default) / (values.length - 1);
  const row = make(
    "div",
    { className: "ckx-control", title: help },
    make("label", { for: id }, label),
    make("span", { className: "ckx-entry" }, field, make("span", { className: "ckx-unit" }, unit)),
    make("div", { className: "ckx-slider", style: `--usual: ${usual}` }, range),
    make("span", { className: "ckx-hidden", id: `${id}-help` }, help),
    error,
  );
  const show = (value) => {
    field.value = String(value);
    range.value = String(nearest(value));
    range.setAttribute("aria-valuetext", `${value} ${unit}`);
  };
  range.addEventListener("input", () => {
    show(values[Number(range.value)]);
    changed(name, values[Number(range.value)]);
  });
  field.addEventListener("change", () => {
    const value = field.value.trim() === "" ? field.value : Number(field.value);
    range.value = String(nearest(Number(value)));
    changed(name, value);
  });
  const complain = (text) => {
    error.textContent = text;
    row.classList.toggle("ckx-wrong", Boolean(text));
    field.setAttribute("aria-invalid", String(Boolean(text)));
  };
  return { row, show, complain };
}

function fieldGroup(legend, hint) {
  const words = legend ? [make("legend", {}, legend), make("p", { className: "ckx-hint" }, hint)] : [];
  return make("fieldset", { className: "ckx-fields" }, ...words);
}

function figureShell(minHeight) {
  return make(
    "figure",
    { className: "ck-figure" },
    make("h3", { className: "ck-title" }),
    make("p", { className: "ck-subtitle" }),
    make("div", { className: "ck-plot", role: "img", style: `min-height:${minHeight}px` }),
    make("figcaption", { className: "ck-foot" }, make("p", { className: "ck-caption" }), make("div", { className: "ck-save" })),
  );
}

// A figure that can be shown again and again; nothing is drawn before Plotly is there.
function figureView(shell, isDark) {
  let mounted;
  let latest;
  return {
    show(spec) {
      latest = spec;
      shell.querySelector(".ck-title").textContent = spec.title;
      shell.querySelector(".ck-subtitle").textContent = spec.subtitle;
      shell.querySelector(".ck-caption").textContent = spec.caption;
      shell.querySelector(".ck-plot").setAttribute("aria-label", spec.alt);
      if (mounted) mounted.show(spec);
      else if (Plotly) mounted = ckMount(shell, spec, isDark);
    },
    start() {
      if (latest) this.show(latest);
    },
    draw: () => mounted?.draw(),
    stop: () => mounted?.stop(),
  };
}

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

function darkness(root) {
  const found = getComputedStyle(root).backgroundColor.match(/[\d.]+/g);
  // an element outside of the page has no colour yet
  if (!found) return matchMedia("(prefers-color-scheme: dark)").matches;
  const [r, g, b] = found.map(Number);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 110;
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

function drawTiles(list, tiles) {
  list.replaceChildren(
    ...tiles.map(({ label, value, note, state }) =>
      make("div", {}, make("dt", {}, label), make("dd", { className: state ? `ckx-${state}` : "" }, make("b", {}, value), make("span", {}, note))),
    ),
  );
}

async function plotlyFor(model) {
  const bundle = await model.widget_manager.get_model(model.get("bundle").replace("IPY_MODEL_", ""));
  for (let tries = 0; !globalThis.codesignPlotly && tries < 200; tries += 1) await new Promise((done) => setTimeout(done, 50));
  if (!bundle || !globalThis.codesignPlotly) throw new Error("Plotly did not arrive; reload the page");
  return globalThis.codesignPlotly;
}

function render({ model, el }) {
  const id = `ckx${(instances += 1)}`;
  const setup = model.get("setup");
  const defaults = Object.fromEntries(setup.controls.map((c) => [c.name, c.default]));
  const ui = layoutOf(setup, id);
  const root = make("div", { className: "ckx" }, ui.head, ui.form, ui.figures);
  el.append(root);
  el.classList.add("ckx-host");
  const isDark = () => root.dataset.dark === "true";
  const views = Object.fromEntries(Object.entries(ui.shells).map(([name, shell]) => [name, figureView(shell, isDark)]));

  let wanted = { ...model.get("answer").parameters };
  let seq = model.get("answer").seq ?? 0;
  let waiting = false;
  let again = false;
  let timer;

  const ask = () => {
    ui.reset.disabled = setup.controls.every((c) => wanted[c.name] === defaults[c.name]);
    ui.reset.title = ui.reset.disabled ? "These are the defaults" : "";
    if (waiting) {
      again = true;
      return;
    }
    waiting = true;
    seq += 1;
    // under a tenth of a second nothing moves
    clearTimeout(timer);
    timer = setTimeout(() => root.classList.add("ckx-waiting"), 100);
    model.set("query", { seq, network: ui.select.value, parameters: wanted, details: ui.more.open });
    model.save_changes();
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
  const showAnswer = () => {
    const answer = model.get("answer");
    const mine = answer.seq === seq;
    if (mine) {
      waiting = false;
      // what is drawn now is out of date already if there is another question
      if (!again) {
        clearTimeout(timer);
        root.classList.remove("ckx-waiting");
      }
    }
    if (mine && again) {
      again = false;
      ask();
    } else if (!answer.error) {
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

  const theme = () => {
    const dark = String(darkness(root));
    if (root.dataset.dark === dark) return;
    root.dataset.dark = dark;
    for (const view of Object.values(views)) view.draw();
  };
  const placed = new ResizeObserver(theme);
  placed.observe(root);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const later = () => setTimeout(theme, 200); // the page's own colours change first
  const watch = new MutationObserver(later);
  watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  scheme.addEventListener("change", later);
  model.on("change:answer", showAnswer);

  theme();
  ui.select.value = model.get("answer").network;
  for (const [name, { show }] of Object.entries(rows)) show(wanted[name]);
  ui.reset.disabled = true;
  ui.reset.title = "These are the defaults";
  showAnswer();
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
    watch.disconnect();
    placed.disconnect();
    scheme.removeEventListener("change", later);
    for (const view of Object.values(views)) view.stop();
  };
}

export default { render };
