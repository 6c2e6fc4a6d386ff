// The page of a CosimPanel: choose, run, watch, cancel, read. page.js stands before this text.

const PAGE = 100; // instructions shown at a time

function choices(setup, id) {
  const radios = {};
  const rows = Object.entries(setup.choices).map(([name, missing]) => {
    const radio = make("input", { type: "radio", name: `${id}-simulator`, value: name, disabled: Boolean(missing), id: `${id}-${name}` });
    radios[name] = radio;
    const why = missing ? [make("span", { className: "ckx-why", id: `${id}-${name}-why` }, missing)] : [];
    if (missing) radio.setAttribute("aria-describedby", `${id}-${name}-why`);
    return make("label", { className: missing ? "ckx-choice ckx-off" : "ckx-choice" }, radio, make("span", {}, name, ...why));
  });
  return { group: make("fieldset", { className: "ckx-fields" }, make("legend", {}, "Simulator"), ...rows), radios };
}

function definitions(rows) {
  return make("dl", { className: "ckx-terms" }, ...rows.flatMap(({ term, value }) => [make("dt", {}, term), make("dd", {}, value)]));
}

// A table that can be read on a phone: each cell knows its column.
function plainTable(caption, heads, rows, marked = () => "") {
  const cells = (row) => row.map((value, at) => make("td", { "data-label": heads[at] }, String(value)));
  const body = make("tbody", {}, ...rows.map((row) => make("tr", { className: marked(row) }, ...cells(row))));
  const head = make("thead", {}, make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name))));
  return make("table", { className: "ckx-rows" }, make("caption", {}, caption), head, body);
}

function mismatchView(mismatch) {
  const bits = plainTable("The same value, bit by bit, the highest first", ["", "Value", "Two's complement"], mismatch.values.map((v) => [v.name, v.value, v.bits]));
  bits.classList.add("ckx-bits");
  return make("section", { className: "ckx-found" }, make("h4", {}, "The first value that differs"), make("p", {}, mismatch.words), definitions(mismatch.rows), bits);
}

// Cycles by layer, and each instruction behind a fold, a page at a time.
function instructionsView(result) {
  const number = (value) => value.toLocaleString("en-US");
  const heads = ["Layer", "Instructions", "Predicted", "RTL", "Differ"];
  const layers = plainTable("Cycles of one run, by layer", heads, result.layers.map(({ name, row }) => [name, ...row.map(number)]), (row) => (row[4] === "0" ? "" : "ckx-differs"));
  const holder = make("div", { className: "ckx-scroll", role: "region", "aria-label": "Instructions" });
  holder.tabIndex = 0;
  const back = make("button", { type: "button", className: "ckx-button" }, "Before");
  const on = make("button", { type: "button", className: "ckx-button" }, "Next");
  const where = make("span", { role: "status" });
  const left = result.instructions - result.lines.length;
  let from = 0;
  const show = () => {
    const some = result.lines.slice(from, from + PAGE);
    const rows = some.map(([address, layer, text, begin, expected, got]) => [address, layer, text, number(begin), expected, got === expected ? `${got} ✓` : `${got} ✗`]);
    const named = ["Address", "Layer", "Instruction", "From cycle", "Predicted", "RTL"];
    holder.replaceChildren(plainTable("Each instruction", named, rows, (row) => (row[5].endsWith("✗") ? "ckx-differs" : "")));
    where.textContent = `${from + 1} to ${from + some.length} of ${number(result.lines.length)}${left > 0 ? `; ${number(left)} that are as predicted are left out` : ""}`;
    back.disabled = from === 0;
    on.disabled = from + PAGE >= result.lines.length;
  };
  const turn = (by) => {
    from = Math.max(0, from + by);
    show();
    holder.scrollTop = 0;
  };
  back.addEventListener("click", () => turn(-PAGE));
  on.addEventListener("click", () => turn(PAGE));
  if (result.lines.length) show();
  const fold = make("details", {}, make("summary", {}, "Each instruction, predicted and on the RTL"), make("div", { className: "ckx-buttons" }, back, on, where), holder);
  return [layers, fold];
}

function panelLayout(setup, id) {
  const { group, radios } = choices(setup, id);
  const vectors = make("input", { type: "number", id: `${id}-vectors`, min: "1", max: String(setup.most), step: "1", "aria-describedby": `${id}-most ${id}-vectors-error` });
  const run = make("button", { type: "submit", className: "ckx-button ckx-main" }, "Run");
  const cancel = make("button", { type: "button", className: "ckx-button" }, "Cancel");
  const errors = {
    simulator: make("p", { className: "ckx-error", role: "alert" }),
    vectors: make("p", { className: "ckx-error", role: "alert", id: `${id}-vectors-error` }),
    "": make("p", { className: "ckx-error", role: "alert" }),
  };
  const inputs = make("div", { className: "ckx-vectors" }, make("label", { for: `${id}-vectors` }, "Inputs"), vectors, make("span", { className: "ckx-hint", id: `${id}-most` }, `of ${setup.most.toLocaleString("en-US")}`), errors.vectors);
  const form = make("form", { className: "ckx-cosim-form", "aria-label": "Co-simulation" }, group, errors.simulator, inputs, make("div", { className: "ckx-buttons" }, run, cancel), errors[""]);
  const bar = make("progress", { "aria-label": "Co-simulation" });
  const doing = make("p", { className: "ckx-doing" });
  const state = make("p", { className: "ckx-state", role: "status" });
  const verdict = make("h3", { className: "ckx-verdict" });
  const tiles = make("dl", { className: "ckx-tiles" });
  const found = make("div", {});
  const shells = { cosim: figureShell(330), causes: figureShell(300) };
  const detail = make("div", {});
  const result = make("div", { className: "ckx-result" }, verdict, tiles, found, shells.cosim, shells.causes, detail);
  const under = make("div", { className: "ckx-under" }, bar, doing);
  const main = make("div", { className: "ckx-cosim-main" }, under, state, result);
  return { radios, vectors, run, cancel, errors, form, bar, doing, state, verdict, tiles, found, shells, detail, result, under, main };
}

function showResult(ui, views, result) {
  ui.verdict.textContent = `${result.passed ? "✓" : "✗"} ${result.verdict}`;
  ui.verdict.classList.toggle("ckx-passed", result.passed);
  drawTiles(ui.tiles, result.tiles);
  const parts = result.mismatch ? [mismatchView(result.mismatch)] : [];
  if (result.slip) parts.push(make("section", { className: "ckx-found" }, make("h4", {}, "The first instruction that took another time"), definitions(result.slip)));
  ui.found.replaceChildren(...parts);
  for (const [name, view] of Object.entries(views)) view.show(result[name]);
  ui.detail.replaceChildren(...instructionsView(result));
}

// A bar of what is done, and a clock that runs while the kernel says nothing.
function progressView(ui) {
  let began;
  let clock;
  let told = {};
  const tick = () => {
    const seconds = Math.floor((performance.now() - began) / 1000);
    ui.doing.textContent = `${told.total > 1 && told.done ? `${told.done} of ${told.total} ` : ""}${told.what ?? "getting ready"}, ${seconds} s`;
  };
  return {
    show(now, busy) {
      told = now;
      ui.under.hidden = !busy;
      if (busy && clock === undefined) {
        began = performance.now();
        clock = setInterval(tick, 500);
      }
      if (!busy) {
        clearInterval(clock);
        clock = undefined;
        return;
      }
      if (now.done) {
        ui.bar.max = now.total;
        ui.bar.value = now.done;
      } else ui.bar.removeAttribute("value");
      tick();
    },
    stop: () => clearInterval(clock),
  };
}

const TOLD = { idle: "Nothing has run so far.", running: "Running.", stopping: "Stopping the simulator.", done: "Done." };

function render({ model, el }) {
  const id = viewId();
  const ui = panelLayout(model.get("setup"), id);
  const root = make("div", { className: "ckx ckx-cosim" }, ui.form, ui.main);
  el.append(root);
  el.classList.add("ckx-host");
  const isDark = () => root.dataset.dark === "true";
  const views = Object.fromEntries(Object.entries(ui.shells).map(([name, shell]) => [name, figureView(shell, isDark)]));
  const bar = progressView(ui);
  let deed = "look";
  let shown;
  const question = () => {
    const checked = Object.values(ui.radios).find((radio) => radio.checked);
    return { do: deed, simulator: checked ? checked.value : "", vectors: Number(ui.vectors.value) };
  };
  const busy = () => ["running", "stopping"].includes(model.get("answer").state);
  const showProgress = () => bar.show(model.get("progress"), busy());
  const show = (answer) => {
    for (const [name, place] of Object.entries(ui.errors)) place.textContent = answer.error && answer.error.control === name ? answer.error.text : "";
    ui.run.disabled = busy();
    ui.run.title = busy() ? "One co-simulation runs at a time" : "";
    ui.cancel.disabled = answer.state !== "running";
    ui.cancel.title = ui.cancel.disabled ? "Nothing runs" : "";
    ui.state.textContent = answer.told || (answer.state === "idle" && answer.result ? "From before; run it again at any time." : TOLD[answer.state]) || "";
    ui.state.classList.toggle("ckx-bad", answer.state === "failed");
    ui.result.hidden = !answer.result;
    const now = JSON.stringify(answer.result);
    if (answer.result && now !== shown) showResult(ui, views, answer.result);
    shown = now;
    showProgress();
  };
  const talk = conversation(model, root, question, (answer) => show(answer));
  const ask = (what) => {
    deed = what;
    talk.ask();
  };
  ui.form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask("run");
  });
  // JupyterLab keeps Enter from submitting a form
  ui.vectors.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (!busy()) ask("run");
  });
  ui.form.noValidate = true; // the kernel says what is wrong, in words
  ui.cancel.addEventListener("click", () => ask("cancel"));
  model.on("change:progress", showProgress);
  const { chosen } = model.get("answer");
  ui.radios[chosen.simulator].checked = true;
  ui.vectors.value = String(chosen.vectors);
  const stopTheme = followTheme(root, () => Object.values(views).forEach((view) => view.draw()));
  show(model.get("answer"));
  plotlyFor(model)
    .then((loaded) => {
      Plotly = loaded;
      Object.values(views).forEach((view) => view.start());
    })
    .catch((problem) => {
      ui.state.textContent = `The figures cannot be drawn: ${problem.message}`;
    });
  return () => {
    talk.stop();
    bar.stop();
    model.off("change:progress", showProgress);
    stopTheme();
    Object.values(views).forEach((view) => view.stop());
  };
}

export default { render };
