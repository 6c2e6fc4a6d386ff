// What stands beside the array of an ArrayAnimator: the matrices, the work of one element, the table of a cycle and the
// plot of what is busy. array_stage.js stands before this text.

const MATRICES = { a: "inputs", b: "weights", c: "outputs" };

// A, B and C as tables: what is in the array now stands out, C fills as its sums leave.
// The index of [matrix, row, column] in its matrix; -1 or NaN where the matrices are smaller
function placeIn(trace, [name, row, col]) {
  const [rows, cols] = trace.places[name === "c" ? "result" : name][2];
  return row < rows && col < cols ? row * cols + col : -1;
}

function whereIs(trace, what, t) {
  if (!what) return "";
  const [name, row, col] = what;
  const at = [];
  for (let r = 0; r < trace.rows; r += 1) {
    for (let c = 0; c < trace.cols; c += 1) {
      const s = trace.step(t, r, c);
      const place = s && { a: [s.i, s.k], b: [s.k, s.j], c: [s.i, s.j] }[name];
      if (place && place[0] === row && place[1] === col) at.push(`${r}, ${c}`);
    }
  }
  const pes = at.length > 3 ? `${at.length} PEs, from ${at[0]} to ${at.at(-1)}` : at.map((one) => `PE ${one}`).join(" and ");
  return ` ${name}[${row}, ${col}] is used ${at.length ? `in ${pes}` : "nowhere in this cycle"}.`;
}

function matrixView(follow) {
  const tables = {};
  const frame = make("div", { className: "ckx-matrices" });
  let shape = "";
  const build = (trace) => {
    const sizes = { a: trace.places.a[2], b: trace.places.b[2], c: trace.places.result[2] };
    const now = JSON.stringify(sizes);
    if (now === shape) return;
    shape = now;
    frame.replaceChildren();
    const [m, k] = sizes.a;
    const n = sizes.b[1];
    // columns of A are narrower: they hold operands only
    frame.style.setProperty("--across", 0.78 * k + n);
    frame.classList.toggle("ckx-tight", k + n > 13);
    frame.classList.toggle("ckx-tiny", k + n > 20);
    for (const [name, operand] of Object.entries(MATRICES)) {
      const [rows, cols] = sizes[name];
      const cells = Array.from({ length: rows }, () => Array.from({ length: cols }, () => make("td")));
      cells.forEach((row, i) =>
        row.forEach((node, j) => {
          node.addEventListener("click", () => follow([name, i, j]));
          node.title = `${name}[${i}, ${j}]`;
        }),
      );
      const words = { a: `A, inputs, ${m} × ${k}`, b: `B, weights, ${k} × ${n}`, c: `C = A · B, ${m} × ${n}` }[name];
      const table = make("table", { className: `ckx-matrix ckx-${operand}` }, make("caption", {}, words), make("tbody", {}, ...cells.map((row) => make("tr", {}, ...row))));
      frame.append(make("div", { className: `ckx-at-${name}` }, table));
      tables[name] = cells;
    }
  };
  const show = (trace, t, followed) => {
    build(trace);
    const { arrays, rows, cols, roles } = trace;
    const marks = { a: new Map(), b: new Map(), c: new Map() };
    const mark = (name, what, how) => what && marks[name].set(`${what.row},${what.col}`, how);
    for (let r = 0; r < rows; r += 1) {
      for (let c = 0; c < cols; c += 1) {
        mark(OPERANDS[roles.stays].matrix, trace.waiting(t, r, c), "waits");
        mark(OPERANDS[roles.stays].matrix, trace.held(t, r, c), "held");
      }
    }
    for (let r = 0; r < rows; r += 1) {
      for (let c = 0; c < cols; c += 1) {
        const done = trace.step(t, r, c);
        if (!done) continue;
        marks.a.set(`${done.i},${done.k}`, "works");
        marks.b.set(`${done.k},${done.j}`, "works");
        marks.c.set(`${done.i},${done.j}`, "works");
      }
    }
    const sums = new Map();
    for (let cycle = 0; cycle <= t; cycle += 1) {
      for (let c = 0; c < cols; c += 1) {
        const out = trace.leaves(cycle, c);
        if (!out) continue;
        const key = `${out.row},${out.col}`;
        sums.set(key, { value: (sums.get(key)?.value ?? 0) + out.value, last: out.last });
        if (cycle === t) marks.c.set(key, "leaves");
      }
    }
    for (const [name, cells] of Object.entries(tables)) {
      cells.forEach((row, i) =>
        row.forEach((node, j) => {
          const key = `${i},${j}`;
          const sum = sums.get(key);
          const text = name === "c" ? (sum ? told(sum.value) : "") : told(arrays[name][i * row.length + j]);
          if (node.textContent !== text) {
            node.textContent = text;
            node.title = `${name}[${i}, ${j}]${text && ` = ${text}`}`;
          }
          const mine = followed && followed[0] === name && followed[1] === i && followed[2] === j;
          const how = [marks[name].get(key), name === "c" && sum && (sum.last ? "done" : "part"), mine && "followed"].filter(Boolean).join(" ");
          if (node.className !== how) node.className = how;
        }),
      );
    }
  };
  return { frame, show };
}

const product = (s) => `a[${s.i}, ${s.k}] × b[${s.k}, ${s.j}]`;
const factor = (value) => (value < 0 ? `(${told(value)})` : String(value));
const sumText = (s) => `${told(s.before)} + ${factor(s.input)} × ${factor(s.weight)} = ${told(s.after)}`;

function tableShell(caption, heads) {
  const body = make("tbody");
  const name = make("p", { className: "ckx-hint" }, caption);
  const table = make("table", { className: "ckx-log" }, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), body);
  const scroll = make("div", { className: "ckx-scroll", role: "region", "aria-label": caption }, table);
  scroll.tabIndex = 0; // what scrolls has to be reachable by keyboard
  return { frame: make("div", { className: "ckx-listed" }, name, scroll), scroll, name, body };
}

// Buttons that follow the operands and the sum of the chosen element, those of this cycle or of the next with any.
function followRow(follow) {
  const names = ["a", "b", "c"];
  const buttons = names.map((name, at) => {
    const button = make("button", { type: "button", className: "ckx-button" });
    button.addEventListener("click", () => offered && follow(offered[at]));
    return button;
  });
  let offered;
  const frame = make("div", { className: "ckx-row ckx-follow", role: "group", "aria-label": "Follow a value" }, make("span", { className: "ckx-hint" }, "Follow"), ...buttons);
  const show = (trace, pe, t, followed) => {
    let found = null;
    for (let cycle = t; pe && !found && cycle < trace.length; cycle += 1) found = trace.step(cycle, ...pe);
    for (let cycle = t; pe && !found && cycle >= 0; cycle -= 1) found = trace.step(cycle, ...pe);
    const steps = found && [["a", found.i, found.k], ["b", found.k, found.j], ["c", found.i, found.j]];
    // what is followed keeps its button while it is elsewhere
    offered = steps?.map((what, at) => (followed && followed[0] === names[at] ? followed : what));
    frame.hidden = !offered;
    offered?.forEach(([name, row, col], at) => {
      const mine = JSON.stringify(offered[at]) === JSON.stringify(followed);
      buttons[at].textContent = `${name}[${row}, ${col}]`;
      buttons[at].setAttribute("aria-pressed", String(mine));
    });
  };
  return { frame, show };
}

// All multiplications of one element; that of this cycle is marked.
function historyView() {
  const { frame, scroll, name, body } = tableShell("One element", ["Cycle", "Operands", "Sum"]);
  let shown = "";
  let lines = new Map();
  const show = (trace, key, pe, t) => {
    frame.hidden = !pe;
    if (!pe) return;
    const [r, c] = pe;
    if (shown !== `${key},${r},${c}`) {
      shown = `${key},${r},${c}`;
      lines = new Map();
      for (let cycle = 0; cycle < trace.length; cycle += 1) {
        const done = trace.step(cycle, r, c);
        if (done) lines.set(cycle, make("tr", {}, make("td", {}, String(cycle)), make("td", {}, product(done)), make("td", {}, sumText(done))));
      }
      body.replaceChildren(...lines.values());
      name.textContent = `PE in row ${r}, column ${c}: ${lines.size} multiplication${lines.size === 1 ? "" : "s"} in ${trace.length} cycles`;
      scroll.setAttribute("aria-label", name.textContent);
      scroll.scrollTop = 0;
    }
    for (const [cycle, line] of lines) {
      const here = cycle === t;
      if (here === line.hasAttribute("aria-current")) continue;
      line.toggleAttribute("aria-current", here);
      if (!here) continue;
      line.setAttribute("aria-current", "step");
      const over = line.offsetTop + line.offsetHeight - scroll.scrollTop - scroll.clientHeight;
      if (over > 0 || line.offsetTop < scroll.scrollTop + 40) scroll.scrollTop = line.offsetTop - scroll.clientHeight / 2;
    }
  };
  return { frame, show };
}

function cycleTable() {
  const { frame, name, body } = tableShell("This cycle", ["PE", "Operands", "Sum"]);
  const show = (trace, t) => {
    const lines = [];
    for (let r = 0; r < trace.rows; r += 1) {
      for (let c = 0; c < trace.cols; c += 1) {
        const done = trace.step(t, r, c);
        const passes = trace.sum(t, r, c);
        const idle = passes ? `hands ${told(passes.value)} on` : "idle";
        lines.push(make("tr", {}, make("td", {}, `${r}, ${c}`), make("td", {}, done ? product(done) : idle), make("td", {}, done ? sumText(done) : "")));
      }
    }
    name.textContent = `All elements in cycle ${t}: row, column`;
    body.replaceChildren(...lines);
  };
  return { frame, show };
}

// How many elements multiply in each cycle; several traces as lines over the same cycles.
function plotView(canvas, colours) {
  const pen = canvas.getContext("2d");
  const [edge, foot, head] = [8, 18, 16];
  const draw = (traces, t, p) => {
    const [width, height] = [canvas.clientWidth, 96];
    const scale = globalThis.devicePixelRatio || 1;
    if (!width) return;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    const { line, muted, accent, text } = colours();
    const length = Math.max(...traces.map((trace) => trace.length));
    const [wide, tall] = [width - 2 * edge, height - foot - head];
    const x = (cycle) => edge + (length > 1 ? (cycle / (length - 1)) * wide : wide / 2);
    const y = (share) => head + tall * (1 - share);
    const step = wide / Math.max(1, length - 1);
    pen.font = "13px system-ui, sans-serif";
    pen.lineWidth = 1;
    for (const share of [0, 0.5, 1]) {
      pen.strokeStyle = line;
      pen.beginPath();
      pen.moveTo(edge, y(share));
      pen.lineTo(width - edge, y(share));
      pen.stroke();
    }
    const single = traces.length === 1;
    for (const [order, trace] of traces.entries()) {
      const pes = trace.rows * trace.cols;
      const colour = single ? COMPUTE : OPERANDS[trace.roles.stays].fill;
      if (single) {
        trace.busy.forEach((count, cycle) => {
          pen.globalAlpha = cycle === t ? 1 : 0.55;
          pen.fillStyle = colour;
          const thick = Math.max(1, Math.min(28, step * 0.7));
          pen.fillRect(x(cycle) - thick / 2, y(count / pes), thick, (tall * count) / pes);
        });
        pen.globalAlpha = 1;
      } else {
        pen.strokeStyle = colour;
        pen.lineWidth = 2.5;
        pen.setLineDash([[], [9, 5], [3, 4]][order % 3]); // where two agree, both are seen
        pen.beginPath();
        trace.busy.forEach((count, cycle) => pen[cycle ? "lineTo" : "moveTo"](x(cycle), y(count / pes)));
        pen.stroke();
        pen.setLineDash([]);
      }
    }
    pen.fillStyle = muted;
    pen.textBaseline = "top";
    pen.textAlign = "left";
    pen.fillText(single ? `PEs that multiply, of ${traces[0].rows * traces[0].cols}` : "Share of the PEs that multiply, 0 to 100 %", edge, 0);
    pen.textAlign = "center";
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((count) => count * step > 34) ?? 1000;
    for (let cycle = 0; cycle < length; cycle += every) pen.fillText(String(cycle), Math.min(width - 12, x(cycle)), height - foot + 4);
    pen.strokeStyle = accent;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.moveTo(x(t + p), head - 2);
    pen.lineTo(x(t + p), height - foot);
    pen.stroke();
    if (single && width > 460) {
      const trace = traces[0];
      pen.fillStyle = text;
      pen.textAlign = "right";
      pen.fillText(`cycle ${t}: ${trace.busy[Math.min(t, trace.length - 1)]}, on average ${((trace.utilization) * trace.rows * trace.cols).toFixed(1)}`, width - edge, 0);
    }
  };
  const cycleAt = (event, length) => Math.round(Math.max(0, Math.min(1, (event.offsetX - edge) / (canvas.clientWidth - 2 * edge))) * (length - 1));
  return { draw, cycleAt };
}
