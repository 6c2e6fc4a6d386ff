// The page of a MappingViewer: two sides, each a loop nest beside its hierarchy. The kernel evaluates, this draws.
// page.js, drawing.js and hierarchy.js stand before this text.

const SIDES = { a: "A", b: "B" };

function chooser(id, label, options) {
  const select = make("select", { id }, ...Object.entries(options).map(([value, words]) => make("option", { value }, words)));
  return { select, row: make("div", { className: "ckx-network" }, make("label", { for: id }, label), select) };
}

function fillOptions(select, options) {
  const key = JSON.stringify(options);
  if (select.dataset.key === key) return;
  select.dataset.key = key;
  select.replaceChildren(...Object.entries(options).map(([value, words]) => make("option", { value }, words)));
}

function sideLayout(side, setup, id) {
  const goals = Object.fromEntries(Object.entries(setup.goals).filter(([goal]) => side === "b" || goal !== "none"));
  const goal = chooser(`${id}-${side}-goal`, `Mapping ${SIDES[side]}`, goals);
  const flow = chooser(`${id}-${side}-flow`, "Dataflow", {});
  const text = make("input", { type: "text", id: `${id}-${side}-text`, placeholder: "k=64 inner=y", spellcheck: "false", autocomplete: "off", maxLength: 80, "aria-describedby": `${id}-${side}-hint ${id}-${side}-error` });
  const hint = make("p", { className: "ckx-hint", id: `${id}-${side}-hint` }, "Largest tile along y (output rows), k and c (output and input channels), and the innermost loop; any part of y=14 k=64 c=32 inner=y.");
  const ask = make("div", { className: "ckx-ask" }, make("label", { for: `${id}-${side}-text` }, "As I ask"), text, hint);
  const error = make("p", { className: "ckx-error", id: `${id}-${side}-error`, role: "alert" });
  const tiles = make("dl", { className: "ckx-tiles" });
  const nest = make("ol", { className: "ckx-nest", "aria-label": `Loop nest ${SIDES[side]}, from DRAM to the array` });
  const none = make("p", { className: "ckx-hint" });
  const svg = svgNode("svg", { class: "ckx-hierarchy" });
  const plot = make("div", { className: "ckx-levels", role: "group", "aria-label": `Memory hierarchy ${SIDES[side]}` }, svg);
  const save = make("div", { className: "ck-save" });
  const shown = make("div", { className: "ckx-shown" }, tiles, nest, none, plot, save);
  const box = make("section", { className: "ckx-side", "aria-label": `Mapping ${SIDES[side]}` }, make("div", { className: "ckx-choice" }, goal.row, flow.row), ask, error, shown);
  return { goal: goal.select, flow: flow.select, flowRow: flow.row, text, ask, error, tiles, nest, none, svg, plot, save, shown, box };
}

function render({ model, el }) {
  const id = viewId();
  const setup = model.get("setup");
  const plain = (names) => Object.fromEntries(names.map((name) => [name, name]));
  const network = chooser(`${id}-network`, "Network", plain(setup.networks));
  const machine = chooser(`${id}-machine`, "Accelerator", plain(Object.keys(setup.machines)));
  const layer = chooser(`${id}-layer`, "Layer, and its share of the time", {});
  const about = make("p", { className: "ckx-hint" });
  const other = make("p", { className: "ckx-error", role: "alert" });
  const state = make("p", { className: "ckx-state", role: "status" });
  const title = make("h3", { className: "ck-title", "aria-live": "polite" });
  const told = make("p", { className: "ckx-told", role: "status" });
  const sides = { a: sideLayout("a", setup, id), b: sideLayout("b", setup, id) };
  const form = make("form", { className: "ckx-asked", "aria-label": "Layer and accelerator" }, network.row, machine.row, layer.row);
  form.addEventListener("submit", (event) => event.preventDefault());
  const table = plainTable("Traffic and energy by level; the rows add up to the last one", ["Level", "Operand", "Way", "A moves", "A energy", "B moves", "B energy"]);
  const details = make("details", {}, make("summary", {}, "Traffic and energy as a table"), table.frame);
  const legend = make("p", { className: "ckx-legend" }, ...["W", "I", "O"].map((operand) => make("span", { className: "ckx-key" }, svgNode("svg", { width: 14, height: 14, "aria-hidden": "true" }, svgNode("rect", { width: 14, height: 14, rx: 3, class: `ckx-op-${operand}` })), `${operand} ${OPERANDS[operand]}`)), make("span", {}, "Arrows are as thick as what moves (square root), bars in a buffer as full as it is, bars below as long as the energy; both sides have one scale."));
  const root = make(
    "div",
    { className: "ckx ckx-mapping" },
    make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), state, form, about, other),
    title,
    told,
    make("div", { className: "ckx-sides" }, sides.a.box, sides.b.box),
    legend,
    details,
  );
  el.append(root);
  el.classList.add("ckx-host");

  const question = () => ({
    network: network.select.value,
    machine: machine.select.value,
    layer: layer.select.value || null,
    ...Object.fromEntries(Object.entries(sides).map(([side, ui]) => [side, { goal: ui.goal.value, dataflow: ui.flow.value, text: ui.text.value }])),
  });
  const talk = conversation(model, root, question, (answer, more) => show(answer, more));

  // --- what is chosen: { side, loop } or { level }; anything else is nothing
  const chosen = () => {
    const found = model.get("selected");
    const answer = model.get("answer");
    if (!found || typeof found !== "object") return null;
    if (typeof found.level === "string") return answer.a?.boxes?.some(({ level }) => level === found.level) ? { level: found.level } : null;
    const line = answer[found.side]?.lines?.[found.loop];
    return line && line.place !== "note" ? { side: found.side, loop: found.loop } : null;
  };
  const choose = (wanted) => {
    const now = chosen();
    model.set("selected", JSON.stringify(now) === JSON.stringify(wanted) ? null : wanted);
    model.save_changes();
    mark();
  };
  const mark = () => {
    const now = chosen();
    const answer = model.get("answer");
    let words = "Press a loop to see what its turns move, or a level to see which loops feed it.";
    for (const [name, ui] of Object.entries(sides)) {
      const side = answer[name];
      if (!side?.boxes) continue;
      const mine = now && (now.level || now.side === name) ? now : null;
      ui.shown.classList.toggle("ckx-marked", Boolean(mine));
      const meant = new Set();
      for (const node of ui.svg.querySelectorAll(".ckx-flow")) {
        const flow = { operand: node.dataset.operand, source: node.dataset.source, target: node.dataset.target };
        const on = mine && flowIsMeant(flow, mine, side);
        node.classList.toggle("ckx-on", Boolean(on));
        if (on) for (const end of [flow.source, flow.target]) meant.add(end);
      }
      for (const node of ui.svg.querySelectorAll(".ckx-box")) {
        const level = node.dataset.level;
        node.classList.toggle("ckx-on", Boolean(mine) && (mine.level ? mine.level === level : meant.has(level)));
        node.setAttribute("aria-pressed", String(now?.level === level));
      }
      [...ui.nest.children].forEach((item, i) => {
        const line = side.lines[i];
        const on = mine && (mine.level ? loopIsMeant(line, mine.level, side) : mine.loop === i);
        item.classList.toggle("ckx-on", Boolean(on));
        item.querySelector("button")?.setAttribute("aria-pressed", String(now?.side === name && now?.loop === i));
      });
      if (mine) words = mine.level ? side.boxes.find(({ level }) => level === mine.level)?.words ?? words : side.lines[mine.loop].words;
    }
    if (now?.level && answer.b?.boxes) {
      const both = Object.keys(SIDES).map((name) => `${SIDES[name]}: ${answer[name].boxes.find(({ level }) => level === now.level)?.words ?? "no such level."}`);
      words = both.join(" ");
    }
    told.textContent = words;
  };

  const drawSide = (name, side, scale) => {
    const ui = sides[name];
    ui.shown.hidden = !side?.boxes;
    if (!side?.boxes) return;
    drawTiles(ui.tiles, side.tiles);
    ui.none.textContent = side.lines.length ? "" : "The vector unit takes one value after the other: there is no choice of loops.";
    ui.none.hidden = side.lines.length > 0;
    ui.nest.hidden = !side.lines.length;
    ui.nest.replaceChildren(
      ...side.lines.map((line, loop) => {
        const item = make("li", { className: `ckx-${line.place}`, style: `--depth: ${line.depth}` });
        const code = [make("code", {}, line.text)];
        for (const operand of line.place === "note" ? "" : line.moves) code.push(make("span", { className: `ckx-chip ckx-chip-${operand}`, title: `moves ${OPERANDS[operand]}` }, operand));
        if (line.place === "note") item.append(...code);
        else {
          const button = make("button", { type: "button", "aria-pressed": "false" }, ...code);
          button.addEventListener("click", () => choose({ side: name, loop }));
          item.append(button);
        }
        return item;
      }),
    );
    const width = Math.floor(ui.plot.clientWidth);
    if (width) drawHierarchy(ui.svg, side, width, scale, (level) => choose({ level }));
  };
  const draw = () => {
    const answer = model.get("answer");
    const both = [answer.a, answer.b].filter((side) => side?.boxes);
    if (!both.length) return;
    const focused = root.contains(document.activeElement) && document.activeElement.closest(".ckx-nest li");
    const place = focused && [focused.parentElement === sides.a.nest ? "a" : "b", [...focused.parentElement.children].indexOf(focused)];
    const scale = {
      bits: Math.max(...both.flatMap(({ flows }) => flows.map(({ bits }) => bits)), 1),
      energy_pj: Math.max(...both.flatMap(({ boxes }) => boxes.map(({ energy_pj }) => energy_pj))),
    };
    for (const name of Object.keys(SIDES)) drawSide(name, answer[name], scale);
    if (place) sides[place[0]].nest.children[place[1]]?.querySelector("button")?.focus();
    root.classList.toggle("ckx-single", both.length < 2);
    mark();
    if (details.open) showTable();
  };
  const showTable = () => {
    const cells = (row, side) => (row[side] ? [row[side].text, row[side].energy] : ["", ""]);
    table.show(model.get("answer").rows.map((row) => [row.level, row.operand, row.direction, ...cells(row, "a"), ...cells(row, "b")]));
  };
  const data = () => [
    ["level", "operand", "direction", "A bit", "A pJ", "B bit", "B pJ"],
    ...model.get("answer").rows.map((row) => [row.level, row.operand, row.direction, row.a?.bits, row.a?.pj, row.b?.bits, row.b?.pj]),
  ];
  const typed = Object.fromEntries(Object.entries(sides).map(([name, ui]) => [name, typing(ui.text)]));
  const choices = (answer) => {
    const known = setup.machines[answer.machine];
    network.select.value = answer.network;
    machine.select.value = answer.machine;
    about.textContent = known.about;
    fillOptions(layer.select, Object.fromEntries(answer.layers.map(({ name, about: words }) => [name, `${name} (${words})`])));
    layer.select.value = answer.layer;
    for (const [name, ui] of Object.entries(sides)) {
      fillOptions(ui.flow, known.dataflows);
      const { goal, dataflow, text } = answer[name].choice;
      ui.goal.value = goal;
      ui.flow.value = dataflow;
      if (goal === "asked" && !typed[name]()) ui.text.value = text;
      for (const option of ui.goal.options) option.disabled = !known.chooses && !["latency", "none"].includes(option.value);
      ui.goal.title = known.chooses ? "" : "A generated accelerator has one mapping";
    }
    arrange();
  };
  const arrange = () => {
    for (const ui of Object.values(sides)) {
      ui.ask.hidden = ui.goal.value !== "asked";
      ui.flowRow.hidden = ui.goal.value === "none";
    }
  };
  const show = (answer, more) => {
    const error = answer.error;
    for (const [name, ui] of Object.entries(sides)) {
      const mine = error?.control === name;
      ui.error.textContent = mine ? error.text : "";
      ui.text.setAttribute("aria-invalid", String(mine));
    }
    other.textContent = error && !(error.control in sides) ? error.text : "";
    root.classList.toggle("ckx-stale", Boolean(error));
    state.textContent = error ? "Not possible: see the message. Shown is the last mapping that is." : "";
    state.classList.toggle("ckx-bad", Boolean(error));
    if (error) return;
    if (!more) choices(answer);
    title.textContent = answer.finding;
    draw();
  };
  for (const select of [network.select, layer.select]) select.addEventListener("change", talk.ask);
  machine.select.addEventListener("change", () => {
    const known = setup.machines[machine.select.value];
    for (const [name, ui] of Object.entries(sides)) {
      fillOptions(ui.flow, known.dataflows);
      ui.flow.value = known.dataflow;
      if (!known.chooses) ui.goal.value = name === "a" ? "latency" : "none";
    }
    talk.ask();
  });
  for (const [name, ui] of Object.entries(sides)) {
    ui.goal.addEventListener("change", () => {
      arrange();
      if (ui.goal.value === "asked" && !ui.text.value.trim()) ui.text.focus();
      else talk.ask();
    });
    ui.flow.addEventListener("change", talk.ask);
    ui.text.addEventListener("change", () => ui.goal.value === "asked" && talk.ask());
    ui.save.append(...saveButtons(ui.svg, `mapping ${SIDES[name]}`, () => `${model.get("answer").layer}, ${SIDES[name]}: ${setup.goals[ui.goal.value]}`, data));
  }
  details.addEventListener("toggle", () => details.open && model.get("answer").rows && showTable());
  const stopTheme = followTheme(root, () => {});
  let wide = 0;
  const resized = new ResizeObserver(() => {
    const now = sides.a.plot.clientWidth + sides.b.plot.clientWidth;
    if (now === wide) return;
    wide = now;
    draw();
  });
  for (const ui of Object.values(sides)) resized.observe(ui.plot);
  const reselected = () => mark();
  model.on("change:selected", reselected);

  const first = model.get("answer");
  show(first, false);
  if (first.error && first.a) {
    choices(first);
    draw();
  }
  return () => {
    talk.stop();
    stopTheme();
    resized.disconnect();
    model.off("change:selected", reselected);
  };
}

export default { render };
