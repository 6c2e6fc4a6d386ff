// The page of a Console: the kernel tells, this draws. page.js stands before this text.

const EVERY_MS = 10_000;
// a page that nobody has touched for so long asks no more: its kernel may end
const PATIENCE_MS = 15 * 60_000;
const KERNELS = { app: "App", owner: "Owner", state: "State", age: "Age", idle: "Idle", cpu: "Processor", memory: "Memory" };
const JOBS = { kind: "Job", owner: "Owner", state: "State", done: "Done", message: "Says" };
const ENTRIES = { time: "Time (UTC)", event: "Event", who: "Who", data: "What" };
const LONG = new Set(["data", "message"]); // columns whose texts are broken into lines
const SVG = "http://www.w3.org/2000/svg";

// A table that is drawn anew when its rows change; buttons keep the focus.
function liveTable(caption, columns, none, action) {
  const body = make("tbody");
  const heads = Object.values(columns).map((name) => make("th", { scope: "col" }, name));
  if (action) heads.push(make("th", { scope: "col" }, make("span", { className: "ckx-hidden" }, "Stop")));
  const table = make("table", { className: "ckx-table" }, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...heads)), body);
  const empty = make("p", { className: "ckx-hint" }, none);
  const frame = make("div", { className: "ckx-frame", role: "region", "aria-label": caption }, table, empty);
  frame.tabIndex = 0;
  let shown = "";
  const show = (rows) => {
    const now = JSON.stringify(rows);
    if (now === shown) return;
    shown = now;
    const focus = body.contains(document.activeElement) ? document.activeElement.dataset.id : undefined;
    body.replaceChildren(
      ...rows.map((row) => {
        const [first, ...rest] = Object.entries(columns);
        const cells = [make("th", { scope: "row" }, row[first[0]]), ...rest.map(([key, name]) => make("td", { "data-label": name, className: LONG.has(key) ? "ckx-long" : "" }, row[key]))];
        if (action) cells.push(make("td", { className: "ckx-act" }, ...action(row)));
        return make("tr", {}, ...cells);
      }),
    );
    if (focus) body.querySelector(`[data-id="${CSS.escape(focus)}"]`)?.focus();
    table.hidden = rows.length === 0;
    empty.hidden = rows.length > 0;
  };
  show([]);
  return { frame, show };
}

function line(values, top, width, height) {
  const step = width / Math.max(1, values.length - 1);
  let pen = "M";
  const path = [];
  values.forEach((value, n) => {
    if (value === null) {
      pen = "M";
      return;
    }
    path.push(`${pen}${(n * step).toFixed(1)} ${(height - 2 - (height - 6) * (top > 0 ? value / top : 0)).toFixed(1)}`);
    pen = "L";
  });
  const drawn = document.createElementNS(SVG, "path");
  drawn.setAttribute("d", path.join(""));
  return drawn;
}

function plot({ title, now, most, alt, lines, top }) {
  const [width, height] = [240, 56];
  const picture = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": alt })) {
    picture.setAttribute(name, value);
  }
  lines.forEach(({ values }, n) => {
    const drawn = line(values, top, width, height);
    drawn.setAttribute("class", `ckx-line${n}`);
    picture.append(drawn);
  });
  const keys = lines.length > 1 ? lines.map(({ name }, n) => make("span", { className: `ckx-key ckx-key${n}` }, name)) : [];
  const head = make("h3", {}, title, make("b", {}, now));
  return make("section", { className: "ckx-plot" }, head, picture, make("p", {}, ...keys, make("span", {}, `at most ${most}`)));
}

function card({ title, state, word, about, breakers }) {
  const said = make("p", { className: `ckx-word ckx-is-${state}` }, word);
  const rest = [make("p", { className: "ckx-about" }, about), ...(breakers ? [make("p", { className: "ckx-about" }, breakers)] : [])];
  return make("section", { className: "ckx-card" }, make("h3", {}, title), said, ...rest);
}

function render({ model, el }) {
  const id = viewId();
  const { spans, acts, where } = model.get("setup");
  let question = { do: "look" };
  let touched = performance.now();
  let paused = false;
  const ask = (doing, one = "") => {
    question = { do: doing, id: one };
    talk.ask();
  };
  // what cannot be taken back is asked for twice, also if the table is drawn anew in between
  const sure = new Set();
  let drawing = false;
  const stopper = (doing, label) => (row) => {
    if (!acts || row.open === "" || row.state === "ending") return [];
    const button = make("button", { type: "button", className: "ckx-button", "data-id": row.id });
    const say = () => {
      button.textContent = sure.has(row.id) ? "Really stop" : "Stop";
      button.setAttribute("aria-label", `${button.textContent} ${label} ${row.id.slice(0, 8)}`);
    };
    button.addEventListener("click", () => {
      if (sure.has(row.id)) return ask(doing, row.id);
      sure.add(row.id);
      return say();
    });
    button.addEventListener("blur", () => {
      if (drawing) return;
      sure.delete(row.id);
      say();
    });
    say();
    return [button];
  };

  const state = make("p", { className: "ckx-state", role: "status" }, where);
  const at = make("span", { className: "ckx-hint" });
  const pause = make("button", { type: "button", className: "ckx-button", "aria-pressed": "false" }, "Pause");
  const now = make("button", { type: "button", className: "ckx-button" }, "Look now");
  const error = make("p", { className: "ckx-error", role: "alert" });
  const said = make("p", { className: "ckx-said", role: "status" });
  const tiles = make("dl", { className: "ckx-tiles" });
  const plots = make("div", { className: "ckx-plots" });
  const cards = make("div", { className: "ckx-cards" });
  const kernels = liveTable("Kernels", KERNELS, "No kernel runs.", stopper("stop_kernel", "kernel"));
  const jobs = liveTable("Jobs", JOBS, "No job was submitted yet.", stopper("stop_job", "job"));
  const event = make("input", { type: "search", id: `${id}-event`, list: `${id}-events`, maxLength: 64, placeholder: "any" });
  const events = make("datalist", { id: `${id}-events` });
  const who = make("input", { type: "search", id: `${id}-who`, maxLength: 64, placeholder: "anybody" });
  const span = make("select", { id: `${id}-span` }, ...spans.map((name) => make("option", { value: name }, name)));
  const verify = make("button", { type: "button", className: "ckx-button", disabled: !acts }, "Verify the trail");
  const entries = liveTable("Audit trail, the latest first", ENTRIES, "No such entries.");
  const field = (label, control) => make("div", { className: "ckx-field" }, make("label", { for: control.id }, label), control);
  const filters = make("div", { className: "ckx-filters" }, field("Event", event), field("Who", who), field("Time", span), verify, events);
  const head = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), make("div", { className: "ckx-now" }, at, pause, now), state, tiles, error, said);
  const heading = (text) => make("h2", {}, text);
  const root = make(
    "div",
    { className: "ckx ckx-console" },
    head,
    plots,
    heading("Health"),
    cards,
    heading("What runs"),
    kernels.frame,
    jobs.frame,
    heading("What happened"),
    filters,
    entries.frame,
  );
  el.append(root);
  el.classList.add("ckx-host");

  const show = (answer) => {
    error.textContent = answer.error ? answer.error.text : "";
    if (answer.said?.text !== undefined || question.do !== "look") {
      said.textContent = answer.error ? "" : (answer.said?.text ?? "");
      said.className = `ckx-said ckx-is-${answer.said?.state ?? "good"}`;
    }
    question = { do: "look" };
    if (!answer.tiles) return;
    at.textContent = `As of ${answer.at}`;
    drawTiles(tiles, answer.tiles);
    plots.replaceChildren(...answer.plots.map(plot));
    cards.replaceChildren(...answer.parts.map(card));
    drawing = true;
    kernels.show(answer.kernels);
    jobs.show(answer.jobs);
    drawing = false;
    entries.show(answer.audit);
    events.replaceChildren(...answer.events.map((name) => make("option", { value: name })));
  };
  const talk = conversation(
    model,
    root,
    () => ({ ...question, event: event.value.trim().replaceAll(" ", "_"), who: who.value.trim(), span: span.value }),
    (answer) => show(answer),
  );
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
  });
  now.addEventListener("click", () => ask("look"));
  verify.addEventListener("click", () => ask("verify"));
  for (const control of [event, who, span]) control.addEventListener("change", () => ask("look"));
  const touch = () => {
    touched = performance.now();
  };
  for (const kind of ["pointerdown", "keydown"]) root.addEventListener(kind, touch);
  const timer = setInterval(() => {
    const busy = root.classList.contains("ckx-waiting");
    if (!paused && !busy && !document.hidden && performance.now() - touched < PATIENCE_MS) ask("look");
  }, EVERY_MS);
  const stopTheme = followTheme(root, () => {});
  show(model.get("answer"));
  return () => {
    clearInterval(timer);
    talk.stop();
    stopTheme();
  };
}

export default { render };
