// What all pages share: elements, figures that wait for Plotly, light and dark, and one question to the kernel at a time.
// figure.js stands before this text, the script of a page behind it; Plotly is set once the bundle has loaded.

let Plotly;

// Begins the ids of a view. Each widget brings this script of its own, so that the count is the document's.
function viewId() {
  globalThis.codesignViews = (globalThis.codesignViews ?? 0) + 1;
  return `ckx${globalThis.codesignViews}`;
}

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name === "className" ? "class" : name, value);
  }
  node.append(...children);
  return node;
}

function figureShell(minHeight) {
  return make(
    "figure",
    { className: "ck-figure" },
    make("h3", { className: "ck-title" }),
    make("p", { className: "ck-subtitle" }),
    make("div", { className: "ck-plot", role: "img", style: `min-height:${minHeight}px` }),
    make("figcaption", { className: "ck-foot" }, make("p", { className: "ck-caption" }), make("div", { className: "ck-save" })),
  );
}

// A figure that can be shown again and again; nothing is drawn before Plotly is there.
function figureView(shell, isDark) {
  let mounted;
  let latest;
  return {
    show(spec) {
      latest = spec;
      shell.querySelector(".ck-title").textContent = spec.title;
      shell.querySelector(".ck-subtitle").textContent = spec.subtitle;
      shell.querySelector(".ck-caption").textContent = spec.caption;
      shell.querySelector(".ck-plot").setAttribute("aria-label", spec.alt);
      if (mounted) mounted.show(spec);
      else if (Plotly) mounted = ckMount(shell, spec, isDark);
    },
    start() {
      if (latest) this.show(latest);
    },
    draw: () => mounted?.draw(),
    stop: () => mounted?.stop(),
  };
}

function darkness(root) {
  const found = getComputedStyle(root).backgroundColor.match(/[\d.]+/g);
  // an element outside of the page has no colour yet
  if (!found) return matchMedia("(prefers-color-scheme: dark)").matches;
  const [r, g, b] = found.map(Number);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 110;
}

// Calls changed() when the page turns dark or light; root.dataset.dark says which it is. Returns how to stop.
function followTheme(root, changed) {
  root.dataset.lmSuppressShortcuts = "true"; // keys pressed in a widget are its own, not JupyterLab's
  const theme = () => {
    const dark = String(darkness(root));
    if (root.dataset.dark === dark) return;
    root.dataset.dark = dark;
    changed();
  };
  const placed = new ResizeObserver(theme);
  placed.observe(root);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const later = () => setTimeout(theme, 200); // the page's own colours change first
  const watch = new MutationObserver(later);
  watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  scheme.addEventListener("change", later);
  theme();
  return () => {
    watch.disconnect();
    placed.disconnect();
    scheme.removeEventListener("change", later);
  };
}

// Whether somebody types in a field: an answer to what was asked before does not take that back. Returns a function.
function typing(field) {
  let typed = false;
  field.addEventListener("input", () => {
    typed = true;
  });
  for (const kind of ["change", "blur"]) {
    field.addEventListener(kind, () => {
      typed = false;
    });
  }
  return () => typed;
}

// One question at a time: what is asked meanwhile is asked once, when the answer is there. question() gives its fields;
// root turns to ckx-waiting after a tenth of a second. answered(answer) is called for each; asked means that another
// question is on its way, so that what the answer says is out of date. Returns { ask, stop }.
// A widget can have several views, which share one model: a question has a number that none of them has used, and an
// answer to a later one, which may have taken the place of ours on its way, is an answer to ours.
function conversation(model, root, question, answered) {
  const numberOf = (sent) => (Number.isSafeInteger(sent?.seq) ? sent.seq : 0);
  let seq = 0;
  let waiting = false;
  let again = false;
  let timer;
  const ask = () => {
    if (waiting) {
      again = true;
      return;
    }
    waiting = true;
    seq = Math.max(seq, numberOf(model.get("answer")), numberOf(model.get("query"))) + 1;
    // under a tenth of a second nothing moves
    clearTimeout(timer);
    timer = setTimeout(() => root.classList.add("ckx-waiting"), 100);
    model.set("query", { ...question(), seq });
    model.save_changes();
  };
  const heard = () => {
    const answer = model.get("answer");
    const mine = waiting && numberOf(answer) >= seq;
    const more = mine && again;
    if (mine) {
      waiting = again = false;
      // what is drawn now is out of date already if there is another question
      if (!more) {
        clearTimeout(timer);
        root.classList.remove("ckx-waiting");
      }
    }
    if (more) ask();
    answered(answer, more);
  };
  model.on("change:answer", heard);
  return {
    ask,
    stop: () => {
      clearTimeout(timer);
      model.off("change:answer", heard);
    },
  };
}

function drawTiles(list, tiles) {
  list.replaceChildren(
    ...tiles.map(({ label, value, note, state }) =>
      make("div", {}, make("dt", {}, label), make("dd", { className: state ? `ckx-${state}` : "" }, make("b", {}, value), make("span", {}, note))),
    ),
  );
}

// A page that is drawn anew when its setup changes: another network to choose from, another machine.
function renewed(draw) {
  return ({ model, el }) => {
    let stop = draw({ model, el });
    const again = () => {
      stop?.();
      el.replaceChildren();
      stop = draw({ model, el });
    };
    model.on("change:setup", again);
    return () => {
      model.off("change:setup", again);
      stop?.();
    };
  };
}

async function plotlyFor(model) {
  const bundle = await model.widget_manager.get_model(model.get("bundle").replace("IPY_MODEL_", ""));
  for (let tries = 0; !globalThis.codesignPlotly && tries < 1200; tries += 1) await new Promise((done) => setTimeout(done, 50));
  if (!bundle || !globalThis.codesignPlotly) throw new Error("Plotly did not arrive; reload the page");
  return globalThis.codesignPlotly;
}

