// The page of an ArrayAnimator: play, step, scrub, choose an element. The kernel simulates; page.js, array_stage.js,
// array_words.js and array_parts.js stand before this text.

function render({ model, el }) {
  const id = viewId();
  const setup = model.get("setup");
  const ui = arrayLayout(setup, id);
  const matrices = matrixView((what) => follow(what));
  const history = historyView();
  const table = cycleTable();
  const details = make("details", {}, make("summary", {}, "All elements of this cycle as a table"), table.frame);
  const unchosen = make("p", { className: "ckx-hint" }, "Choose a PE, and its work is listed here.");
  const follows = followRow((what) => follow(what));
  const aside = make("div", { className: "ckx-beside" }, matrices.frame, make("div", { className: "ckx-element" }, unchosen, follows.frame, history.frame));
  const head = make("div", { className: "ckx-head" }, make("div", { className: "ckx-bar" }), ui.title, ui.subtitle);
  const root = make("div", { className: "ckx ckx-animator" }, head, ui.form, make("div", { className: "ckx-play" }, ui.stageSide, aside), details);
  root.tabIndex = -1; // a click on anything in it brings the keys here
  el.append(root);
  el.classList.add("ckx-host");

  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let shades = {};
  const colours = () => shades;
  const plot = plotView(ui.plot, colours);
  let traces = {};
  let look = { ...model.get("view") };
  let mode = "paused"; // or "playing", or "step": one cycle
  let p = 0;
  let frame = 0;
  let before = 0;
  let saving;
  const boxes = Object.fromEntries(Object.entries(setup.labels).map(([label, words]) => [label, arrayBox(label, words, colours, (...chosen) => choose(...chosen))]));
  ui.arrays.append(...Object.values(boxes).map((one) => one.box));

  const wanted = () => (look.compare ? Object.keys(setup.labels) : [look.label]);
  const shown = () => wanted().filter((label) => traces[label]);
  const current = () => traces[look.label] ?? Object.values(traces)[0];
  const length = () => Math.max(...shown().map((label) => traces[label].length), 1);
  const keep = () => {
    clearTimeout(saving);
    saving = setTimeout(() => {
      saving = undefined;
      model.set("view", { ...look });
      model.save_changes();
    }, 300);
  };

  const paint = () => {
    const style = getComputedStyle(root);
    shades = Object.fromEntries(SHADES.map((name) => [name, style.getPropertyValue(`--ck-${name}`).trim()]));
    shades.dark = root.dataset.dark === "true";
    const part = still.matches ? 0 : p;
    for (const label of shown()) {
      const trace = traces[label];
      const t = Math.min(look.cycle, trace.length - 1);
      const mine = look.label === label ? look.pe : null;
      boxes[label].picture.draw(trace, t, look.cycle < trace.length - 1 ? part : 0, { chosen: mine, names: look.names, follow: look.follow });
    }
    plot.draw(shown().map((label) => traces[label]), look.cycle, look.cycle < length() - 1 ? part : 0);
  };
  // what changes with the cycle, but for the pictures
  const tell = () => {
    const trace = current();
    const t = Math.min(look.cycle, trace.length - 1);
    const last = length() - 1;
    ui.slider.max = String(last);
    ui.slider.value = String(look.cycle);
    ui.slider.setAttribute("aria-valuetext", `cycle ${look.cycle} of 0 to ${last}`);
    ui.clock.textContent = `Cycle ${look.cycle} / ${last}`;
    // not disabled, which would take the focus away from who steps by keyboard
    for (const [name, end] of Object.entries({ first: 0, back: 0, next: last, last })) ui.buttons[name].button.setAttribute("aria-disabled", String(look.cycle === end));
    ui.sentence.setAttribute("aria-live", mode === "playing" ? "off" : "polite");
    const done = look.pe && trace.step(t, ...look.pe);
    const mine = look.pe ? ` PE ${look.pe[0]}, ${look.pe[1]}: ${done ? `${product(done)}; ${sumText(done)}` : "no multiplication"}.` : "";
    ui.sentence.textContent = (look.compare ? shown().map((label) => `${setup.labels[label]}: ${traces[label].busy[look.cycle] ?? 0} of ${traces[label].rows * traces[label].cols} PEs multiply.`).join(" ") : trace.cycles[t]) + mine + whereIs(trace, look.follow, t);
    ui.why.textContent = look.compare ? "" : trace.why[t];
    matrices.show(trace, t, look.follow);
    follows.show(trace, look.pe, t, look.follow);
    history.show(trace, JSON.stringify([look.label, model.get("answer").seq]), look.pe, t);
    unchosen.hidden = Boolean(look.pe);
    if (details.open) table.show(trace, t);
  };
  const stop = () => {
    mode = "paused";
    p = 0;
    ui.buttons.play.set("play", "Play");
    root.classList.remove("ckx-playing");
    tell();
    paint();
    keep();
  };
  const tick = (time) => {
    const seconds = Math.min(0.1, (time - before) / 1000);
    before = time;
    p += seconds * (mode === "step" ? 2.8 : look.speed);
    if (p >= 1) {
      p -= 1;
      look.cycle += 1;
      if (mode === "step" || look.cycle >= length() - 1) return stop();
      tell();
    }
    paint();
    frame = requestAnimationFrame(tick);
  };
  const run = (how) => {
    cancelAnimationFrame(frame);
    mode = how;
    before = performance.now();
    frame = requestAnimationFrame(tick);
  };
  const go = (cycle) => {
    cancelAnimationFrame(frame);
    look.cycle = Math.max(0, Math.min(length() - 1, cycle));
    stop();
  };
  const forward = () => {
    if (mode === "step") look.cycle = Math.min(length() - 1, look.cycle + 1);
    p = 0;
    if (look.cycle >= length() - 1) return go(look.cycle);
    return still.matches ? go(look.cycle + 1) : run("step");
  };
  const back = () => go(p > 0 ? look.cycle : look.cycle - 1);
  const toggle = () => {
    if (mode === "playing") {
      cancelAnimationFrame(frame);
      return stop();
    }
    if (look.cycle >= length() - 1) look.cycle = 0;
    ui.buttons.play.set("pause", "Pause");
    root.classList.add("ckx-playing");
    return run("playing");
  };
  const choose = (label, pe) => {
    if (label === look.label && JSON.stringify(pe) === JSON.stringify(look.pe)) return;
    look.label = label;
    look.pe = pe;
    arrange();
    keep();
  };

  const follow = (what) => {
    look.follow = JSON.stringify(what) === JSON.stringify(look.follow) ? null : what;
    tell();
    paint();
    keep();
  };

  const legendOf = (trace) => {
    const { stays, right, down } = trace.roles;
    const item = (operand, square, words) => make("li", {}, make("i", { className: `ckx-key ckx-key-${operand}${square ? " ckx-key-square" : ""}` }), words);
    const moves = (operand, way) => `${operand === "outputs" ? "sums" : operand} move ${way}`;
    const grows = make("li", {}, make("i", { className: "ckx-key ckx-key-scale" }), `|sum|, up to ${trace.largest}`);
    return [item(stays, true, `${stays === "outputs" ? "sums" : stays} stay`), item(right, false, moves(right, "right")), item(down, false, moves(down, "down")), make("li", {}, make("i", { className: "ckx-key ckx-key-busy" }), "multiplies"), make("li", {}, make("i", { className: "ckx-key ckx-key-idle" }), "idle"), grows];
  };
  // what changes with what is shown
  const arrange = () => {
    const trace = current();
    const visible = shown();
    look.cycle = Math.min(look.cycle, length() - 1);
    if (look.pe) look.pe = [Math.min(look.pe[0], trace.rows - 1), Math.min(look.pe[1], trace.cols - 1)];
    if (look.follow && !(placeIn(trace, look.follow) >= 0)) look.follow = null;
    ui.radios.forEach((radio) => {
      radio.checked = radio.value === look.label;
    });
    ui.compare.checked = look.compare;
    ui.names.checked = look.names;
    ui.speed.value = String(look.speed);
    root.classList.toggle("ckx-compare", look.compare);
    const order = visible.toSorted((one, other) => traces[one].length - traces[other].length);
    const words = (label) => `${setup.labels[label].toLowerCase()} ${traces[label].length}`;
    ui.title.textContent = look.compare && order.length > 1 ? `Cycles: ${order.map(words).join(", ")}` : trace.finding;
    ui.subtitle.textContent = trace.subtitle;
    ui.legend.hidden = look.compare;
    if (!look.compare) ui.legend.replaceChildren(...legendOf(trace));
    for (const [label, one] of Object.entries(boxes)) {
      one.box.hidden = !visible.includes(label);
      one.box.classList.toggle("ckx-current", look.compare && label === look.label);
      if (one.box.hidden) continue;
      one.fit(traces[label], look.compare);
      one.mark(label === look.label ? look.pe : null);
      one.note.textContent = look.compare ? `${traces[label].length} cycles, ${Math.round(100 * traces[label].utilization)} %` : "";
    }
    tell();
    paint();
  };

  const readSizes = () => Object.fromEntries(Object.entries(ui.fields).map(([name, field]) => [name, field.value.trim() === "" ? null : Number(field.value)]));
  const typed = Object.fromEntries(Object.entries(ui.fields).map(([name, field]) => [name, typing(field)]));
  const take = (answer) => {
    ui.error.textContent = answer.error ? answer.error.text : "";
    for (const [name, field] of Object.entries(ui.fields)) {
      const wrong = answer.error?.control === name;
      field.setAttribute("aria-invalid", String(wrong));
      field.parentElement.classList.toggle("ckx-wrong", wrong);
      if (!answer.error && !typed[name]()) field.value = String(answer.sizes[name] ?? "");
    }
    ui.own.frame.classList.toggle("ckx-wrong", answer.error?.control === "own");
    if (answer.error) {
      own = answer.own ?? null;
      return;
    }
    own = answer.own ?? null;
    traces = Object.fromEntries(Object.entries(answer.traces).map(([label, packed]) => [label, unpack(packed)]));
    if (!traces[look.label]) look.label = Object.keys(traces)[0];
    arrange();
    if (!own && setup.live) ui.own.fill(current());
  };
  let own = model.get("answer").own ?? null; // the matrices that the reader typed
  const talk = conversation(model, root, () => ({ sizes: readSizes(), own, labels: wanted() }), (answer, more) => more || take(answer));
  const want = () => {
    if (wanted().every((label) => traces[label])) arrange();
    else talk.ask();
    keep();
  };

  ui.radios.forEach((radio) =>
    radio.addEventListener("change", () => {
      look.label = radio.value;
      if (!traces[radio.value]) {
        // until it is there, what was shown stays
        ui.radios.forEach((one) => one.toggleAttribute("checked", one === radio));
      }
      want();
    }),
  );
  ui.compare.addEventListener("change", () => {
    look.compare = ui.compare.checked;
    want();
  });
  ui.names.addEventListener("change", () => {
    look.names = ui.names.checked;
    paint();
    keep();
  });
  ui.speed.addEventListener("change", () => {
    look.speed = Number(ui.speed.value);
    keep();
  });
  for (const [name, field] of Object.entries(ui.fields)) {
    field.addEventListener("change", () => {
      if (!["rows", "cols"].includes(name)) own = null; // another size of matrix is another matrix
      talk.ask();
    });
  }
  ui.own.use.addEventListener("click", () => {
    own = ui.own.texts();
    talk.ask();
  });
  ui.other.addEventListener("click", () => {
    own = null;
    ui.fields.seed.value = String((Number(ui.fields.seed.value) + 1) % 10000);
    talk.ask();
  });
  ui.slider.addEventListener("input", () => go(Number(ui.slider.value)));
  ui.buttons.first.button.addEventListener("click", () => go(0));
  ui.buttons.back.button.addEventListener("click", back);
  ui.buttons.play.button.addEventListener("click", toggle);
  ui.buttons.next.button.addEventListener("click", forward);
  ui.buttons.last.button.addEventListener("click", () => go(length() - 1));
  const scrub = (event) => event.buttons === 1 && go(plot.cycleAt(event, length()));
  ui.plot.addEventListener("pointerdown", (event) => {
    ui.plot.setPointerCapture(event.pointerId);
    scrub(event);
  });
  ui.plot.addEventListener("pointermove", scrub);
  details.addEventListener("toggle", () => details.open && tell());
  ui.png.addEventListener("click", () => boxes[look.label].canvas.toBlob((blob) => ckSave(`array-${look.label}-cycle-${look.cycle}.png`, blob)));
  ui.csv.addEventListener("click", () => ckSave(`array-${look.label}.csv`, new Blob([csvOf(current())], { type: "text/csv" })));

  const moveChosen = (key) => {
    const trace = current();
    const [r, c] = look.pe ?? [0, 0];
    const [dr, dc] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    boxes[look.label].focus([Math.max(0, Math.min(trace.rows - 1, r + dr)), Math.max(0, Math.min(trace.cols - 1, c + dc))]);
  };
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, target } = event;
    const onPe = target.matches(".ckx-pe");
    if (target.matches("select, input:not([type=range]), summary, .ckx-scroll, .ckx-array-form *, .ck-save *")) return;
    if (onPe && key.startsWith("Arrow")) moveChosen(key);
    else if (key === " " && (onPe || !target.matches("button"))) toggle();
    else if (target.matches("input[type=range]") && key !== "," && key !== ".") return;
    else if (key === "ArrowRight" || key === ".") forward();
    else if (key === "ArrowLeft" || key === ",") back();
    else if (key === "Home") go(0);
    else if (key === "End") go(length() - 1);
    else return;
    event.preventDefault();
  });

  const renew = () => (wanted().every((label) => traces[label]) ? arrange() : talk.ask());
  const adopt = () => {
    const view = model.get("view");
    // what was done here since is said in a moment
    if (mode !== "paused" || saving !== undefined || JSON.stringify(view) === JSON.stringify(look)) return;
    look = { ...view };
    renew();
  };
  const leap = () => {
    const { compare, cycle, pe } = model.get("jump");
    cancelAnimationFrame(frame);
    Object.assign(look, { compare, cycle, pe });
    stop();
    renew();
  };
  model.on("change:view", adopt);
  model.on("change:jump", leap);
  const stopTheme = followTheme(root, () => current() && paint());
  take({ ...model.get("answer"), error: null });
  const sized = new ResizeObserver(() => current() && arrange());
  sized.observe(ui.arrays);
  if (wanted().some((label) => !traces[label])) talk.ask();
  if (setup.autoplay && !still.matches) toggle();
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(saving);
    talk.stop();
    stopTheme();
    sized.disconnect();
    model.off("change:view", adopt);
    model.off("change:jump", leap);
  };
}

export default { render };
