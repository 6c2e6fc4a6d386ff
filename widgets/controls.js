// Parameters to move: what Control of controls.py describes, as pages show it. page.js stands before this text.

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
  const typed = typing(field);
  const show = (value) => {
    if (!typed()) field.value = String(value);
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
