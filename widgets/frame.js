// The page of an AppFrame: tabs, and under them the view of the widget that is open. page.js stands before this text.

function render({ model, el }) {
  const id = viewId();
  const { sections, label, keep } = model.get("setup");
  const bar = make("div", { className: "ckx-bar" });
  const list = make("div", { className: "ckx-tabs", role: "tablist", "aria-label": label });
  const keeper = make("button", { type: "button", className: "ckx-button ckx-keep", hidden: !keep }, "Keep");
  const kept = make("p", { className: "ckx-kept", role: "status" });
  const head = make("div", { className: keep ? "ckx-tabbed ckx-keeps" : "ckx-tabbed" }, bar, list, keeper);
  const error = make("p", { className: "ckx-error", role: "alert" });
  const root = make("div", { className: "ckx ckx-app" }, head, kept, error);
  const views = new Map(); // title -> a promise of its views
  const shown = new Map(); // title -> the models that it shows, as text
  let open = model.get("answer").section ?? sections[0];
  let gone = false;
  let keeping = false; // the next question is to keep what there is
  const parts = new Map(
    sections.map((title, n) => {
      const tab = make("button", { type: "button", role: "tab", className: "ckx-tab", id: `${id}-tab${n}`, "aria-controls": `${id}-panel${n}` }, title);
      const panel = make("div", { role: "tabpanel", id: `${id}-panel${n}`, "aria-labelledby": `${id}-tab${n}`, className: "ckx-panel" });
      return [title, { tab, panel }];
    }),
  );
  list.append(...[...parts.values()].map(({ tab }) => tab));
  root.append(...[...parts.values()].map(({ panel }) => panel));
  list.hidden = sections.length < 2;
  el.append(root);
  el.classList.add("ckx-host");

  const mark = () => {
    for (const [title, { tab, panel }] of parts) {
      const mine = title === open;
      tab.setAttribute("aria-selected", String(mine));
      tab.tabIndex = mine ? 0 : -1;
      panel.hidden = !mine;
      panel.classList.toggle("ckx-coming", !views.has(title));
    }
  };
  const place = async (title, found) => {
    const manager = model.widget_manager;
    const made = await Promise.all(found.map(async (name) => manager.create_view(await manager.get_model(name), {})));
    if (gone) return made.map((view) => view.remove());
    parts.get(title).panel.replaceChildren(...made.map((view) => view.el));
    for (const view of made) view.trigger("displayed");
    return made;
  };
  // only what is open is drawn; what was open before stays as it was left
  const fill = (answer) => {
    const found = answer.models?.[open];
    for (const [title, models] of shown) {
      if (String(answer.models?.[title]) === models) continue; // the section was made anew
      views.get(title)?.then((made) => made.forEach((one) => one?.remove()), () => {});
      views.delete(title);
      shown.delete(title);
      parts.get(title).panel.replaceChildren();
    }
    if (found && !views.has(open)) {
      const title = open;
      shown.set(title, String(found));
      views.set(title, place(title, found));
      views.get(title).catch((problem) => {
        views.delete(title);
        error.textContent = `This part cannot be drawn: ${problem.message}`;
      });
    }
    mark();
  };
  const question = () => {
    const asked = { section: open, keep: keeping };
    keeping = false;
    return asked;
  };
  const talk = conversation(model, head, question, (answer, more) => {
    error.textContent = answer.error ? answer.error.text : "";
    kept.textContent = answer.error ? "" : answer.kept ?? "";
    if (more) return;
    open = answer.section;
    fill(answer);
  });
  const go = (title, focus) => {
    if (focus) parts.get(title).tab.focus();
    if (title === open) return;
    open = title;
    mark();
    talk.ask();
  };
  for (const [title, { tab }] of parts) tab.addEventListener("click", () => go(title, false));
  list.addEventListener("keydown", (event) => {
    const at = sections.indexOf(open);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: sections.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(sections[(to + sections.length) % sections.length], true);
  });
  keeper.addEventListener("click", () => {
    keeping = true;
    talk.ask();
  });
  const stopTheme = followTheme(root, () => {});
  fill(model.get("answer"));
  return () => {
    gone = true;
    talk.stop();
    stopTheme();
    for (const coming of views.values()) coming.then((made) => made.forEach((one) => one?.remove()), () => {});
  };
}

export default { render };
