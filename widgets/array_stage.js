// The stage of an ArrayAnimator: the array on a canvas. All numbers are those of the trace; this only says where they are
// drawn, between two cycles too. page.js stands before this text.

const KINDS = { int32: Int32Array, int16: Int16Array, int8: Int8Array };
//: What each operand looks like: colour, the text on it (4.5 : 1 at least), the matrix it comes from.
const OPERANDS = {
  weights: { fill: "#0072B2", ink: "#FFFFFF", matrix: "b", word: "weight" },
  inputs: { fill: "#E69F00", ink: "#1B2430", matrix: "a", word: "input" },
  outputs: { fill: "#009E73", ink: "#10161E", matrix: "c", word: "sum" },
};
//: Below this pitch (px) an element is a square of colour with its sum.
const DENSE = 56;
//: Height (px) that an array of few rows does not pass.
const HIGH = 520;
const COMPUTE = "#D55E00";
const IDLE = "#BBBBBB";
const VIRIDIS = ["#440154", "#482878", "#3E4989", "#31688E", "#26828E", "#1F9E89", "#35B779", "#6DCD59", "#B4DE2C", "#FDE725"];
//: What stays, what moves to the right and what moves down.
const ROLES = {
  ws: { stays: "weights", right: "inputs", down: "outputs" },
  os: { stays: "outputs", right: "inputs", down: "weights" },
  is: { stays: "inputs", right: "weights", down: "outputs" },
};

const subscript = (number) => [...String(number)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]).join("");
const nameOf = (matrix, row, col) => `${matrix}${subscript(row)}${row > 9 || col > 9 ? "," : ""}${subscript(col)}`;
const told = (value) => String(value).replace("-", "−");

// A packed trace with typed arrays, and functions of (cycle, row, column).
function unpack(packed) {
  const view = packed.data;
  const buffer = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  const arrays = Object.fromEntries(
    Object.entries(packed.places).map(([name, [kind, offset, shape]]) => [name, new KINDS[kind](buffer, offset, shape.reduce((a, b) => a * b, 1))]),
  );
  const { rows, cols, dataflow } = packed;
  const length = packed.busy.length;
  const at = (t, r, c) => (t * rows + r) * cols + c;
  const inside = (t) => t >= 0 && t < length;
  const roles = ROLES[dataflow];
  const of = (operand, index) => arrays[operand][index];
  // what moves: {value, row, col} of its matrix, or null
  const mover = (operand, t, r, c) => {
    if (!inside(t)) return null;
    const index = at(t, r, c);
    const row = operand === "inputs" ? arrays.i[index] : arrays.k[index];
    const col = operand === "inputs" ? arrays.k[index] : arrays.j[index];
    return row < 0 || col < 0 ? null : { value: of(operand, index), row, col };
  };
  const right = (t, r, c) => {
    // it moves on through columns that have nothing to do: the names of the first column say what it is
    if (c <= 0) return mover(roles.right, t - c, r, 0);
    const first = mover(roles.right, t - c, r, 0);
    return first && inside(t) ? { ...first, value: of(roles.right, at(t, r, c)) } : null;
  };
  const down = (t, r, c) => {
    if (roles.down !== "weights") return null;
    const first = mover("weights", t - r, 0, c);
    return r <= 0 || !first ? first : inside(t) ? { ...first, value: of("weights", at(t, r, c)) } : null;
  };
  const held = (t, r, c) => {
    const index = at(t, r, c);
    const row = arrays.held_row[index];
    if (row < 0 || arrays.held_col[index] < 0) return null;
    return { value: roles.stays === "outputs" ? arrays.sums[index] : of(roles.stays, index), row, col: arrays.held_col[index] };
  };
  const waiting = (t, r, c) => {
    if (!inside(t) || roles.stays === "outputs") return null;
    const index = at(t, r, c);
    const [row, col] = [arrays.waiting_row[index], arrays.waiting_col[index]];
    return row < 0 || col < 0 ? null : { value: arrays.waiting[index], row, col };
  };
  const sum = (t, r, c) => {
    if (!inside(t)) return null;
    const index = at(t, r, c);
    return arrays.i[index] < 0 || arrays.j[index] < 0 ? null : { value: arrays.sums[index], row: arrays.i[index], col: arrays.j[index] };
  };
  const leaves = (t, c) => {
    if (!inside(t) || arrays.leaves_i[t * cols + c] < 0) return null;
    const index = t * cols + c;
    return { value: arrays.leaves[index], row: arrays.leaves_i[index], col: arrays.leaves_j[index], from: arrays.leaves_row[index], last: arrays.leaves_last[index] === 1 };
  };
  const active = (t, r, c) => {
    const index = at(t, r, c);
    return inside(t) && arrays.i[index] >= 0 && arrays.k[index] >= 0 && arrays.j[index] >= 0;
  };
  // one multiplication, or null: what the list of an element and the table say
  const step = (t, r, c) => {
    if (!active(t, r, c)) return null;
    const index = at(t, r, c);
    const [i, k, j, before, after] = ["i", "k", "j", "sums_in", "sums"].map((name) => arrays[name][index]);
    return { t, i, k, j, input: arrays.inputs[index], weight: arrays.weights[index], before, after };
  };
  const loads = (t, r, c) => inside(t) && arrays.loading[at(t, r, c)] === 1;
  const largest = arrays.sums.reduce((most, value, index) => (arrays.i[index] < 0 ? most : Math.max(most, Math.abs(value))), 1);
  return { ...packed, arrays, roles, length, largest, right, down, held, waiting, sum, leaves, active, step, loads };
}

const viridis = (share) => VIRIDIS[Math.min(VIRIDIS.length - 1, Math.floor(share * VIRIDIS.length))];
const eased = (p) => (p < 0.5 ? 2 * p * p : 1 - (-2 * p + 2) ** 2 / 2);

// Where things are on a canvas so wide: cells of pitch, queues on the left and above, a row below for what leaves.
function geometry(trace, width, deep) {
  const before = width < 480 ? 1.4 : 2.6;
  const above = deep || trace.dataflow === "os" ? 1.9 : 1.05;
  // the player below stays in sight, unless numbers would no longer fit
  const low = Math.max(60, Math.floor(HIGH / (trace.rows + above + 0.5)));
  const pitch = Math.min(104, low, Math.floor((width - 2) / (trace.cols + before + 0.15)));
  const x0 = Math.max(before * pitch, (width - (trace.cols + before * 0.4) * pitch) / 2);
  const y0 = above * pitch + (pitch < DENSE ? 16 : 0);
  return { pitch, before, above, x0, y0, width, height: Math.ceil(y0 + (trace.rows + 0.3) * pitch + 22) };
}

// A canvas on which one trace is drawn at a moment. colours() gives those of the page.
function stage(canvas, colours) {
  const pen = canvas.getContext("2d");
  let place;
  let followed = null; // [matrix, row, column]
  const fit = (trace, width, deep) => {
    place = geometry(trace, width, deep);
    const scale = globalThis.devicePixelRatio || 1;
    canvas.width = Math.round(place.width * scale);
    canvas.height = Math.round(place.height * scale);
    canvas.style.height = `${place.height}px`;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    return place;
  };
  const font = (size, bold) => {
    pen.font = `${bold ? "600 " : ""}${size}px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif`;
  };
  const box = (x, y, w, h, radius) => {
    pen.beginPath();
    pen.roundRect(x - w / 2, y - h / 2, w, h, radius);
  };
  const is = (one, matrix, what) => one && one[0] === matrix && one[1] === what.row && one[2] === what.col;
  const ring = (x, y, w, h, radius) => {
    box(x, y, w, h, radius);
    pen.strokeStyle = colours().accent;
    pen.lineWidth = 3;
    pen.stroke();
  };
  // a number on its operand's colour: stays is square, moves is round
  const chip = (x, y, what, operand, { alpha = 1, square = false, hollow = false, size = 1, names = false, idle = false } = {}) => {
    if (!what || alpha < 0.03) return;
    const { pitch } = place;
    const look = OPERANDS[operand];
    const text = names ? nameOf(look.matrix, what.row, what.col) : told(what.value);
    const tall = Math.max(16, Math.min(28, pitch * 0.265)) * size;
    pen.globalAlpha = alpha;
    const dense = pitch < DENSE;
    if ((dense && operand !== "outputs") || (hollow && pitch < 84)) {
      const dot = Math.max(3, pitch * (hollow ? 0.1 : 0.2));
      box(x, y, dot, dot, square ? 2 : pitch);
      pen.fillStyle = pen.strokeStyle = look.fill;
      pen.lineWidth = 1.5;
      pen[hollow ? "stroke" : "fill"]();
      pen.globalAlpha = 1;
      if (is(followed, look.matrix, what)) ring(x, y, dot + 6, dot + 6, pitch);
      return;
    }
    if (dense) {
      // the element's own colour says how large its sum is; the number stands on it where it fits
      font(13, true);
      if (pitch >= 34 && pen.measureText(text).width < pitch - 1) {
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.strokeStyle = colours().ground;
        pen.lineWidth = 3;
        pen.strokeText(text, x, y);
        pen.fillStyle = colours().text;
        pen.fillText(text, x, y);
      }
      pen.globalAlpha = 1;
      if (is(followed, look.matrix, what)) ring(x, y, pitch * 0.8, 16, 8);
      return;
    }
    font(pitch > 84 && !hollow ? 15 : 13, true);
    const wide = Math.max(tall, pen.measureText(text).width + (pitch > 84 ? 12 : 6));
    box(x, y, wide, tall, square ? 4 : tall / 2);
    pen.fillStyle = hollow ? colours().ground : idle ? IDLE : look.fill;
    pen.fill();
    if (hollow) {
      pen.strokeStyle = look.fill;
      pen.lineWidth = 1.5;
      pen.stroke();
    }
    pen.fillStyle = hollow || alpha < 0.6 ? colours().text : idle ? "#10161E" : look.ink;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(text, x, y + 0.5);
    pen.globalAlpha = 1;
    if (is(followed, look.matrix, what)) ring(x, y, wide + 6, tall + 6, square ? 6 : tall / 2 + 3);
  };
  const cell = (trace, t, r, c, q, chosen) => {
    const { pitch, x0, y0 } = place;
    const [x, y, side] = [x0 + (c + 0.5) * pitch, y0 + (r + 0.5) * pitch, pitch - Math.max(3, pitch * 0.08)];
    const works = trace.active(t, r, c) * (1 - q) + trace.active(Math.min(t + 1, trace.length - 1), r, c) * q;
    box(x, y, side, side, Math.min(8, pitch * 0.1));
    pen.fillStyle = colours().panel;
    pen.fill();
    pen.globalAlpha = (1 - works) * (colours().dark ? 0.2 : 0.4);
    pen.fillStyle = IDLE;
    pen.fill();
    pen.globalAlpha = works * 0.16;
    pen.fillStyle = COMPUTE;
    pen.fill();
    pen.globalAlpha = 1;
    pen.strokeStyle = works > 0.5 ? COMPUTE : colours().line;
    pen.lineWidth = works > 0.5 ? 1.5 : 1;
    if (pitch >= DENSE) pen.stroke();
    const sum = trace.roles.stays === "outputs" ? trace.held(t, r, c) : trace.sum(t, r, c);
    if (sum && works > 0.5 && pitch < DENSE) {
      box(x, y, side, side, 4);
      pen.fillStyle = viridis(Math.abs(sum.value) / trace.largest);
      pen.fill();
    } else if (sum && pitch >= DENSE) {
      // how large the sum is: a column that grows
      const share = Math.abs(sum.value) / trace.largest;
      const [wide, tall] = [Math.max(4, pitch * 0.055), side - 12];
      pen.fillStyle = colours().line;
      box(x + side / 2 - wide - 2, y, wide, tall, wide / 2);
      pen.fill();
      pen.fillStyle = viridis(share);
      const high = Math.max(wide, tall * share);
      box(x + side / 2 - wide - 2, y + tall / 2 - high / 2, wide, high, wide / 2);
      pen.fill();
    }
    if (chosen) {
      box(x, y, side + 5, side + 5, Math.min(10, pitch * 0.12));
      pen.strokeStyle = colours().accent;
      pen.lineWidth = 3;
      pen.stroke();
    }
  };
  // the rows and columns before an element, in units of the pitch
  const spots = (roles) => {
    const grows = roles.stays === "outputs";
    if (place.pitch >= 84) return { held: [-0.22, -0.285], waits: [0.17, -0.285], right: [-0.22, 0], down: [0.17, -0.285], sum: grows ? [-0.06, 0.285] : [0.08, 0.285] };
    if (place.pitch < DENSE) return { held: [-0.3, -0.32], waits: [0.36, -0.36], right: [grows ? -0.3 : 0, -0.32], down: [0, -0.32], sum: [0, 0.12] };
    return { held: [-0.21, -0.25], waits: [0.36, -0.36], right: [grows ? -0.21 : 0.18, -0.25], down: [0.18, -0.25], sum: [-0.04, 0.22] };
  };

  // at t + p, p from 0 to 1: things move in the first two thirds of a cycle and are computed with in the last
  const draw = (trace, t, p, { chosen = null, names = false, follow = null } = {}) => {
    if (!place) return;
    followed = follow;
    const { pitch, x0, y0, width, height, before, above } = place;
    const q = eased(Math.min(1, p / 0.66));
    const arrived = p >= 0.66;
    const now = Math.min(arrived ? t + 1 : t, trace.length - 1);
    const spot = spots(trace.roles);
    const at = (r, c, [dx, dy]) => [x0 + (c + 0.5 + dx) * pitch, y0 + (r + 0.5 + dy) * pitch];
    pen.clearRect(0, 0, width, height);
    for (let r = 0; r < trace.rows; r += 1) {
      for (let c = 0; c < trace.cols; c += 1) cell(trace, t, r, c, arrived ? 1 : q, chosen && chosen[0] === r && chosen[1] === c);
    }
    const { stays, right, down } = trace.roles;
    const exit = 1 - 0.2 - spot.sum[1]; // from the last row to the place below it
    const fade = (steps, room) => Math.max(0, Math.min(1, (room + 0.6 - steps) / 0.6));
    for (let r = 0; r < trace.rows; r += 1) {
      for (let c = 0; c < trace.cols; c += 1) {
        const idle = !trace.active(now, r, c);
        if (stays !== "outputs") {
          chip(...at(r, c, spot.held), trace.held(now, r, c), stays, { square: true, names, idle });
          const next = trace.waiting(now, r, c);
          const mine = trace.held(now, r, c);
          const same = next && mine && next.row === mine.row && next.col === mine.col;
          const moving = p > 0 && !arrived && trace.loads(t, r, c);
          if (next && !same && !moving) chip(...at(r, c, spot.waits), next, stays, { square: true, hollow: true, names, size: 0.8 });
          if (moving && r > 0) chip(...at(r - 1 + q, c, spot.waits), trace.waiting(t + 1, r, c), stays, { square: true, hollow: true, names, size: 0.8 });
        }
      }
    }
    // queues: what enters in the next cycles
    const ahead = Math.ceil(before);
    for (let r = 0; r < trace.rows; r += 1) {
      for (let c = -ahead; c < trace.cols; c += 1) {
        const what = trace.right(t, r, c);
        const off = c + q > trace.cols - 1 ? Math.max(0, 1 - (c + q - trace.cols + 1) * 2) : 1;
        chip(...at(r, c + q, spot.right), what, right, { names, alpha: Math.min(off, c + q < 0 ? fade(-(c + q), before - 0.3) : 1) });
      }
    }
    for (let c = 0; c < trace.cols; c += 1) {
      for (let r = -Math.ceil(above); r < trace.rows; r += 1) {
        const off = r + q > trace.rows - 1 ? Math.max(0, 1 - (r + q - trace.rows + 1) * 2) : 1;
        if (down === "weights") chip(...at(r + q, c, spot.down), trace.down(t, r, c), down, { names, alpha: Math.min(off, r + q < 0 ? fade(-(r + q), above) : 1) });
        else if (r < 0 && trace.loads(t - r - 1, 0, c)) {
          chip(...at(r + q, c, spot.waits), trace.waiting(t - r, 0, c), stays, { square: true, hollow: true, names, size: 0.8, alpha: r + q < 0 ? fade(-(r + q), above) : 1 });
        }
      }
    }
    for (let c = 0; c < trace.cols; c += 1) {
      for (let r = 0; r < trace.rows; r += 1) {
        if (down === "outputs") {
          if (arrived || p === 0) chip(...at(r, c, spot.sum), trace.sum(now, r, c), "outputs", { names, idle: !trace.active(now, r, c), size: arrived ? 1 + 0.25 * Math.sin(Math.PI * ((p - 0.66) / 0.34)) : 1 });
          else chip(...at(r + q * (r === trace.rows - 1 ? exit : 1), c, spot.sum), trace.sum(t, r, c), "outputs", { names });
        } else {
          const gone = p > 0 && trace.leaves(t + 1, c);
          const mine = gone && gone.from === r;
          if (!mine || arrived) chip(...at(r, c, spot.sum), trace.held(now, r, c), "outputs", { square: true, names, idle: !trace.active(now, r, c) });
          if (mine) chip(...at(r + (trace.rows - 1 + exit - r) * q, c, spot.sum), gone, "outputs", { names });
        }
      }
      const [slot, out] = [[spot.sum[0], -0.2], trace.leaves(now, c)];
      if (arrived || p === 0) chip(...at(trace.rows, c, slot), out, "outputs", { names });
      else chip(...at(trace.rows + 0.45 * q, c, slot), trace.leaves(t, c), "outputs", { names, alpha: 1 - q });
    }
    edges(trace);
  };
  const edges = (trace) => {
    const { pitch, x0, y0 } = place;
    const { stays, right, down } = trace.roles;
    font(13, false);
    pen.fillStyle = colours().muted;
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    const start = Math.max(0, x0 - place.before * pitch);
    const fed = down === "weights" ? "weights ↓" : `next ${stays} ↓`;
    if (pitch < DENSE) {
      pen.fillText(`${right} →   ${fed}   sums ↓`, 0, 9);
      return;
    }
    pen.fillText(`${right} →`, start, pitch < 84 ? y0 - 8 : y0 + 8);
    pen.fillText(fed, start, Math.max(9, y0 - pitch * 0.76 - (pitch < 84 ? 4 : 0)));
    pen.fillText("sums ↓", start, y0 + (trace.rows + 0.3) * pitch);
  };
  return { fit, draw, place: () => place };
}
