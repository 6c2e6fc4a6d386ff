// The waveform of an RtlViewer: its signals, its cursors, its program. waves.js stands before this text.

const WAVE_KEYS =
  "Plus and minus zoom; left and right move cursor A, with shift cursor B; page up and page down move the window; 0 shows " +
  "as much as there is; comma and full stop go to the change before and after; square brackets to the instruction.";

function waveLayout(setup, id) {
  const buttons = {
    wider: button("−", "Zoom out"),
    closer: button("+", "Zoom in"),
    all: button("All", "Zoom out as far as possible"),
    before: button("‹ change", "Previous change of the chosen signal"),
    after: button("change ›", "Next change of the chosen signal"),
    earlier: button("‹ instruction", "Previous instruction"),
    later: button("instruction ›", "Next instruction"),
    up: button("↑", "Move the chosen signal up"),
    down: button("↓", "Move the chosen signal down"),
    remove: button("Remove", "Remove the chosen signal"),
  };
  const radix = make("select", { id: `${id}-radix` }, ...setup.radixes.map((name) => make("option", { value: name }, name)));
  const group = (...parts) => make("div", { className: "ckx-group" }, ...parts);
  const { wider, closer, all, before, after, earlier, later, up, down, remove } = buttons;
  const bar = make(
    "div",
    { className: "ckx-tools", role: "toolbar", "aria-label": "Waveform" },
    group(wider, closer, all),
    group(before, after),
    ...(setup.run.instructions.length ? [group(earlier, later)] : []),
    group(make("label", { for: `${id}-radix`, className: "ckx-hint" }, "Radix"), radix, up, down, remove),
  );
  const overview = make("canvas", { className: "ckx-overview", "aria-hidden": "true" });
  const names = make("div", { className: "ckx-signals", role: "listbox", "aria-label": "Signals shown, with their values at cursor A" });
  const canvas = make("canvas", { "aria-hidden": "true" });
  const stage = make("div", { className: "ckx-stage", role: "group", "aria-label": "Waveform", "aria-describedby": `${id}-keys ${id}-told` }, canvas);
  stage.tabIndex = 0;
  const told = make("p", { className: "ckx-told", id: `${id}-told`, role: "status" });
  const keys = make("p", { className: "ckx-hint", id: `${id}-keys` }, `Click for cursor A, shift and click for B, drag to move; the wheel zooms with Ctrl held, or once the picture has the focus. ${WAVE_KEYS}`);
  const help = make("details", {}, make("summary", {}, "Mouse and keys"), keys);
  const error = make("p", { className: "ckx-error", role: "alert" });
  const tree = treeView("Scopes");
  const filter = make("input", { type: "search", id: `${id}-filter`, autocomplete: "off", spellcheck: false });
  const known = make("select", { multiple: true, size: 8, id: `${id}-known`, className: "ckx-hits" });
  const add = button("Add", "Add what is selected to the waveform");
  const count = make("p", { className: "ckx-hint", role: "status" });
  const field = (text, control) => make("div", { className: "ckx-field" }, make("label", { for: control.id }, text), control);
  const picker = make("details", { className: "ckx-picker" }, make("summary", {}, "Add signals"), make("div", { className: "ckx-pick" }, tree.list, make("div", { className: "ckx-known" }, field("Filter names, in all scopes", filter), field("Signals", known), count, add)));
  const listing = make("div", { className: "ckx-program", role: "listbox", "aria-label": "Program: choose an instruction to see it" });
  listing.tabIndex = 0;
  const program = setup.run.instructions.length ? [make("section", { className: "ckx-listing", "aria-label": "Program" }, make("h4", {}, "Program"), make("div", { className: "ckx-instruction ckx-heads", "aria-hidden": "true" }, ...listingHeads()), listing)] : [];
  const title = make("h3", { className: "ckx-title" });
  const grid = make("div", { className: "ckx-wavegrid" }, names, stage);
  const section = make("section", { className: "ckx-waves", "aria-label": "Waveform" }, title, bar, overview, error, grid, told, picker, ...program, help);
  return { ...buttons, radix, overview, names, canvas, stage, told, error, tree, filter, known, add, count, listing, title, section };
}

// What the reader sees: a window, two cursors, and one signal that the tools work on.
function waveMoves(app, run, most, moved) {
  const span = () => app.view.window[1] - app.view.window[0];
  const show = (from, wide) => {
    const width = Math.min(Math.max(wide, 2), most.cycles, run.last + 1 - run.first);
    const low = Math.min(Math.max(from, run.first), run.last + 1 - width);
    app.view.window = [low, low + width];
    moved();
  };
  const inside = (cycle) => Math.min(Math.max(cycle, run.first), run.last + 1);
  return {
    show,
    pan: (share) => show(app.view.window[0] + share * span(), span()),
    zoom(factor, around = app.view.cursors[0]) {
      const [from, to] = app.view.window;
      const still = around !== null && around >= from && around <= to ? around : (from + to) / 2;
      show(still - (still - from) * factor, span() * factor);
    },
    cursor(number, cycle, follow = true) {
      app.view.cursors[number] = inside(Math.round(cycle * 2) / 2);
      const [from, to] = app.view.window;
      const at = app.view.cursors[number];
      if (follow && (at < from || at > to)) show(at - span() / 2, span());
      else moved();
    },
    instruction(number) {
      const [, , , begin, got] = run.instructions[number];
      app.view.cursors = [begin, begin + got];
      const [from, to] = app.view.window;
      const wide = Math.min(Math.max(got * 1.5, 20), most.cycles);
      if (begin < from || begin + got > to || got < span() / 50) show(begin + got / 2 - wide / 2, wide);
      else moved();
    },
  };
}

function wavePane(app, setup, id) {
  const { run, most } = setup;
  const ui = waveLayout(setup, id);
  const widths = run.signals.map(([, , width]) => width);
  let loaded = new Map();
  let range = [0, -1];
  let selected = app.view.signals[0]?.id;
  let active = -1;
  const rowHeight = () => (ui.section.clientWidth < 700 ? 40 : 28);
  const paint = wavePainter(ui.canvas, app.root, () => ({
    run, chosen: app.view.signals, loaded, loadedFrom: range[0], loadedTo: range[1], window: app.view.window,
    cursors: app.view.cursors, active, selected, rowHeight: rowHeight(), dark: app.root.dataset.dark === "true",
  }));
  const missing = () => app.view.signals.some(({ id: one }) => !loaded.has(one));
  const needed = () => {
    const [from, to] = app.view.window;
    const low = Math.max(run.first, Math.floor(from));
    const high = Math.min(run.last, Math.ceil(to) - 1);
    if (!missing() && range[0] <= low && high <= range[1]) return { signals: null };
    const room = Math.max(0, Math.min(high - low, Math.floor((most.cycles - (high - low)) / 2)));
    return { signals: app.view.signals.map((one) => one.id), first: Math.max(run.first, low - room), last: Math.min(run.last, high + room) };
  };
  const listing = longList(ui.listing, (at) => instructionRow(run, at, active, id));
  const moved = () => {
    app.change();
    refresh();
    if (needed().signals) app.ask();
  };
  const moves = waveMoves(app, run, most, moved);
  const valueOf = (one) => {
    const signal = loaded.get(one.id);
    const [a] = app.view.cursors;
    const half = Math.floor(2 * (a ?? app.view.window[0]));
    if (!signal || half < 2 * range[0] || half > 2 * (range[1] + 1)) return "";
    return valueText(signal, changeAt(signal.times, half), one.radix);
  };
  // a row stays the same node: waves that arrive while it is pressed take no click away
  const rows = new Map();
  const rowOf = (number) => {
    const [scope, name, width] = run.signals[number];
    const label = width > 1 ? `${name}[${width - 1}:0]` : name;
    const row = make("div", { role: "option", className: "ckx-signal", title: `${scope}.${label}` }, make("span", { className: "ckx-name" }, label), make("span", { className: "ckx-value" }));
    row.addEventListener("click", () => choose(number));
    rows.set(number, row);
    return row;
  };
  const drawNames = () => {
    const held = ui.names.contains(document.activeElement);
    ui.names.style.setProperty("--row", `${rowHeight()}px`);
    ui.names.style.setProperty("--top", `${LANE.axis + (run.instructions.length ? LANE.run : 0)}px`);
    const wanted = app.view.signals.map(({ id: number }) => rows.get(number) ?? rowOf(number));
    app.view.signals.forEach((one, at) => {
      wanted[at].setAttribute("aria-selected", String(one.id === selected));
      wanted[at].tabIndex = one.id === selected ? 0 : -1;
      wanted[at].lastChild.textContent = valueOf(one);
    });
    if (wanted.length !== ui.names.children.length || wanted.some((row, at) => row !== ui.names.children[at])) ui.names.replaceChildren(...wanted);
    if (held) ui.names.querySelector("[tabindex='0']")?.focus();
  };
  const choose = (number, focus = true) => {
    selected = number;
    refresh();
    if (focus) ui.names.querySelector("[tabindex='0']")?.focus();
  };
  const refresh = () => {
    if (!app.view.signals.some((one) => one.id === selected)) selected = app.view.signals[0]?.id;
    const chosen = app.view.signals.find((one) => one.id === selected);
    for (const control of [ui.radix, ui.up, ui.down, ui.remove, ui.before, ui.after]) control.disabled = !chosen;
    if (chosen) ui.radix.value = chosen.radix;
    const [a] = app.view.cursors;
    const now = run.instructions.length ? instructionAt(run, a ?? app.view.window[0]) : -1;
    if (now !== active) {
      active = now;
      if (active >= 0) listing.reveal(active);
      ui.listing.setAttribute("aria-activedescendant", `${id}-i${active}`);
    }
    ui.title.textContent = titleOf(run, app.view.window, active);
    ui.told.textContent = cursorsInWords(run, app.view.cursors, active);
    drawNames();
    paint();
    paintOverview(ui.overview, run, app.view.window, inkOf(app.root));
  };
  // the change of the chosen signal next to cursor A
  const edge = (step) => {
    const signal = loaded.get(selected);
    if (!signal) return;
    const half = Math.floor(2 * (app.view.cursors[0] ?? app.view.window[0]));
    const at = changeAt(signal.times, half);
    const next = step > 0 ? at + 1 : signal.times[at] === half ? at - 1 : at;
    if (next >= 0 && next < signal.times.length) moves.cursor(0, signal.times[next] / 2);
    else ui.told.textContent = "No further change in what is loaded; move the window on.";
  };
  const step = (by) => {
    if (run.instructions.length) moves.instruction(Math.min(Math.max(active + by, 0), run.instructions.length - 1));
  };
  const arrange = (by) => {
    const at = app.view.signals.findIndex((one) => one.id === selected);
    const to = at + by;
    if (at < 0 || to < 0 || to >= app.view.signals.length) return;
    app.view.signals.splice(to, 0, ...app.view.signals.splice(at, 1));
    moved();
  };
  const remove = () => {
    const at = app.view.signals.findIndex((one) => one.id === selected);
    if (at < 0) return;
    app.view.signals.splice(at, 1);
    selected = app.view.signals[Math.min(at, app.view.signals.length - 1)]?.id;
    moved();
  };
  const clicks = {
    wider: () => moves.zoom(2), closer: () => moves.zoom(0.5), all: () => moves.show(run.first, Infinity),
    before: () => edge(-1), after: () => edge(1), earlier: () => step(-1), later: () => step(1),
    up: () => arrange(-1), down: () => arrange(1), remove,
  };
  for (const [name, deed] of Object.entries(clicks)) ui[name].addEventListener("click", deed);
  ui.radix.addEventListener("change", () => {
    app.view.signals.find((one) => one.id === selected).radix = ui.radix.value;
    moved();
  });
  wireNames(ui.names, app, () => selected, choose, remove);
  wireStage(ui.stage, ui.canvas, app, run, moves, clicks, { edge, step, choose, rowHeight });
  wireOverview(ui.overview, app, run, moves);
  wireListing(ui.listing, run, moves, () => active);
  wirePicker(ui, app, run, most, moved);
  const sized = new ResizeObserver(() => refresh());
  sized.observe(ui.stage);
  listing.fill(run.instructions.length);
  return {
    section: ui.section,
    error: ui.error,
    needed,
    apply() {
      refresh();
      if (needed().signals) app.ask();
    },
    heard() {
      const waves = app.model.get("waves");
      loaded = decoded(waves, widths);
      range = waves.first === undefined ? [0, -1] : [waves.first, waves.last];
      refresh();
    },
    draw: refresh,
    stop() {
      sized.disconnect();
      listing.stop();
    },
  };
}

function listingHeads() {
  const heads = [["ckx-swatch", ""], ["ckx-number", "Address"], ["ckx-number ckx-begin", "From"], ["ckx-number", "Cycles"], ["ckx-layer", "Layer"], ["", "Instruction"]];
  return heads.map(([className, text]) => make("span", { className }, text));
}

function instructionRow(run, at, active, id) {
  const [address, text, layer, begin, got, expected] = run.instructions[at];
  const [op, ...fields] = text.split(/\s+/);
  const swatch = make("i", { className: "ckx-swatch", style: `background:${CATEGORY[categoryOf(text)]}` });
  const late = got === expected ? "" : ` (${expected} predicted)`;
  const row = make(
    "div",
    { role: "option", id: `${id}-i${at}`, className: "ckx-instruction", "aria-selected": String(at === active), "aria-setsize": String(run.instructions.length), "aria-posinset": String(at + 1) },
    swatch,
    make("span", { className: "ckx-number" }, String(address)),
    make("span", { className: "ckx-number ckx-begin" }, begin.toLocaleString("en-US")),
    make("span", { className: got === expected ? "ckx-number" : "ckx-number ckx-late" }, `${got}${late}`),
    make("span", { className: "ckx-layer", title: layer }, layer),
    make("b", {}, op),
    make("span", { className: "ckx-fields" }, fields.join(" ")),
  );
  row.dataset.at = String(at);
  row.tabIndex = -1;
  return row;
}

function titleOf(run, [from, to], active) {
  const number = (cycle) => Math.floor(cycle).toLocaleString("en-US");
  const range = `Cycles ${number(from)} to ${number(Math.max(from, to - 1))} of ${number(run.last)}`;
  if (active < 0) return range;
  const [address, text, layer] = run.instructions[active];
  return `${range}: ${text.split(" ")[0]} at address ${address}, layer ${layer}`;
}

function nanoseconds(ns) {
  const [size, unit] = ns >= 1e6 ? [1e6, "ms"] : ns >= 1e3 ? [1e3, "µs"] : [1, "ns"];
  return `${Number((ns / size).toPrecision(3))} ${unit}`;
}

function cursorsInWords(run, [a, b], active) {
  const cycle = (at) => at.toLocaleString("en-US");
  // a VCD has cycles; what one takes is not always known
  const lasting = (cycles) => (run.cycle_ns === null ? "" : `, ${nanoseconds(cycles * run.cycle_ns)}`);
  const parts = [];
  if (a !== null) parts.push(`A at cycle ${cycle(a)}${lasting(a)}`);
  if (b !== null) parts.push(`B at cycle ${cycle(b)}`);
  if (a !== null && b !== null) parts.push(`${cycle(Math.abs(b - a))} cycles apart${lasting(Math.abs(b - a))}`);
  const told = parts.length ? `${parts.join("; ")}.` : "No cursor set.";
  if (active < 0) return told;
  const [, text, , begin, got] = run.instructions[active];
  return `${told} ${text.split(" ")[0]} runs from cycle ${cycle(begin)} for ${cycle(got)} cycles.`;
}

function wireNames(names, app, selected, choose, remove) {
  names.addEventListener("keydown", (event) => {
    const at = app.view.signals.findIndex((one) => one.id === selected());
    const last = app.view.signals.length - 1;
    const to = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last }[event.key];
    if (to === undefined && event.key !== "Delete") return;
    event.preventDefault();
    if (to === undefined) remove();
    else if (app.view.signals[to]) choose(app.view.signals[to].id);
  });
}

function wireStage(stage, canvas, app, run, moves, clicks, { edge, step, choose, rowHeight }) {
  const cycleAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const [from, to] = app.view.window;
    return from + ((event.clientX - box.left) / box.width) * (to - from);
  };
  let drag;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    drag = { x: event.clientX, window: [...app.view.window], moved: false };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const shift = event.clientX - drag.x;
    drag.moved ||= Math.abs(shift) > 4;
    const wide = drag.window[1] - drag.window[0];
    if (drag.moved) moves.show(drag.window[0] - (shift / canvas.clientWidth) * wide, wide);
  });
  stage.addEventListener("pointercancel", () => (drag = undefined));
  stage.addEventListener("pointerup", (event) => {
    const clicked = drag && !drag.moved;
    drag = undefined;
    if (!clicked) return;
    const cycle = cycleAt(event);
    const y = event.clientY - canvas.getBoundingClientRect().top;
    const top = LANE.axis + (run.instructions.length ? LANE.run : 0);
    const row = Math.floor((y - top) / rowHeight());
    if (run.instructions.length && y > LANE.axis && y < top) moves.instruction(Math.max(0, instructionAt(run, cycle)));
    else {
      if (row >= 0 && app.view.signals[row]) choose(app.view.signals[row].id, false);
      moves.cursor(event.shiftKey ? 1 : 0, cycle);
    }
  });
  stage.addEventListener(
    "wheel",
    (event) => {
      const ours = event.ctrlKey || document.activeElement === stage;
      if (!ours && !event.shiftKey) return;
      event.preventDefault();
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) moves.pan(Math.sign(event.deltaX || event.deltaY) * 0.15);
      else moves.zoom(event.deltaY > 0 ? 1.25 : 0.8, cycleAt(event));
    },
    { passive: false },
  );
  const arrow = (by, second) => {
    const number = second ? 1 : 0;
    const [from, to] = app.view.window;
    const at = app.view.cursors[number] ?? app.view.cursors[0] ?? Math.round((from + to) / 2);
    moves.cursor(number, at + by);
  };
  const keys = {
    "+": clicks.closer, "=": clicks.closer, "-": clicks.wider, _: clicks.wider, 0: clicks.all,
    PageDown: () => moves.pan(0.8), PageUp: () => moves.pan(-0.8),
    Home: () => moves.cursor(0, run.first), End: () => moves.cursor(0, run.last),
    ",": () => edge(-1), ".": () => edge(1), "[": () => step(-1), "]": () => step(1),
  };
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (turn === undefined && !keys[event.key]) return;
    event.preventDefault();
    if (turn === undefined) keys[event.key]();
    else arrow(turn, event.shiftKey);
  });
}

function wireOverview(overview, app, run, moves) {
  const go = (event) => {
    const box = overview.getBoundingClientRect();
    const wide = app.view.window[1] - app.view.window[0];
    const at = run.first + ((event.clientX - box.left) / box.width) * (run.last + 1 - run.first);
    moves.show(at - wide / 2, wide);
  };
  overview.addEventListener("pointerdown", (event) => {
    overview.setPointerCapture(event.pointerId);
    go(event);
  });
  overview.addEventListener("pointermove", (event) => event.buttons && go(event));
}

function wireListing(listing, run, moves, active) {
  listing.addEventListener("click", (event) => {
    const row = event.target.closest("[data-at]");
    if (row) moves.instruction(Number(row.dataset.at));
  });
  listing.addEventListener("keydown", (event) => {
    const last = run.instructions.length - 1;
    const to = { ArrowDown: active() + 1, ArrowUp: active() - 1, PageDown: active() + 10, PageUp: active() - 10, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    moves.instruction(Math.min(Math.max(to, 0), last));
  });
}
