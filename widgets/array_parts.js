// The controls of an ArrayAnimator, the boxes of its arrays, and what it saves. array_words.js stands before this text.

const ICONS = {
  first: "M4 3h2v10H4zM14 3v10L7 8z",
  back: "M11 3v10L4 8z",
  play: "M4 2.5v11L13.5 8z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  next: "M5 3v10l7-5z",
  last: "M10 3h2v10h-2zM2 3v10l7-5z",
};
const KEYS = "Space plays and pauses, ← and → step, Home and End jump. On the array the arrow keys choose a PE; comma and full stop step.";
const SHADES = ["ground", "panel", "line", "text", "muted", "accent"];
const SIZE_GROUPS = [
  ["A is M × K", ["m", "k"]],
  ["B is K × N", ["n"]],
  ["Array", ["rows", "cols"]],
  ["Numbers", ["seed"]],
];
const SIZE_NAMES = { m: "M", k: "K", n: "N", rows: "Rows", cols: "Cols", seed: "Seed" };

function iconButton(icon, label) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  const button = make("button", { type: "button", className: "ckx-button ckx-icon" }, svg);
  const set = (name, words) => {
    path.setAttribute("d", ICONS[name]);
    button.setAttribute("aria-label", words);
    button.title = words;
  };
  set(icon, label);
  return { button, set };
}

// One array: its heading, canvas, and a grid of buttons over it, of which the chosen one takes the focus.
function arrayBox(label, words, colours, choose) {
  const canvas = make("canvas", { className: "ckx-canvas", "aria-hidden": "true" });
  const grid = make("div", { className: "ckx-pes", role: "grid", "aria-label": `${words}: processing elements` });
  const title = make("h4", { className: "ckx-array-title" }, words);
  const note = make("span", { className: "ckx-array-note" });
  const box = make("section", { className: "ckx-array", "aria-label": words }, make("div", { className: "ckx-array-head" }, title, note), make("div", { className: "ckx-board" }, canvas, grid));
  const picture = stage(canvas, colours);
  let buttons = [];
  let laid = "";
  const key = make("i", { className: "ckx-key" });
  title.prepend(key);
  const fit = (trace, deep) => {
    const width = box.clientWidth;
    if (!width) return;
    key.className = `ckx-key ckx-key-square ckx-key-${trace.roles.stays}`;
    const { pitch, x0, y0 } = picture.fit(trace, width, deep);
    grid.style.cssText = `left:${x0}px;top:${y0}px;width:${trace.cols * pitch}px;grid-template-columns:repeat(${trace.cols},${pitch}px);grid-auto-rows:${pitch}px`;
    if (laid === `${trace.rows},${trace.cols}`) return;
    laid = `${trace.rows},${trace.cols}`;
    buttons = Array.from({ length: trace.rows }, (_, r) =>
      Array.from({ length: trace.cols }, (_, c) => {
        const button = make("button", { type: "button", role: "gridcell", className: "ckx-pe", "aria-label": `PE in row ${r}, column ${c}`, tabIndex: -1 });
        button.addEventListener("click", () => choose(label, [r, c]));
        button.addEventListener("focus", () => choose(label, [r, c]));
        return button;
      }),
    );
    grid.replaceChildren(...buttons.map((row) => make("div", { role: "row", className: "ckx-pe-row" }, ...row)));
    mark(null);
  };
  const mark = (pe) => {
    const [row, col] = pe ?? [0, 0];
    buttons.forEach((line, r) =>
      line.forEach((button, c) => {
        button.tabIndex = r === row && c === col ? 0 : -1;
        button.setAttribute("aria-selected", String(Boolean(pe) && r === row && c === col));
      }),
    );
  };
  const focus = ([r, c]) => buttons[r]?.[c]?.focus();
  return { box, canvas, grid, picture, title, note, fit, mark, focus };
}

function sizeFields(setup, id) {
  const fields = {};
  const groups = SIZE_GROUPS.map(([legend, names]) =>
    make(
      "fieldset",
      { className: "ckx-sizes" },
      make("legend", {}, legend),
      ...names.map((name) => {
        const { label, most } = setup.sizes[name];
        const input = make("input", { type: "number", id: `${id}-${name}`, min: name === "seed" ? "0" : "1", max: String(most), step: "1", title: `${label}, at most ${most}` });
        input.setAttribute("aria-describedby", `${id}-error`);
        fields[name] = input;
        return make("span", { className: "ckx-size" }, make("label", { for: `${id}-${name}` }, SIZE_NAMES[name]), input);
      }),
    ),
  );
  return { fields, groups };
}

// Two texts, a row of numbers a line, folded away until they are wanted.
function ownMatrices(id) {
  const area = (name, words) => make("textarea", { id: `${id}-own-${name}`, rows: 6, spellcheck: false, "aria-label": words, "aria-describedby": `${id}-error` });
  const a = area("a", "Matrix A, a row of numbers in each line");
  const b = area("b", "Matrix B, a row of numbers in each line");
  const use = make("button", { type: "button", className: "ckx-button" }, "Multiply these");
  const frame = make("details", { className: "ckx-own-numbers" }, make("summary", {}, "Your own matrices"), make("div", { className: "ckx-row" }, make("label", {}, make("span", {}, "A"), a), make("label", {}, make("span", {}, "B"), b), use));
  // what is shown, to be changed
  const fill = (trace) => {
    for (const [name, node] of [["a", a], ["b", b]]) {
      const [rows, cols] = trace.places[name][2];
      node.value = Array.from({ length: rows }, (_, r) => Array.from(trace.arrays[name].slice(r * cols, (r + 1) * cols)).join(" ")).join("\n");
    }
  };
  return { frame, a, b, use, fill, texts: () => ({ a: a.value, b: b.value }) };
}

function arrayLayout(setup, id) {
  const labels = Object.entries(setup.labels);
  const { fields, groups } = sizeFields(setup, id);
  const radios = labels.map(([label]) => make("input", { type: "radio", name: `${id}-flow`, value: label }));
  const flows = make(
    "fieldset",
    { className: "ckx-flows" },
    make("legend", { className: "ckx-hidden" }, "What stays in the elements"),
    ...labels.map(([, words], at) => make("label", {}, radios[at], make("span", {}, words))),
  );
  const toggle = (words, title) => {
    const box = make("input", { type: "checkbox" });
    return { box, label: make("label", { className: "ckx-toggle", title }, box, make("span", {}, words)) };
  };
  const compare = toggle("Side by side", "All dataflows at the same cycle");
  const names = toggle("Names", "Which element of A, B and C each number is");
  const other = make("button", { type: "button", className: "ckx-button" }, "Other numbers");
  const error = make("p", { className: "ckx-error", id: `${id}-error`, role: "alert" });
  const own = ownMatrices(id);
  const form = make("form", { className: "ckx-array-form", "aria-label": "What is computed, and on what" });
  form.append(make("div", { className: "ckx-row" }, ...(labels.length > 1 ? [flows, compare.label] : []), names.label));
  if (setup.live) form.append(make("div", { className: "ckx-row ckx-all-sizes" }, ...groups, other), own.frame);
  form.append(error);
  form.addEventListener("submit", (event) => event.preventDefault());
  const buttons = {
    first: iconButton("first", "First cycle"),
    back: iconButton("back", "One cycle back"),
    play: iconButton("play", "Play"),
    next: iconButton("next", "One cycle on"),
    last: iconButton("last", "Last cycle"),
  };
  const slider = make("input", { type: "range", min: "0", step: "1", "aria-label": "Cycle", className: "ckx-scrub" });
  const speed = make("select", { "aria-label": "Cycles a second" }, ...setup.speeds.map((s) => make("option", { value: String(s) }, `${s} cycle${s === 1 ? "" : "s"}/s`)));
  const clock = make("output", { className: "ckx-clock" });
  const plot = make("canvas", { className: "ckx-busy", "aria-hidden": "true" });
  const player = make(
    "div",
    { className: "ckx-player", role: "group", "aria-label": "Player" },
    plot,
    slider,
    make("div", { className: "ckx-row" }, ...Object.values(buttons).map((one) => one.button), clock, speed),
  );
  const title = make("h3", { className: "ck-title" });
  const subtitle = make("p", { className: "ck-subtitle" });
  const sentence = make("p", { className: "ckx-sentence" });
  const why = make("p", { className: "ckx-why" });
  const legend = make("ul", { className: "ckx-legend" });
  const arrays = make("div", { className: "ckx-arrays" });
  const png = make("button", { type: "button" }, "PNG");
  const csv = make("button", { type: "button" }, "CSV");
  const save = make("div", { className: "ck-save" }, png, csv);
  const stageSide = make("div", { className: "ckx-stage" }, legend, arrays, sentence, why, player, make("div", { className: "ckx-below" }, make("p", { className: "ckx-hint" }, KEYS), save));
  return { radios, compare: compare.box, names: names.box, fields, other, own, error, form, buttons, slider, speed, clock, plot, title, subtitle, sentence, why, legend, arrays, png, csv, stageSide };
}

function csvOf(trace) {
  const rows = ["cycle,row,column,i,k,j,input,weight,sum before,sum"];
  for (let t = 0; t < trace.length; t += 1) {
    for (let r = 0; r < trace.rows; r += 1) {
      for (let c = 0; c < trace.cols; c += 1) {
        const s = trace.step(t, r, c);
        if (s) rows.push([t, r, c, s.i, s.k, s.j, s.input, s.weight, s.before, s.after].join(","));
      }
    }
  }
  return rows.join("\r\n");
}
