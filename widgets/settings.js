// The page of Settings: choices, what they come to at once, and a button for what takes longer. page.js and controls.js
// stand before this text.

function oneOf(field, id, changed) {
  const select = make("select", { id, "aria-describedby": `${id}-help ${id}-error` }, ...field.options.map(([value, word]) => make("option", { value }, word)));
  const error = make("p", { className: "ckx-error", id: `${id}-error`, role: "alert" });
  const help = make("span", { className: "ckx-hidden", id: `${id}-help` }, field.help);
  const row = make("div", { className: "ckx-network", title: field.help }, make("label", { for: id }, field.label), select, help, error);
  select.addEventListener("change", () => changed(field.name, select.value));
  return { row, show: (value) => (select.value = value), complain: (text) => (error.textContent = text) };
}

function someOf(field, id, changed) {
  const boxes = field.options.map(([value, word]) => {
    const box = make("input", { type: "checkbox", value, id: `${id}-${value}` });
    box.addEventListener("change", () => changed(field.name, boxes.filter(({ box: one }) => one.checked).map(({ value: name }) => name)));
    return { value, box, label: make("label", { className: "ckx-some", for: box.id }, box, make("span", {}, word)) };
  });
  const error = make("p", { className: "ckx-error", role: "alert" });
  const row = make("fieldset", { className: "ckx-fields ckx-several", title: field.help }, make("legend", {}, field.label), ...boxes.map(({ label }) => label), error);
  const show = (values) => boxes.forEach(({ box, value }) => (box.checked = values.includes(value)));
  return { row, show, complain: (text) => (error.textContent = text) };
}

// A file that the kernel sent, handed to the reader: its bytes become a link that is followed at once.
function saveParcel(model) {
  const content = model.get("parcel_bytes");
  const link = make("a", { href: URL.createObjectURL(new Blob([content], { type: "application/zip" })), download: model.get("parcel").name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function settingsLayout(setup, id, changed) {
  const kinds = { number: controlRow, one: oneOf, some: someOf };
  const rows = Object.fromEntries(setup.fields.map((field) => [field.name, kinds[field.kind](field, `${id}-${field.name}`, changed)]));
  const run = make("button", { type: "submit", className: "ckx-button ckx-main", hidden: !setup.label }, setup.label || "-");
  const back = make("button", { type: "button", className: "ckx-button" }, "Back to the defaults");
  const save = make("button", { type: "button", className: "ckx-button", hidden: !setup.archive }, "Download as zip");
  const error = make("p", { className: "ckx-error", role: "alert" });
  const state = make("p", { className: "ckx-state", role: "status" });
  const bar = make("progress", { "aria-label": setup.label || "Working", hidden: true });
  const tiles = make("dl", { className: "ckx-tiles" });
  const fields = make("div", { className: "ckx-choices" }, ...Object.values(rows).map(({ row }) => row));
  const form = make("form", { className: "ckx-form", "aria-label": "Settings" }, fields, make("div", { className: "ckx-buttons" }, run, save, back), error);
  const head = make("div", { className: "ckx-outcome" }, make("div", { className: "ckx-bar" }), tiles, bar, state);
  form.noValidate = true; // the kernel says what is wrong, in words
  return { rows, run, back, save, error, state, bar, tiles, form, head };
}

function render({ model, el }) {
  const id = viewId();
  const setup = model.get("setup");
  const values = structuredClone(model.get("answer").values);
  let deed = "look";
  const changed = (name, value) => {
    values[name] = value;
    talk.ask();
  };
  const ui = settingsLayout(setup, id, changed);
  const root = make("div", { className: "ckx ckx-settings" }, ui.form, ui.head);
  el.append(root);
  el.classList.add("ckx-host");
  const places = { ...Object.fromEntries(Object.entries(ui.rows).map(([name, { complain }]) => [name, complain])), "": (text) => (ui.error.textContent = text) };
  const show = (answer) => {
    const running = answer.state === "running";
    for (const [name, complain] of Object.entries(places)) complain(answer.error && answer.error.control === name ? answer.error.text : "");
    root.classList.toggle("ckx-stale", Boolean(answer.error) && answer.error.control !== "");
    drawTiles(ui.tiles, answer.tiles);
    ui.bar.hidden = !running;
    ui.run.setAttribute("aria-disabled", String(running));
    ui.run.title = running ? "It is at work" : "";
    const made = answer.state === "done";
    ui.save.setAttribute("aria-disabled", String(!made));
    ui.save.title = made ? "" : "Nothing is made yet";
    const words = running ? `${answer.doing || "Getting ready"} …` : made && answer.stale ? `Not made yet: what is below is of the settings before. Press ${setup.label}.` : "";
    ui.state.textContent = answer.failure || words;
    ui.state.classList.toggle("ckx-bad", Boolean(answer.failure));
  };
  const talk = conversation(
    model,
    ui.head,
    () => {
      const asked = { do: deed, values: structuredClone(values) };
      deed = "look";
      return asked;
    },
    (answer) => show(answer),
  );
  const ask = (button, what) => {
    if (button.getAttribute("aria-disabled") === "true") return;
    deed = what;
    talk.ask();
  };
  ui.form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(ui.run, "run");
  });
  ui.save.addEventListener("click", () => ask(ui.save, "fetch"));
  ui.back.addEventListener("click", () => {
    for (const field of setup.fields) {
      values[field.name] = structuredClone(field.default);
      ui.rows[field.name].show(field.default);
    }
    talk.ask();
  });
  let saved = model.get("parcel").count;
  const fetched = () => {
    const { count } = model.get("parcel");
    if (count !== saved && document.contains(root)) saveParcel(model);
    saved = count;
  };
  model.on("change:parcel", fetched);
  for (const field of setup.fields) ui.rows[field.name].show(values[field.name]);
  const stopTheme = followTheme(root, () => {});
  show(model.get("answer"));
  return () => {
    talk.stop();
    model.off("change:parcel", fetched);
    stopTheme();
  };
}

export default { render };
