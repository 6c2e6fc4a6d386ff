// The page of an ExplorationMonitor: the kernel tells how it goes, this draws. page.js stands before this text.

const BEST_HEADS = ["Which", "Design"];
const DECISION_HEADS = { when: "When", change: "Workers", signal: "Signal", why: "Why" };

// A table that is built anew only when its rows differ. On a phone each cell carries its column's name.
function rowsTable(caption, className) {
  const head = make("tr");
  const body = make("tbody");
  const table = make("table", { className: `ckx-rows ${className}` }, make("caption", {}, caption), make("thead", {}, head), body);
  // a region that scrolls has to be reachable by keyboard
  const frame = make("div", { className: "ckx-scroll", role: "region", "aria-label": caption }, table);
  frame.tabIndex = 0;
  let shown = "";
  const show = (names, rows) => {
    const now = JSON.stringify([names, rows]);
    frame.hidden = rows.length === 0;
    if (now === shown) return;
    shown = now;
    head.replaceChildren(...names.map((name) => make("th", { scope: "col" }, name)));
    const cell = (text, at) => make(at === 0 ? "th" : "td", { "data-label": names[at], ...(at === 0 ? { scope: "row" } : {}) }, text);
    body.replaceChildren(...rows.map((row) => make("tr", {}, ...row.map(cell))));
  };
  return { frame, show };
}

function axisSelect(id, label) {
  const select = make("select", { id });
  const row = make("div", { className: "ckx-network" }, make("label", { for: id }, label), select);
  const show = (objectives, value) => {
    const names = objectives.map(([name]) => name).join();
    if (select.dataset.names !== names) {
      select.dataset.names = names;
      select.replaceChildren(...objectives.map(([name, words]) => make("option", { value: name }, words)));
    }
    select.value = value;
  };
  return { select, row, show };
}

function pageOf(id, setup) {
  const button = (text) => make("button", { type: "button", className: "ckx-button" }, text);
  const start = button("Start");
  start.classList.add("ckx-main");
  const cancel = button("Cancel");
  const buttons = make("div", { className: "ckx-buttons", hidden: !setup.actions }, start, cancel);
  const state = make("p", { className: "ckx-state", role: "status" });
  const doing = make("p", { className: "ckx-hint ckx-doing" });
  const bar = make("progress", { className: "ckx-progress", max: 1, "aria-label": "Designs looked at" });
  const error = make("p", { className: "ckx-error", role: "alert" });
  const wrong = make("p", { className: "ckx-error", role: "alert" });
  const tiles = make("dl", { className: "ckx-tiles" });
  const shells = { front: figureShell(380), growth: figureShell(220), workers: figureShell(340) };
  const x = axisSelect(`${id}-x`, "Across");
  const y = axisSelect(`${id}-y`, "Up");
  const axes = make("div", { className: "ckx-axes" }, x.row, y.row);
  const best = rowsTable("Best so far", "ckx-best");
  const barred = rowsTable("Why designs are left out", "ckx-barred");
  const decisions = rowsTable("Decisions of the cluster, the latest first", "ckx-decisions");
  const head = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), state, bar, doing, buttons, error, tiles);
  const left = make("div", { className: "ckx-main" }, axes, wrong, shells.front);
  const right = make("div", { className: "ckx-side" }, shells.growth, barred.frame);
  const columns = make("div", { className: "ckx-columns" }, left, right);
  const advice = make("section", { className: "ckx-advice", hidden: true });
  const root = make("div", { className: "ckx ckx-monitor" }, head, advice, columns, best.frame, shells.workers, decisions.frame);
  return { root, start, cancel, state, doing, bar, error, wrong, tiles, shells, x, y, axes, best, barred, decisions, advice, columns };
}

function render({ model, el }) {
  const id = viewId();
  const ui = pageOf(id, model.get("setup"));
  const { root } = ui;
  el.append(root);
  el.classList.add("ckx-host");
  const isDark = () => root.dataset.dark === "true";
  const views = Object.fromEntries(Object.entries(ui.shells).map(([name, shell]) => [name, figureView(shell, isDark)]));
  let action = "look";

  const showState = (answer) => {
    const running = answer.state === "running" || answer.state === "stopping";
    ui.state.textContent = answer.told;
    root.dataset.state = answer.state;
    ui.doing.textContent = answer.doing;
    ui.bar.hidden = !running;
    if (running && answer.total) ui.bar.value = answer.done / answer.total;
    else ui.bar.removeAttribute("value"); // a search that has not said how far it is
    ui.start.textContent = answer.state === "stopped" ? "Resume" : answer.state === "ready" || running ? "Start" : "Start again";
    // a button that is disabled while it has the focus would drop it
    for (const [button, off, why] of [[ui.start, running, "It is running"], [ui.cancel, answer.state !== "running", "Nothing is running"]]) {
      button.setAttribute("aria-disabled", String(off));
      button.title = off ? why : "";
    }
  };
  const show = (answer) => {
    const { error } = answer;
    ui.wrong.textContent = error && error.control === "axes" ? error.text : "";
    ui.error.textContent = error && error.control !== "axes" ? error.text : (answer.failure ?? "");
    if (!answer.state) return;
    showState(answer);
    drawTiles(ui.tiles, answer.tiles);
    ui.tiles.hidden = answer.tiles.length === 0;
    ui.axes.hidden = answer.objectives.length < 3;
    if (!error) {
      ui.x.show(answer.objectives, answer.x);
      ui.y.show(answer.objectives, answer.y);
    }
    for (const name of ["front", "growth", "workers"]) {
      ui.shells[name].hidden = !answer[name];
      if (answer[name]) views[name].show(answer[name]);
    }
    ui.advice.hidden = answer.advice.length === 0;
    ui.advice.replaceChildren(make("h3", {}, "What to take"), ...answer.advice.map((line) => make("p", {}, line)));
    ui.columns.classList.toggle("ckx-alone", !answer.growth && answer.barred.length === 0);
    const columns = answer.objectives.map(([, words]) => words);
    ui.best.show([...BEST_HEADS, ...columns], answer.best.map(({ which, design, values }) => [which, design, ...values]));
    ui.barred.show(["Reason", "Designs"], answer.barred);
    ui.decisions.show(Object.values(DECISION_HEADS), answer.decisions.map((row) => Object.keys(DECISION_HEADS).map((key) => row[key])));
  };
  const talk = conversation(
    model,
    root,
    () => {
      const asked = { action, x: ui.x.select.value, y: ui.y.select.value };
      action = "look";
      return asked;
    },
    (answer) => show(answer),
  );
  const press = (button, wanted) =>
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") === "true") return;
      action = wanted;
      talk.ask();
    });
  press(ui.start, "start");
  press(ui.cancel, "cancel");
  // what the other axis shows already, the two exchange
  const choose = (mine, other, before) => () => {
    if (mine.value === other.value) other.value = model.get("answer")[before];
    talk.ask();
  };
  ui.x.select.addEventListener("change", choose(ui.x.select, ui.y.select, "x"));
  ui.y.select.addEventListener("change", choose(ui.y.select, ui.x.select, "y"));

  const stopTheme = followTheme(root, () => {
    for (const view of Object.values(views)) view.draw();
  });
  show(model.get("answer"));
  plotlyFor(model)
    .then((loaded) => {
      Plotly = loaded;
      for (const view of Object.values(views)) view.start();
    })
    .catch((problem) => {
      ui.error.textContent = `The figures cannot be drawn: ${problem.message}`;
    });
  return () => {
    talk.stop();
    stopTheme();
    for (const view of Object.values(views)) view.stop();
  };
}

export default { render };
