// Waveforms on a canvas: signals of any width over cycles, a lane of instructions, two cursors. code.js stands before.

const LANE = { axis: 22, run: 26 }; // heights of the time axis and of the lane of instructions (px)
// Operations -> the category whose colour they have.
const OPERATIONS = {
  LOADP: "weights", LOADQ: "weights", LOADA: "inputs", CONV: "compute", TILE: "compute", SUM: "compute", POOL: "compute", STORE: "outputs", SAVE: "memory",
};
const CATEGORY = { weights: "#0072B2", inputs: "#E69F00", outputs: "#009E73", compute: "#D55E00", memory: "#CC79A7", idle: "#BBBBBB" };
const categoryOf = (text) => OPERATIONS[text.split(" ")[0]] ?? "idle";
const INK = { weights: "#FFFFFF", inputs: "#1B2430", outputs: "#1B2430", compute: "#1B2430", memory: "#1B2430", idle: "#1B2430" };

function bytesOf(view) {
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
}

// What the kernel sent, by number of the signal: times in half cycles, and the two planes of bits.
function decoded(waves, widths) {
  const found = new Map();
  for (const { id, times, value, unknown } of waves.signals ?? []) {
    found.set(id, { width: widths[id], times: new Int32Array(bytesOf(times)), value: new Uint8Array(bytesOf(value)), unknown: new Uint8Array(bytesOf(unknown)) });
  }
  return found;
}

// The number of the change that holds at a time; -1 before the first.
function changeAt(times, half) {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= half) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function numberOf(bytes, from, many) {
  let value = 0n;
  for (let at = many - 1; at >= 0; at -= 1) value = (value << 8n) | BigInt(bytes[from + at]);
  return value;
}

// A value in the radix chosen. Bits that are not known are x or z, also where they are only a part of a digit.
function valueText(signal, at, radix) {
  if (at < 0) return "?";
  const many = Math.ceil(signal.width / 8);
  const value = numberOf(signal.value, at * many, many);
  const unknown = numberOf(signal.unknown, at * many, many);
  const digits = (size) => {
    const count = Math.ceil(signal.width / size);
    const mask = (1n << BigInt(size)) - 1n;
    let text = "";
    for (let digit = count - 1; digit >= 0; digit -= 1) {
      const shift = BigInt(digit * size);
      const dark = (unknown >> shift) & mask;
      const lit = (value >> shift) & mask;
      text += dark ? (lit === dark ? "z" : "x") : lit.toString(16);
    }
    return text;
  };
  if (radix === "bin" || signal.width === 1) return digits(1);
  if (radix === "hex") return digits(4).toUpperCase().replace(/X/g, "x").replace(/Z/g, "z");
  if (unknown) return "x";
  if (radix === "unsigned") return value.toString();
  if (radix === "signed") return BigInt.asIntN(signal.width, value).toString();
  let text = "";
  for (let byte = many - 1; byte >= 0; byte -= 1) {
    const code = signal.value[at * many + byte];
    text += code >= 32 && code < 127 ? String.fromCharCode(code) : "·";
  }
  return text;
}

// Cycles between two ticks, so that they are about 80 px apart.
function tickStep(perCycle) {
  const least = 80 / perCycle;
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least));
}

// The colours of the page as they are now.
function inkOf(root) {
  const probe = make("span", { hidden: true });
  root.append(probe);
  const names = ["text", "muted", "line", "panel", "accent", "warning", "good"];
  const ink = Object.fromEntries(
    names.map((name) => {
      probe.style.color = `var(--ck-${name})`; // JupyterLab's own colours are behind some of them
      return [name, getComputedStyle(probe).color];
    }),
  );
  probe.remove();
  return ink;
}

// Draws what state() says: { run, chosen, loaded, window, cursors, active, rowHeight }.
function wavePainter(canvas, root, state) {
  const context = canvas.getContext("2d");
  let asked;
  const paint = () => {
    asked = undefined;
    const now = state();
    const width = canvas.clientWidth;
    const top = LANE.axis + (now.run.instructions.length ? LANE.run : 0);
    const height = top + now.chosen.length * now.rowHeight + 4;
    const scale = devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const [from, to] = now.window;
    const at = (cycle) => ((cycle - from) / (to - from)) * width;
    const view = { context, width, height, top, from, to, at, ink: inkOf(root), now };
    context.font = "12px ui-monospace, Menlo, Consolas, monospace";
    context.textBaseline = "middle";
    paintAxis(view);
    if (now.run.instructions.length) paintLane(view);
    paintUnknown(view);
    now.chosen.forEach((one, row) => paintSignal(view, one, top + row * now.rowHeight));
    paintCursors(view);
  };
  return () => {
    asked ??= requestAnimationFrame(paint);
  };
}

function paintAxis({ context, width, height, top, from, to, at, ink }) {
  const step = tickStep(width / (to - from));
  context.lineWidth = 1;
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
    const x = Math.round(at(tick)) + 0.5;
    context.strokeStyle = ink.line;
    context.beginPath();
    context.moveTo(x, LANE.axis - 4);
    context.lineTo(x, height);
    context.stroke();
    context.fillStyle = ink.muted;
    const text = tick.toLocaleString("en-US");
    if (x + context.measureText(text).width + 4 < width) context.fillText(text, x + 3, LANE.axis / 2);
  }
  context.strokeStyle = ink.line;
  context.strokeRect(0, top - 0.5, width, 0);
}

// What is not there yet is no flat line.
function paintUnknown({ context, width, height, top, at, ink, now }) {
  context.fillStyle = ink.panel;
  const begins = Math.min(Math.max(0, at(now.loadedFrom)), width);
  const ends = Math.max(0, Math.min(width, at(now.loadedTo + 1)));
  if (begins > 0) context.fillRect(0, top, begins, height - top);
  if (ends < width) context.fillRect(ends, top, width - ends, height - top);
}

function paintLane({ context, width, from, to, at, ink, now }) {
  const y = LANE.axis;
  for (let number = Math.max(0, instructionAt(now.run, from)); number < now.run.instructions.length; number += 1) {
    const [address, text, , begin, got] = now.run.instructions[number];
    if (begin >= to) break;
    const low = Math.max(0, at(begin));
    const high = Math.min(width, at(begin + got));
    const kind = categoryOf(text);
    context.fillStyle = CATEGORY[kind];
    context.fillRect(low, y + 2, Math.max(high - low - 1, 0.6), LANE.run - 6);
    if (number === now.active) {
      context.strokeStyle = ink.text;
      context.lineWidth = 2;
      context.strokeRect(low + 1, y + 3, Math.max(high - low - 3, 1), LANE.run - 8);
      context.lineWidth = 1;
    }
    const label = `${address} ${text.split(" ")[0]}`;
    const short = text.split(" ")[0];
    const told = [label, short].find((words) => context.measureText(words).width + 8 < high - low);
    if (told) {
      context.fillStyle = INK[kind];
      context.fillText(told, low + 4, y + LANE.run / 2);
    }
  }
}

function paintSignal({ context, width, from, to, at, ink, now }, { id, radix }, y) {
  const signal = now.loaded.get(id);
  const high = y + 5;
  const low = y + now.rowHeight - 5;
  const middle = (high + low) / 2;
  if (id === now.selected) {
    context.fillStyle = ink.panel;
    context.fillRect(0, y, width, now.rowHeight);
  }
  if (!signal || !signal.times.length) return;
  const begins = Math.max(0, at(now.loadedFrom));
  const ends = Math.min(width, at(now.loadedTo + 1));
  const many = Math.ceil(signal.width / 8);
  let change = Math.max(0, changeAt(signal.times, Math.floor(2 * from)));
  let before;
  while (change < signal.times.length && signal.times[change] < 2 * to) {
    const x = Math.max(begins, at(signal.times[change] / 2));
    // changes that share a pixel are one block
    let next = change + 1;
    while (next < signal.times.length && at(signal.times[next] / 2) < x + 1.5) next += 1;
    const end = next < signal.times.length ? Math.min(ends, at(signal.times[next] / 2)) : ends;
    const dark = signal.unknown.subarray(change * many, change * many + many).some(Boolean);
    context.strokeStyle = context.fillStyle = dark ? ink.warning : ink.good;
    if (next > change + 1) {
      context.globalAlpha = 0.45;
      context.fillRect(x, high, Math.max(end - x > 3 ? 1.5 : end - x, 1), low - high);
      context.globalAlpha = 1;
      change = next - 1;
    }
    if (end - x > 1) {
      if (signal.width === 1) before = paintBit(context, signal, change, x, end, high, low, middle, dark, before);
      else paintWord(context, valueText(signal, change, radix), x, end, high, low, middle, ink, dark);
    }
    change = next;
  }
}

function paintBit(context, signal, change, x, end, high, low, middle, dark, before) {
  const level = dark ? middle : signal.value[change] ? high : low;
  context.beginPath();
  if (before !== undefined) context.moveTo(x, before);
  else context.moveTo(x, level);
  context.lineTo(x, level);
  context.lineTo(end, level);
  context.stroke();
  if (!dark && signal.value[change]) {
    context.globalAlpha = 0.14;
    context.fillRect(x, high, end - x, low - high);
    context.globalAlpha = 1;
  }
  return level;
}

function paintWord(context, text, x, end, high, low, middle, ink, dark) {
  const slope = Math.min(4, (end - x) / 2);
  context.beginPath();
  context.moveTo(x, middle);
  context.lineTo(x + slope, high);
  context.lineTo(end - slope, high);
  context.lineTo(end, middle);
  context.lineTo(end - slope, low);
  context.lineTo(x + slope, low);
  context.closePath();
  if (dark) {
    context.globalAlpha = 0.2;
    context.fill();
    context.globalAlpha = 1;
  }
  context.stroke();
  const room = Math.floor((end - x - 2 * slope - 2) / 7.3);
  if (room < 1) return;
  context.fillStyle = ink.text;
  // the low digits tell values apart, so those are what is kept
  const bare = text.length <= room ? text : text.replace(/^0+(?=.)/, "");
  const told = bare.length <= room ? bare : room > 2 ? `…${bare.slice(1 - room)}` : "";
  context.fillText(told, x + slope + 2, middle + 0.5);
}

function paintCursors({ context, width, height, at, ink, now }) {
  now.cursors.forEach((cycle, number) => {
    if (cycle === null) return;
    const x = Math.round(at(cycle)) + 0.5;
    if (x < 0 || x > width) return;
    context.strokeStyle = ink.accent;
    context.lineWidth = 1.5;
    context.setLineDash(number ? [5, 4] : []);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, height);
    context.stroke();
    context.setLineDash([]);
    context.lineWidth = 1;
    context.fillStyle = ink.accent;
    context.fillRect(Math.min(x, width - 16), 1, 16, 16);
    context.fillStyle = now.dark ? "#12161C" : "#FFFFFF";
    context.fillText("AB"[number], Math.min(x, width - 16) + 4, 9.5);
  });
}

// The whole run in one line, with the window marked.
function paintOverview(canvas, run, [from, to], ink) {
  const context = canvas.getContext("2d");
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  context.setTransform(scale, 0, 0, scale, 0, 0);
  const at = (cycle) => ((cycle - run.first) / (run.last + 1 - run.first)) * width;
  context.fillStyle = ink.panel;
  context.fillRect(0, 3, width, height - 6);
  for (const [, text, , begin, got] of run.instructions) {
    context.fillStyle = CATEGORY[categoryOf(text)];
    context.fillRect(at(begin), 3, Math.max(0.4, at(begin + got) - at(begin)), height - 6);
  }
  context.strokeStyle = ink.text;
  context.lineWidth = 2;
  context.strokeRect(at(from) + 1, 1, Math.max(at(to) - at(from) - 2, 3), height - 2);
}

// The number of the instruction that runs in a cycle; -1 before the first.
function instructionAt(run, cycle) {
  let low = 0;
  let high = run.instructions.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (run.instructions[middle][3] <= cycle) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
