// The page of an RtlViewer: sources above, the waveform below, each with its list. waves.js stands before this text.

const button = (words, label = words) => make("button", { type: "button", className: "ckx-button", "aria-label": label, title: label }, words);
const LANGUAGE = { verilog: "Verilog", vhdl: "VHDL" };

function sourceLayout(setup, id) {
  const languages = Object.keys(setup.outline);
  const language = make("select", { id: `${id}-language` }, ...languages.map((name) => make("option", { value: name }, LANGUAGE[name])));
  const file = make("select", { id: `${id}-file` });
  const tree = treeView("Modules");
  const query = make("input", { type: "search", id: `${id}-find`, autocomplete: "off", spellcheck: false, "aria-describedby": `${id}-found`, maxLength: 200 });
  const regex = make("input", { type: "checkbox" });
  const exact = make("input", { type: "checkbox" });
  const found = make("p", { className: "ckx-hint", id: `${id}-found`, role: "status" });
  const hits = make("select", { size: 7, "aria-label": "What was found", className: "ckx-hits", hidden: true });
  const back = button("↑", "Previous hit");
  const on = button("↓", "Next hit");
  const title = make("h4", { className: "ckx-file" });
  const copy = button("Copy");
  const load = button("Download");
  const code = make("div", { className: "ckx-code", role: "region", "aria-label": "Source" });
  code.tabIndex = 0;
  const error = make("p", { className: "ckx-error", role: "alert" });
  const labelled = (text, control) => make("div", { className: "ckx-field" }, make("label", { for: control.id }, text), control);
  const search = make(
    "div",
    { className: "ckx-search", role: "search" },
    labelled("Find in all files", query),
    make("div", { className: "ckx-buttons" }, make("label", { className: "ckx-tick" }, regex, "regex"), make("label", { className: "ckx-tick" }, exact, "case"), back, on),
    found,
    hits,
  );
  const side = make("div", { className: "ckx-side" }, ...(languages.length > 1 ? [labelled("Language", language)] : []), search, make("h4", {}, "Modules"), tree.list);
  const heading = make("h3", { className: "ckx-title" });
  const head = make("div", { className: "ckx-codehead" }, make("div", { className: "ckx-field ckx-filefield" }, make("label", { for: `${id}-file` }, "File"), file), title, copy, load);
  const section = make("section", { className: "ckx-sources", "aria-label": "Sources" }, heading, side, make("div", { className: "ckx-main" }, head, error, code));
  return { language, file, tree, query, regex, exact, found, hits, back, on, title, copy, load, code, error, heading, section };
}

// Sources: the tree, the text, the search. app has { model, view, change(), ask() }.
function sourcePane(app, setup, id) {
  const ui = sourceLayout(setup, id);
  const sources = app.model.get("sources");
  const marks = new Map();
  let starts = [0];
  let result = { hits: [], more: false, wrong: "" };
  let current = -1;
  let searching = false;
  let wanted = 0; // the step to a hit that the reader asked for before the search was done
  let shown;
  const row = (at) => {
    const { file, line } = app.view;
    const text = sources[file];
    const end = at + 1 < starts.length ? starts[at + 1] - 1 : text.length;
    const here = result.hits.filter(([name, number]) => name === file && number === at + 1).map(([, , from, to]) => [from, to]);
    const words = colouredLine(text, starts[at], end, marks.get(file), here);
    return make("div", { className: at + 1 === line ? "ckx-line ckx-here" : "ckx-line" }, make("span", { className: "ckx-number" }, String(at + 1)), make("span", { className: "ckx-text" }, ...words));
  };
  const list = longList(ui.code, row);
  const needed = () => (marks.has(app.view.file) ? null : app.view.file);
  const show = (reveal = true) => {
    const { file, line, language } = app.view;
    if (shown !== file) {
      shown = file;
      starts = linesOf(sources[file]);
      ui.code.scrollLeft = 0;
      list.fill(starts.length);
    }
    ui.language.value = language;
    ui.file.value = file;
    const lines = starts.length.toLocaleString("en-US");
    ui.title.textContent = `${lines} lines`;
    ui.code.setAttribute("aria-label", `${file}, ${lines} lines, line ${line}`);
    if (reveal) list.reveal(line - 1);
    else list.draw();
    if (needed()) app.ask();
  };
  const open = (file, line) => {
    app.view.file = file;
    app.view.line = line;
    app.change();
    show();
  };
  const node = (name, many, instance, isTop) => {
    const { modules } = setup.outline[app.view.language];
    const one = modules[name];
    return {
      label: instance ?? name,
      note: instance ? `${many > 1 ? `× ${many} ` : ""}${name}` : "top",
      many: one.parts.length,
      open: isTop,
      pick: () => open(one.file, one.line),
      parts: () => one.parts.map((part) => node(part.module, part.many, part.name, false)),
    };
  };
  const showLanguage = () => {
    const outline = setup.outline[app.view.language];
    ui.tree.fill(outline && outline.top ? [node(outline.top, 1, undefined, true)] : []);
    const files = setup.files.filter((one) => one.language === app.view.language);
    const lines = files.reduce((sum, one) => sum + one.lines, 0).toLocaleString("en-US");
    const parts = outline ? `${Object.keys(outline.modules).length} ${app.view.language === "vhdl" ? "entities" : "modules"}, ` : "";
    ui.heading.textContent = `${outline ? `${outline.top}: ` : ""}${parts}${lines} lines of ${LANGUAGE[app.view.language]}`;
    ui.file.replaceChildren(...files.map(({ name }) => make("option", { value: name }, name)));
  };
  const showHits = () => {
    const { hits, more, wrong } = result;
    const files = new Set(hits.map(([file]) => file)).size;
    const count = `${hits.length.toLocaleString("en-US")}${more ? " or more" : ""}`;
    const told = hits.length ? `${current >= 0 ? `${current + 1} of ` : ""}${count} in ${files} file${files > 1 ? "s" : ""}` : "Not found";
    ui.found.textContent = wrong || (app.view.find.text ? told : "");
    ui.found.classList.toggle("ckx-error", Boolean(wrong));
    ui.hits.selectedIndex = current;
    ui.back.disabled = ui.on.disabled = !hits.length;
  };
  const find = () => {
    const files = setup.files.map(({ name }) => name);
    // files of the language that is read come first
    const mine = new Set(setup.files.filter((one) => one.language === app.view.language).map(({ name }) => name));
    searching = true;
    ui.found.textContent = app.view.find.regex && app.view.find.text ? "Searching" : "";
    search.ask([...files.filter((name) => mine.has(name)), ...files.filter((name) => !mine.has(name))], app.view.find);
  };
  const showFound = (found) => {
    result = found;
    searching = false;
    current = -1;
    const words = ([file, line, from]) => {
      const text = sources[file];
      const begin = text.lastIndexOf("\n", from - 1) + 1;
      const end = text.indexOf("\n", from);
      return `${line}  ${text.slice(begin, end < 0 ? text.length : end).trim().slice(0, 120)}`;
    };
    const groups = new Map();
    result.hits.forEach((hit, at) => {
      if (!groups.has(hit[0])) groups.set(hit[0], make("optgroup", { label: hit[0] }));
      groups.get(hit[0]).append(make("option", { value: String(at) }, words(hit)));
    });
    ui.hits.replaceChildren(...groups.values());
    ui.hits.hidden = !result.hits.length;
    showHits();
    list.draw();
    const step = wanted;
    wanted = 0;
    if (step) go(step > 0 ? 0 : -1);
  };
  const search = seeker(sources, showFound);
  const go = (at) => {
    if (searching || !result.hits.length) return;
    current = (at + result.hits.length) % result.hits.length;
    const [file, line] = result.hits[current];
    const { language } = setup.files.find(({ name }) => name === file);
    if (language !== app.view.language) {
      app.view.language = language;
      showLanguage();
    }
    open(file, line);
    showHits();
  };
  let later;
  const next = (step) => {
    if (searching) wanted = step;
    else go(current < 0 && step < 0 ? -1 : current + step);
  };
  const typed = () => {
    app.view.find = { text: ui.query.value, regex: ui.regex.checked, case: ui.exact.checked };
    app.change();
    // what was found, or is looked for, is of another text
    search.stop();
    searching = false;
    current = -1;
    wanted = 0;
    clearTimeout(later);
    later = setTimeout(find, 120);
  };
  for (const control of [ui.query, ui.regex, ui.exact]) control.addEventListener("input", typed);
  ui.query.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    clearTimeout(later);
    if (current < 0 && !searching) find();
    next(event.shiftKey ? -1 : 1);
  });
  ui.section.addEventListener("keydown", (event) => {
    if (event.key === "F3") {
      event.preventDefault();
      next(event.shiftKey ? -1 : 1);
    } else if ((event.ctrlKey || event.metaKey) && event.key === "f") {
      event.preventDefault();
      ui.query.select();
    }
  });
  ui.back.addEventListener("click", () => next(-1));
  ui.on.addEventListener("click", () => next(1));
  ui.hits.addEventListener("change", () => go(ui.hits.selectedIndex));
  ui.file.addEventListener("change", () => open(ui.file.value, 1));
  ui.language.addEventListener("change", () => {
    app.view.language = ui.language.value;
    showLanguage();
    const outline = setup.outline[app.view.language];
    const { file, line } = outline.modules[outline.top];
    open(file, line);
  });
  ui.copy.addEventListener("click", async () => {
    const told = await navigator.clipboard.writeText(sources[app.view.file]).then(
      () => "copied",
      () => "this browser does not let it be copied; download it",
    );
    ui.title.textContent = told;
  });
  ui.load.addEventListener("click", () => save(app.view.file, sources[app.view.file]));
  const apply = () => {
    const { text, regex, case: exact } = app.view.find;
    ui.query.value = text;
    ui.regex.checked = regex;
    ui.exact.checked = exact;
    showLanguage();
    if (text) find();
    show();
  };
  const heard = () => {
    const { file, data } = app.model.get("marks");
    if (file === undefined) return;
    marks.set(file, new Uint32Array(bytesOf(data)));
    if (file === app.view.file) list.draw();
  };
  return { section: ui.section, apply, heard, needed, error: ui.error, stop: () => (clearTimeout(later), search.stop(), list.stop()) };
}

function render({ model, el }) {
  const id = viewId();
  const setup = model.get("setup");
  // JupyterLab's own keys (0 twice restarts the kernel) are not for what happens in here
  const root = make("div", { className: "ckx ckx-rtl" });
  const state = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }));
  el.append(root);
  el.classList.add("ckx-host");
  let sent = "";
  let later;
  let failed = false;
  const app = {
    model,
    root,
    view: structuredClone(model.get("view")),
    change() {
      clearTimeout(later);
      later = setTimeout(() => {
        sent = JSON.stringify(app.view);
        model.set("view", structuredClone(app.view));
        model.save_changes();
      }, 200);
    },
    ask() {
      failed = false;
      talk.ask();
    },
  };
  const source = sourcePane(app, setup, id);
  const wave = setup.run ? wavePane(app, setup, id) : undefined;
  root.append(state, source.section, ...(wave ? [wave.section] : []));
  const talk = conversation(
    model,
    root,
    () => ({ file: source.needed(), ...(wave ? wave.needed() : { signals: null }) }),
    (answer, more) => {
      const error = answer.error;
      failed = Boolean(error);
      source.error.textContent = error && error.control === "file" ? error.text : "";
      if (wave) wave.error.textContent = error && error.control === "waves" ? error.text : "";
      if (!failed && !more && wave?.needed().signals) talk.ask();
    },
  );
  const heardView = () => {
    const given = model.get("view");
    if (JSON.stringify(given) === sent || JSON.stringify(given) === JSON.stringify(app.view)) return;
    app.view = structuredClone(given);
    source.apply();
    wave?.apply();
  };
  const heardWaves = () => wave?.heard();
  model.on("change:view", heardView);
  model.on("change:marks", source.heard);
  model.on("change:waves", heardWaves);
  const stopTheme = followTheme(root, () => wave?.draw());
  source.heard();
  source.apply();
  wave?.heard();
  wave?.apply();
  return () => {
    clearTimeout(later);
    talk.stop();
    model.off("change:view", heardView);
    model.off("change:marks", source.heard);
    model.off("change:waves", heardWaves);
    stopTheme();
    source.stop();
    wave?.stop();
  };
}

export default { render };
