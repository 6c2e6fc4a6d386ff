// The page of a DesignExplorer: one selection, shown by all views. What is brushed is drawn here at once; the kernel
// checks it when the hand rests, and answers with the knee and what to take. The other designs_*.js stand before this.

function shapeOf(id, setup, table) {
  const option = (value, text) => make("option", { value }, text);
  const numbers = [...table.columns.values()].filter(({ text }) => !text);
  const axisSelect = (name, label) => {
    const select = make("select", { id: `${id}-${name}` }, ...numbers.map((column) => option(column.name, column.label)));
    return { select, row: make("div", { className: "ckx-network" }, make("label", { for: `${id}-${name}` }, label), select) };
  };
  const button = (text, about = {}) => make("button", { type: "button", className: "ckx-button", ...about }, text);
  const x = axisSelect("x", "Across");
  const y = axisSelect("y", "Upwards");
  const solid = make("input", { type: "checkbox" });
  const turns = ["Turn", "Tilt"].map((label) => make("input", { type: "range", min: "0", max: "90", value: label === "Turn" ? "35" : "25", "aria-label": `${label} the picture, degrees` }));
  const turning = make("div", { className: "ckx-turning" }, ...turns.flatMap((slider, n) => [make("span", { className: "ckx-hint" }, n ? "Tilt" : "Turn"), slider]));
  const axes = [...table.columns.values()].map((column) => ({ name: column.name, box: make("input", { type: "checkbox" }), label: column.label }));
  const ui = {
    x, y, solid, turns, turning, axes,
    clear: button("Clear all limits"), zoom: button("Zoom to the selected"), csv: button("Save CSV"), json: button("Save JSON"), pin: button("Pin"), walk: button("Walk the front"),
    finding: make("h3", { className: "ck-title" }), said: make("p", { className: "ck-subtitle" }),
    limits: make("details", { className: "ckx-folded", open: true }),
    advice: make("div", { className: "ckx-advice", "aria-live": "polite" }),
    state: make("p", { className: "ckx-state", role: "status" }),
    here: make("p", { className: "ckx-now", role: "status" }),
    other: make("p", { className: "ckx-error", role: "alert" }),
    scatterWords: make("p", { className: "ck-subtitle" }), laneWords: make("p", { className: "ck-subtitle" }),
  };
  return ui;
}

// Sliders and selects of the conditions.
function conditionForm(setup, id, changed) {
  const rows = {};
  const parts = [];
  for (const control of setup.controls) {
    rows[control.name] = controlRow(control, `${id}-${control.name}`, changed);
    parts.push(rows[control.name].row);
  }
  for (const [name, values] of Object.entries(setup.choices)) {
    const select = make("select", { id: `${id}-${name}` }, ...values.map((value) => make("option", { value }, value)));
    const error = make("p", { className: "ckx-error", role: "alert" });
    select.addEventListener("change", () => changed(name, select.value));
    parts.unshift(make("div", { className: "ckx-network" }, make("label", { for: `${id}-${name}` }, name[0].toUpperCase() + name.slice(1)), select, error));
    rows[name] = { show: (value) => (select.value = value), complain: (text) => (error.textContent = text) };
  }
  return { rows, parts };
}

function layout(ui, form, limits, views, grid, pins, setup) {
  const field = (legend, hint, ...parts) => make("fieldset", { className: "ckx-fields" }, make("legend", {}, legend), ...(hint ? [make("p", { className: "ckx-hint" }, hint)] : []), ...parts);
  const check = (box, text) => make("label", { className: "ckx-check" }, box, text);
  ui.limits.append(make("summary", {}, "Limits"), make("p", { className: "ckx-hint" }, "Typed here, or drawn in the pictures: they are the same."), limits.list, make("div", { className: "ckx-buttons" }, ui.clear));
  const controls = make(
    "form",
    { className: "ckx-controls", "aria-label": "What is shown and selected" },
    ...(form.parts.length ? [field("Conditions", "All designs are worked out again under these.", ...form.parts)] : []),
    ui.limits,
    ui.other,
  );
  controls.addEventListener("submit", (event) => event.preventDefault());
  const save = (name) => make("div", { className: "ck-save" }, ...["SVG", "PNG"].map((format) => make("button", { type: "button", "aria-label": `Save ${name} as ${format}`, "data-save": `${name} ${format}` }, format)));
  const chosen = make("details", { className: "ckx-which" }, make("summary", {}, "Choose the axes"), make("div", {}, ...ui.axes.map(({ box, label }) => check(box, label))));
  const pickers = make("div", { className: "ckx-pickers" }, ui.x.row, ui.y.row, ...(setup.objectives.length === 3 ? [check(ui.solid, "All three objectives (3-D)")] : []), ui.turning);
  const scatter = make("section", { "aria-label": "Scatter" }, make("h4", {}, "Two results against each other"), ui.scatterWords, pickers, views.scatter.box, make("div", { className: "ckx-under" }, ui.here, make("div", { className: "ckx-buttons" }, ui.pin, ui.zoom), save("scatter")));
  const lanes = make("section", { "aria-label": "Parallel coordinates" }, make("h4", {}, "All columns at once"), ui.laneWords, views.lanes.box, make("div", { className: "ckx-under" }, chosen, save("parallel-coordinates")));
  const compare = make("section", { "aria-label": "Comparison" }, make("h4", {}, "Side by side"), pins.empty, pins.place, pins.words);
  const rows = make("section", { "aria-label": "Table" }, make("h4", {}, "The designs"), grid.frame, make("div", { className: "ckx-under" }, grid.pager, make("div", { className: "ckx-buttons" }, ui.csv, ui.json)));
  const head = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), ui.state, ui.finding, ui.said, ui.advice);
  return [head, controls, make("div", { className: "ckx-figures" }, scatter, lanes, compare, rows)];
}

const many = (n) => n.toLocaleString("en-US");

// Pointer and keys on the scatter: a drag is a box, a click looks at a design, arrow keys walk the front.
function scatterHands(view, state, on) {
  const { svg, box } = view;
  Object.entries({ role: "slider", tabindex: "0", "aria-label": "Designs of the front, one by one", "aria-valuemin": "1" }).forEach(([name, value]) => box.setAttribute(name, value));
  const spot = (event) => {
    const frame = box.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  box.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const from = spot(event);
    let moved = false;
    box.setPointerCapture(event.pointerId);
    const move = (now) => {
      const to = spot(now);
      if (!moved && Math.hypot(to[0] - from[0], to[1] - from[1]) < 5) return;
      moved = true;
      if (state.choice.solid) on.turn(now.movementX, now.movementY);
      else on.box(from, to);
    };
    const end = (now) => {
      for (const [name, heard] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) box.removeEventListener(name, heard);
      if (!moved && now.type === "pointerup") on.look(view.at(...from, 30));
      else if (moved) on.done();
    };
    for (const [name, heard] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) box.addEventListener(name, heard);
  });
  let last = 0;
  box.addEventListener("pointermove", (event) => {
    if (event.buttons || event.timeStamp - last < 30) return;
    last = event.timeStamp;
    on.hover(view.at(...spot(event)));
  });
  box.addEventListener("pointerleave", () => on.hover(-1));
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[event.key];
    if (step) on.walk(step);
    else if (event.key === "Enter" || event.key === " ") on.pin();
    else if (event.key === "Escape") on.unbox();
    else return;
    event.preventDefault();
  });
  return svg;
}

function render({ model, el }) {
  const id = viewId();
  const setup = model.get("setup");
  const table = tableOf(setup, model.get("fixed"), model.get("moving"));
  const root = make("div", { className: "ckx ckx-explorer" });
  const state = { choice: structuredClone(model.get("answer").choice), mask: new Uint8Array(table.count), count: 0, front: [], hover: -1 };
  const ui = shapeOf(id, setup, table);
  const dirty = new Set();
  let frame = 0;
  let resting = 0;
  let drawn = 0;
  const touch = (...what) => {
    for (const one of what) dirty.add(one);
    frame ||= requestAnimationFrame(redraw);
  };

  // what was changed here and not asked yet is not taken back by an answer to what was asked before
  let unasked = false;
  let sliding = false; // a condition moves: the words can wait
  const question = () => {
    unasked = false;
    const words = !sliding;
    sliding = false;
    return { choice: state.choice, words };
  };
  const talk = conversation(model, root, question, (answer, more) => heard(answer, more || unasked));
  // the kernel is asked when the hand rests
  const later = (wait = 120) => {
    clearTimeout(resting);
    resting = setTimeout(talk.ask, wait);
  };
  const change = (changes, ...what) => {
    Object.assign(state.choice, changes);
    unasked = true;
    touch(...what);
  };
  const limit = (name, range) => {
    const ranges = { ...state.choice.ranges };
    if (range[0] === null && range[1] === null) delete ranges[name];
    else ranges[name] = range;
    change({ ranges, page: 0 }, "ranges");
  };
  const look = (i) => {
    state.hover = -1;
    change({ cursor: i < 0 ? null : i }, "marks");
    later();
  };
  const pin = (i) => {
    const { pins } = state.choice;
    if (i === null || i < 0) return;
    if (pins.includes(i)) change({ pins: pins.filter((one) => one !== i) }, "marks");
    else if (pins.length < setup.pins) change({ pins: [...pins, i] }, "marks");
    later(0);
  };
  const view = (changes, ...what) => {
    change(changes, ...what);
    later(0);
  };

  const form = conditionForm(setup, id, (name, value) => {
    change({ conditions: { ...state.choice.conditions, [name]: value } });
    clearTimeout(resting);
    sliding = true;
    talk.ask();
  });
  const limits = limitsForm(table, id, (name, range) => {
    limit(name, range);
    later(0);
  });
  const views = { scatter: scatterView(root), lanes: lanesView(root, { ranges: () => state.choice.ranges, limit, done: () => later() }) };
  const grid = designTable(table, {
    sort: (name) => view({ sort: name, down: state.choice.sort === name && !state.choice.down, page: 0 }, "table"),
    page: (page) => view({ page }, "table"),
    look,
  });
  const pins = pinBoard(table, { unpin: pin });
  root.append(...layout(ui, form, limits, views, grid, pins, setup));
  el.append(root);
  el.classList.add("ckx-host");

  scatterHands(views.scatter, state, {
    box: (from, to) => {
      const { left, right, top, bottom } = views.scatter.area();
      const between = (column, a, b) => {
        const [low, high] = a < b ? [a, b] : [b, a];
        return [low <= 0 ? null : valueAt(column, low), high >= 1 ? null : valueAt(column, high)];
      };
      const { x, y } = state.choice;
      limit(x, between(state.lying, (from[0] - left) / (right - left), (to[0] - left) / (right - left)));
      if (x !== y) limit(y, between(state.standing, (bottom - from[1]) / (bottom - top), (bottom - to[1]) / (bottom - top)));
    },
    turn: (dx, dy) => {
      ui.turns.forEach((slider, n) => (slider.value = String(Number(slider.value) + (n ? dy : -dx) / 3)));
      touch("scatter");
    },
    unbox: () => {
      const { [state.choice.x]: a, [state.choice.y]: b, ...ranges } = state.choice.ranges;
      view({ ranges, page: 0 }, "ranges");
    },
    look,
    hover: (i) => {
      if (state.hover === i) return;
      state.hover = i;
      touch("here");
    },
    walk: (step) => {
      const { front } = state;
      if (!front.length) return;
      const at = front.indexOf(state.choice.cursor);
      look(front[at < 0 ? 0 : Math.min(front.length - 1, Math.max(0, at + step))]);
    },
    pin: () => pin(state.choice.cursor),
    done: () => later(),
  });

  const choiceOf = (axis) => table.columns.get(state.choice[axis]);

  // ---- what is drawn, once a frame
  const marks = () => {
    const { cursor, pins: pinned } = state.choice;
    const named = pinned.map((at, n) => ({ at, word: LETTERS[n] }));
    const { knee } = model.get("answer");
    if (knee !== null && state.mask[knee]) named.push({ at: knee, word: "knee" });
    if (cursor !== null && table.runs[cursor]) named.push({ at: cursor, word: "", strong: true });
    return named;
  };
  function redraw() {
    frame = 0;
    if (!root.clientWidth) return;
    if (["data", "ranges"].some((one) => dirty.has(one))) {
      state.count = select(table, state.choice.ranges, state.mask);
      state.front = frontOf(table, state.mask);
    }
    const { choice, mask, front } = state;
    const all = Object.keys(choice.ranges).length === 0;
    const turn = { yaw: (Number(ui.turns[0].value) * Math.PI) / 180, tilt: (Number(ui.turns[1].value) * Math.PI) / 180 };
    const swept = dirty.has("data") || dirty.has("ranges");
    const shared = { swept, table, mask, count: state.count, front, all, marks: marks(), ranges: choice.ranges };
    const drawing = ["data", "ranges", "marks", "size"].some((one) => dirty.has(one));
    const moved = dirty.has("data") || dirty.has("size");
    if (moved || dirty.has("scatter")) {
      const [x, y] = [choice.x, choice.y].map((name, n) => zoomed(table.columns.get(name), choice.zoom?.[n]));
      Object.assign(state, { lying: x, standing: y });
    }
    if (drawing || dirty.has("scatter")) {
      const { lying, standing } = state;
      views.scatter.show({ ...shared, x: choice.x, y: choice.y, lying, standing, solid: choice.solid, turn, fresh: moved || dirty.has("scatter") });
    }
    if (drawing || dirty.has("lanes")) views.lanes.show({ ...shared, axes: choice.axes, fresh: moved || dirty.has("lanes") });
    if (drawing || dirty.has("table")) grid.show(state);
    if (drawing || dirty.has("answer")) pins.show(choice.pins, model.get("answer").pins);
    words(all);
    dirty.clear();
    drawn += 1;
    root.dataset.drawn = String(drawn);
    root.dataset.version = String(table.version);
  }
  const words = (all) => {
    const { choice, count, front } = state;
    const left = table.count - table.running;
    const lost = left ? ` ${many(left)} cannot run the network.` : "";
    say(ui.finding, `${many(front.length)} of ${many(count)} ${all ? "" : "selected "}designs are worth choosing from`);
    say(ui.said, `${all ? "No limit holds" : `Limits leave ${many(count)} of ${many(table.running)} designs`}; on the front no other of them is as good in ${setup.objectives.map(([name]) => table.columns.get(name).label.toLowerCase()).join(", ")}.${lost}`);
    const [x, y] = [choice.x, choice.y].map((name) => table.columns.get(name));
    say(ui.scatterWords, choice.solid ? "All three objectives; marked: the front. Drag to turn." : `${y.label} against ${x.label.toLowerCase()}; marked: the front. Drag a box to select, click to look at a design.`);
    say(ui.zoom, choice.zoom ? "Zoom out" : "Zoom to the selected");
    ui.zoom.hidden = choice.solid;
    ui.zoom.disabled = !choice.zoom && (all || count < 2);
    setSvg(ui.zoom, { title: ui.zoom.disabled ? "Select designs first" : "" });
    const shown = Math.min(front.length, Math.ceil(front.length / Math.ceil(front.length / LINES || 1)));
    say(ui.laneWords, `Shade: how many of the ${many(count)} designs pass there, two axes at a time. Lines: ${shown === front.length ? `all ${many(shown)}` : `${many(shown)} of the ${many(front.length)}`} designs of the front. Drag along an axis to select.`);
    const at = state.hover >= 0 ? state.hover : choice.cursor;
    say(ui.here, at === null ? "Point at a design, or walk the front with the arrow keys." : `Design ${table.label(at)}, ${designWords(table, at)}: ${table.runs[at] ? resultWords(table, at) : "cannot run the network"}${state.mask[at] ? "" : " (not selected)"}.`);
    const pinned = choice.pins.includes(choice.cursor);
    say(ui.pin, pinned ? "Unpin" : "Pin");
    ui.pin.disabled = choice.cursor === null || (!pinned && choice.pins.length >= setup.pins);
    setSvg(ui.pin, { title: choice.cursor === null ? "Choose a design first" : ui.pin.disabled ? `${setup.pins} designs are pinned: unpin one` : "" });
    const walked = front.indexOf(choice.cursor);
    const box = views.scatter.box;
    const spoken = walked < 0 ? `${ui.finding.textContent}. None is chosen` : `${walked + 1} of ${front.length}: ${ui.here.textContent}`;
    setSvg(box, { "aria-valuemax": Math.max(1, front.length), "aria-valuenow": walked + 1 || 1, "aria-valuetext": spoken });
    for (const [name, row] of Object.entries(limits.rows)) row.show(choice.ranges[name]);
    ui.clear.disabled = all;
    setSvg(ui.clear, { title: all ? "No limit holds" : "" });
    ui.csv.disabled = ui.json.disabled = count === 0;
    ui.turning.hidden = !choice.solid;
    ui.x.row.hidden = ui.y.row.hidden = choice.solid;
    for (const { name, box: tick } of ui.axes) {
      tick.checked = choice.axes.includes(name);
      tick.disabled = (tick.checked && choice.axes.length <= 2) || (!tick.checked && choice.axes.length >= 16);
    }
  };

  // ---- answers
  function heard(answer, more) {
    const { error } = answer;
    const shown = { ...form.rows, ...Object.fromEntries(Object.entries(limits.rows).filter(([name]) => !(name in form.rows))) };
    if (error || !more) {
      for (const [name, row] of Object.entries(shown)) row.complain(error?.control === name ? error.text : "");
      ui.other.textContent = error && !(error.control in shown) ? error.text : "";
      root.classList.toggle("ckx-stale", Boolean(error));
      ui.state.textContent = error ? "Not possible: see the message at the controls. Shown is what held before." : "";
    }
    if (error || more) return;
    adopt(answer);
  }
  const adopt = (answer) => {
    const before = JSON.stringify([state.choice.ranges, state.choice.axes, state.choice.x, state.choice.y, state.choice.solid, state.choice.zoom]);
    state.choice = structuredClone(answer.choice);
    for (const [name, row] of Object.entries(form.rows)) row.show(state.choice.conditions[name]);
    ui.x.select.value = state.choice.x;
    ui.y.select.value = state.choice.y;
    ui.solid.checked = state.choice.solid;
    ui.advice.classList.toggle("ckx-old", answer.stale);
    if (answer.stale) later(250);
    else ui.advice.replaceChildren(...answer.advice.map((text) => make("p", {}, text)));
    const after = JSON.stringify([state.choice.ranges, state.choice.axes, state.choice.x, state.choice.y, state.choice.solid, state.choice.zoom]);
    touch("answer", "marks", ...(before === after ? [] : ["ranges", "size"]));
  };
  const moved = () => {
    const moving = model.get("moving");
    if (moving.version === table.version) return;
    moveTable(table, moving);
    table.version = moving.version;
    touch("data");
  };
  model.on("change:moving", moved);

  // ---- the rest of the controls
  ui.x.select.addEventListener("change", () => view({ x: ui.x.select.value, zoom: null }, "scatter"));
  ui.y.select.addEventListener("change", () => view({ y: ui.y.select.value, zoom: null }, "scatter"));
  ui.solid.addEventListener("change", () => view({ solid: ui.solid.checked }, "scatter"));
  for (const slider of ui.turns) slider.addEventListener("input", () => touch("scatter"));
  for (const { name, box } of ui.axes) {
    box.addEventListener("change", () => {
      const wanted = new Set(state.choice.axes);
      wanted[box.checked ? "add" : "delete"](name);
      view({ axes: [...table.columns.keys()].filter((one) => wanted.has(one)) }, "lanes");
    });
  }
  ui.clear.addEventListener("click", () => view({ ranges: {}, page: 0 }, "ranges"));
  ui.zoom.addEventListener("click", () => {
    const ends = [choiceOf("x"), choiceOf("y")].map((column) => endsOf(column, state.mask));
    view({ zoom: state.choice.zoom ? null : ends }, "scatter");
  });
  ui.pin.addEventListener("click", () => pin(state.choice.cursor));
  for (const [format, button, type] of [["csv", ui.csv, "text/csv"], ["json", ui.json, "application/json"]]) {
    button.addEventListener("click", () => ckSave(`designs.${format}`, new Blob([savedAs(format, table, state.mask)], { type })));
  }
  root.addEventListener("click", ({ target }) => {
    const [name, format] = target.dataset?.save?.split(" ") ?? [];
    if (!name) return;
    const picture = pictureOf(name === "scatter" ? views.scatter : views.lanes, ui.finding.textContent, coloursOf(root));
    if (format === "PNG") savePng(name, picture);
    else ckSave(`${name}.svg`, new Blob([picture.text], { type: "image/svg+xml" }));
  });

  table.version = model.get("moving").version;
  const stopTheme = followTheme(root, () => touch("size"));
  let width = 0;
  const resized = new ResizeObserver(() => {
    if (root.clientWidth === width) return;
    // on a phone the limits are folded, so that the pictures are near
    if (root.clientWidth < 700 !== width < 700 || !width) ui.limits.open = root.clientWidth >= 700;
    width = root.clientWidth;
    touch("size");
  });
  resized.observe(root);
  adopt(model.get("answer"));
  touch("data", "size");
  return () => {
    talk.stop();
    stopTheme();
    resized.disconnect();
    clearTimeout(resting);
    cancelAnimationFrame(frame);
    model.off("change:moving", moved);
  };
}

export default { render };
