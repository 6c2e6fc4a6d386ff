// The page of a ClusterWatch: the kernel tells, this draws. page.js stands before this text.

const COLUMNS = { when: "When", change: "Workers", signal: "Signal", why: "Why" };

function logTable() {
  const body = make("tbody");
  const heads = Object.values(COLUMNS).map((name) => make("th", { scope: "col" }, name));
  const table = make("table", { className: "ckx-log" }, make("caption", {}, "Decisions, the latest first"), make("thead", {}, make("tr", {}, ...heads)), body);
  const empty = make("p", { className: "ckx-hint" }, "No decision so far: the workers that are there are enough.");
  let shown = "";
  const show = (rows) => {
    const now = JSON.stringify(rows);
    if (now === shown) return;
    shown = now;
    const cells = (row) => Object.entries(COLUMNS).map(([key, name]) => make("td", { "data-label": name, className: `ckx-${key}` }, row[key]));
    body.replaceChildren(...rows.map((row) => make("tr", {}, ...cells(row))));
    table.hidden = rows.length === 0;
    empty.hidden = rows.length > 0;
  };
  // a region that scrolls has to be reachable by keyboard
  const frame = make("div", { className: "ckx-scroll", role: "region", "aria-label": "Decisions" }, table, empty);
  frame.tabIndex = 0;
  return { frame, show };
}

function render({ model, el }) {
  const id = viewId();
  const select = make("select", { id: `${id}-span` }, ...model.get("setup").spans.map((name) => make("option", { value: name }, name)));
  const state = make("p", { className: "ckx-state", role: "status" });
  const error = make("p", { className: "ckx-error", role: "alert" });
  const tiles = make("dl", { className: "ckx-tiles" });
  const shell = figureShell(340);
  const log = logTable();
  const span = make("div", { className: "ckx-network ckx-span" }, make("label", { for: `${id}-span` }, "Picture of"), select);
  const head = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), state, tiles);
  const root = make("div", { className: "ckx ckx-watch" }, head, shell, span, error, log.frame);
  el.append(root);
  el.classList.add("ckx-host");
  const view = figureView(shell, () => root.dataset.dark === "true");

  const show = (answer) => {
    error.textContent = answer.error ? answer.error.text : "";
    if (answer.error) return;
    state.textContent = answer.closed ? "The cluster is closed; this is how it went." : answer.figure ? "" : "The first look at the cluster is on its way.";
    drawTiles(tiles, answer.tiles);
    tiles.hidden = answer.tiles.length === 0;
    shell.hidden = !answer.figure;
    if (answer.figure) view.show(answer.figure);
    log.show(answer.rows);
  };
  const talk = conversation(
    model,
    root,
    () => ({ span: select.value }),
    (answer) => show(answer),
  );
  select.addEventListener("change", talk.ask);
  const stopTheme = followTheme(root, () => view.draw());
  select.value = model.get("answer").span;
  show(model.get("answer"));
  plotlyFor(model)
    .then((loaded) => {
      Plotly = loaded;
      view.start();
    })
    .catch((problem) => {
      state.textContent = `The figure cannot be drawn: ${problem.message}`;
    });
  return () => {
    talk.stop();
    stopTheme();
    view.stop();
  };
}

export default { render };
