// The pictures of a DesignExplorer: scatter and parallel coordinates, drawn on canvas from counts, with axes in SVG.
// designs_data.js stands before this text.

const BINS = 96; // of an axis, where lines between two axes are counted
const LINES = 80; // of the front, drawn one by one

// The page's colours, as "#rrggbb" for SVG and as [r, g, b] for pixels; read once in light and once in dark.
function coloursOf(root) {
  if (root.colours?.dark === root.dataset.dark) return root.colours;
  const style = getComputedStyle(root);
  const probe = document.createElement("canvas").getContext("2d");
  const named = { dark: root.dataset.dark, rgb: {} };
  for (const name of ["ground", "panel", "line", "text", "muted", "accent"]) {
    probe.fillStyle = style.getPropertyValue(`--ck-${name}`).trim();
    named[name] = probe.fillStyle;
    named.rgb[name] = [1, 3, 5].map((at) => parseInt(named[name].slice(at, at + 2), 16));
  }
  root.colours = named;
  return named;
}

// Canvases, of the quiet cloud, of what is selected and of single lines, between an SVG that stands and one that follows.
function layersOf(className, count) {
  const canvases = Array.from({ length: count }, () => make("canvas"));
  const [under, svg] = [0, 1].map(() => svgNode("svg", { "aria-hidden": "true" }));
  const box = make("div", { className: `ckx-picture ${className}` }, under, ...canvases, svg);
  let size = [0, 0, 0];
  const fit = (width, height) => {
    const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
    if (String(size) === String([width, height, ratio])) return;
    size = [width, height, ratio];
    for (const canvas of canvases) Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    box.style.height = `${height}px`;
    for (const one of [under, svg]) one.setAttribute("viewBox", `0 0 ${width} ${height}`);
  };
  const contexts = canvases.map((canvas) => canvas.getContext("2d", { willReadFrequently: true }));
  let drawn = "";
  // whether axes between these ends have to be drawn anew
  const stands = (axes, ...rest) => {
    const now = JSON.stringify([axes.map(({ name, ends }) => [name, ends]), rest, size]);
    if (now === drawn) return false;
    drawn = now;
    return true;
  };
  return { box, under, svg, fit, canvases, contexts, stands, ratio: () => size[2] };
}

// Cleared pixels of a canvas, and counts for them; the same memory each time.
const scratches = new WeakMap();
function scratchOf(context, Kind) {
  const { width, height } = context.canvas;
  let found = scratches.get(context);
  if (!found || found.image.width !== width || found.image.height !== height) {
    const image = context.createImageData(width, height);
    found = { image, pixels: new Uint32Array(image.data.buffer), counts: new Kind(width * height) };
    scratches.set(context, found);
  } else {
    found.pixels.fill(0);
    found.counts.fill(0);
  }
  return found;
}

// 256 pixels of one colour, from clear to opaque, as ImageData holds them.
const shades = ([r, g, b]) => Uint32Array.from({ length: 256 }, (_, alpha) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0);

// Dots at the cells (pixel numbers, below 0 for none) of the designs in mask, the darker the more lie on one.
function paintDots(context, cells, mask, rgb, [faint, dense], size) {
  const { width } = context.canvas;
  const { image, pixels, counts } = scratchOf(context, Uint16Array);
  for (let i = 0; i < cells.length; i += 1) if (mask[i] && cells[i] >= 0) counts[cells[i]] += 1;
  const shade = shades(rgb);
  const alphas = Uint8Array.from({ length: 64 }, (_, n) => faint + (dense - faint) * Math.min(1, Math.log2(1 + n) / 5));
  // where there are few, a dot is larger
  const dot = size * (context.canvas.width > 1.5 * context.canvas.clientWidth ? 2 : 1);
  const spread = Array.from({ length: dot * dot }, (_, n) => (n % dot) + width * Math.floor(n / dot));
  for (let at = 0; at < counts.length - spread.at(-1); at += 1) {
    if (!counts[at]) continue;
    const colour = shade[alphas[Math.min(63, counts[at])]];
    for (const step of spread) if (pixels[at + step] < colour) pixels[at + step] = colour;
  }
  context.putImageData(image, 0, 0);
}

// Lines of all designs in mask between each two neighbours of axes (columns): counted by bins, drawn as counts a pixel.
function paintLanes(context, axes, mask, rgb, lanes, dense) {
  const { width } = context.canvas;
  const { image, pixels, counts: heat } = scratchOf(context, Float32Array);
  const counts = new Uint32Array(BINS * BINS);
  const [along, across] = lanes.upright ? [1, width] : [width, 1];
  for (let g = 0; g + 1 < axes.length; g += 1) {
    const [left, right] = [axes[g].bins, axes[g + 1].bins];
    counts.fill(0);
    for (let i = 0; i < left.length; i += 1) if (mask[i]) counts[left[i] * BINS + right[i]] += 1;
    const from = Math.round(lanes.at(g) * lanes.ratio);
    const steps = Math.round(lanes.at(g + 1) * lanes.ratio) - from;
    for (let pair = 0; pair < counts.length; pair += 1) {
      if (counts[pair]) ray(heat, counts[pair], lanes.pixel(Math.floor(pair / BINS)), lanes.pixel(pair % BINS), from, steps, along, across);
    }
  }
  let most = 1;
  for (let at = 0; at < heat.length; at += 1) if (heat[at] > most) most = heat[at];
  const shade = shades(rgb);
  const steps = 1023 / Math.log(1 + most);
  const alphas = Uint8Array.from({ length: 1024 }, (_, n) => 14 + (dense - 14) * (n / 1023) ** 1.6);
  for (let at = 0; at < heat.length; at += 1) if (heat[at]) pixels[at] = shade[alphas[(Math.log(1 + heat[at]) * steps) | 0]];
  context.putImageData(image, 0, 0);
}

// count lines from pixel a of one axis to pixel b of the next, without gaps where they are steep.
function ray(heat, count, a, b, from, steps, along, across) {
  const slope = (b - a) / steps;
  let here = a;
  for (let step = 0; step < steps; step += 1) {
    const next = a + slope * (step + 1);
    const base = (from + step) * along;
    let low = (here + 0.5) | 0;
    let high = (next + 0.5) | 0;
    if (high < low) [low, high] = [high, low];
    const part = high > low ? count / (high - low) : count;
    if (high === low) high += 1;
    for (let p = low; p < high; p += 1) heat[base + p * across] += part;
    here = next;
  }
}

// The scatter; at(px, py) finds a design:
// show({ table, x, y, lying, standing, solid, turn, mask, count, all, front, marks, ranges, swept, fresh }): columns by name and as axes
function scatterView(root) {
  const layers = layersOf("ckx-scatter", 2);
  const { box, under, svg, contexts } = layers;
  let cells = new Int32Array(0);
  let spot = () => [0, 0];
  let area;
  let seen;
  const measure = () => {
    const width = Math.max(200, Math.floor(box.clientWidth));
    const height = width < 600 ? 340 : 440;
    layers.fit(width, height);
    area = { width, height, left: width < 600 ? 44 : 64, top: 30, right: width - 12, bottom: height - 46 };
  };
  // where a design lies in the picture, null outside of it
  const place = (shown) => {
    const { width } = contexts[0].canvas;
    const ratio = layers.ratio();
    if (cells.length !== shown.table.count) cells = new Int32Array(shown.table.count);
    const cell = (x, y) => Math.round(y * ratio - 0.5) * width + Math.round(x * ratio - 0.5);
    if (shown.solid) {
      const [a, b, c] = shown.table.setup.objectives.map(([name]) => shown.table.columns.get(name).place);
      const to = projection(shown.turn, area);
      spot = (i) => (a[i] < 0 || b[i] < 0 || c[i] < 0 ? null : to(a[i] - 0.5, b[i] - 0.5, c[i] - 0.5));
      for (let i = 0; i < cells.length; i += 1) {
        const at = spot(i);
        cells[i] = at ? cell(at[0], at[1]) : -1;
      }
      return;
    }
    const [px, py] = [shown.lying.place, shown.standing.place];
    const { left, bottom } = area;
    const [w, h] = [area.right - left, bottom - area.top];
    spot = (i) => (px[i] < 0 || py[i] < 0 ? null : [left + px[i] * w, bottom - py[i] * h]);
    for (let i = 0; i < cells.length; i += 1) cells[i] = px[i] < 0 || py[i] < 0 ? -1 : cell(left + px[i] * w, bottom - py[i] * h);
  };
  const show = (shown) => {
    const fresh = shown.fresh || !seen;
    seen = shown;
    if (fresh) {
      measure();
      place(shown);
    }
    const colours = coloursOf(root);
    const { lying, standing } = shown;
    const filtered = !shown.all;
    if (fresh || filtered !== box.filtered) {
      contexts[0].clearRect(0, 0, contexts[0].canvas.width, contexts[0].canvas.height);
      if (filtered) paintDots(contexts[0], cells, shown.table.runs, colours.rgb.line, [130, 220], shown.table.running < 20000 ? 3 : 2);
      box.filtered = filtered;
    }
    if (fresh || shown.swept) paintDots(contexts[1], cells, shown.mask, filtered ? colours.rgb.accent : colours.rgb.muted, filtered ? [70, 190] : [46, 170], shown.count < 20000 ? 3 : 2);
    if (layers.stands([lying, standing], area, shown.solid && shown.turn, colours.dark)) under.replaceChildren(...(shown.solid ? cubeOf(shown, area, colours) : frameOf(shown, area, colours)));
    svg.replaceChildren(...(shown.solid ? [] : boxOf(shown, area, colours)), ...marksOf(shown, spot, area, colours));
  };
  const at = (x, y, reach = 14) => {
    let best = -1;
    let least = reach * reach;
    const { width } = contexts[0].canvas;
    const ratio = layers.ratio();
    const near = (i, bonus) => {
      if (cells[i] < 0) return;
      const dx = (cells[i] % width) / ratio - x;
      const dy = Math.floor(cells[i] / width) / ratio - y;
      const far = dx * dx + dy * dy;
      if (far * bonus < least) [best, least] = [i, far * bonus];
    };
    for (let i = 0; i < cells.length; i += 1) if (seen.mask[i]) near(i, 1);
    for (const i of seen.front) near(i, 0.25);
    return best;
  };
  return { ...layers, show, at, area: () => area };
}

// From a point of the box [-0.5, 0.5]³ to the picture; the third objective stands upright.
function projection({ yaw, tilt }, { width, height, bottom, top }) {
  const scale = 0.62 * Math.min(width * 0.9, bottom - top);
  const [cy, sy, ct, st] = [Math.cos(yaw), Math.sin(yaw), Math.cos(tilt), Math.sin(tilt)];
  return (x, y, z) => [width / 2 + scale * (x * cy - y * sy), (top + bottom) / 2 + 10 - scale * (z * ct - (x * sy + y * cy) * st)];
}

function frameOf({ lying: cx, standing: cy }, area, colours) {
  const { left, right, top, bottom } = area;
  const parts = [];
  const words = { fill: colours.muted, "font-size": 13 };
  for (const { at, text } of ticksOf(cx, Math.max(3, Math.floor((right - left) / 90)))) {
    const px = left + at * (right - left);
    parts.push(svgNode("line", { x1: px, x2: px, y1: top, y2: bottom, stroke: colours.line }), svgNode("text", { ...words, x: px, y: bottom + 18, "text-anchor": "middle" }, text));
  }
  for (const { at, text } of ticksOf(cy, 6)) {
    const py = bottom - at * (bottom - top);
    parts.push(svgNode("line", { x1: left, x2: right, y1: py, y2: py, stroke: colours.line }), svgNode("text", { ...words, x: left - 6, y: py + 4, "text-anchor": "end" }, text));
  }
  parts.push(svgNode("text", { ...words, x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" }, axisTitle(cx)), svgNode("text", { ...words, x: 2, y: 16 }, axisTitle(cy)));
  parts.push(svgNode("path", { d: `M${left} ${top}V${bottom}H${right}`, fill: "none", stroke: colours.muted }));
  return parts;
}

// The ranges of both axes as a box.
function boxOf({ x, y, lying, standing, ranges }, { left, right, top, bottom }, colours) {
  if (!ranges[x] && !ranges[y]) return [];
  const ends = (column, range) => [range?.[0] ?? null, range?.[1] ?? null].map((v, n) => (v === null ? n : placeOf(column, v)));
  const [x0, x1] = ends(lying, ranges[x]);
  const [y0, y1] = ends(standing, ranges[y]);
  const box = { x: left + x0 * (right - left), y: bottom - y1 * (bottom - top), width: Math.max(1, (x1 - x0) * (right - left)), height: Math.max(1, (y1 - y0) * (bottom - top)) };
  return [svgNode("rect", { ...box, fill: colours.accent, "fill-opacity": 0.06, stroke: colours.accent, "stroke-width": 1.5 })];
}

// The edges of the box that three objectives span, and their names.
function cubeOf({ table, turn }, area, colours) {
  const to = projection(turn, area);
  const parts = [];
  const edge = (a, b, stroke) => {
    const [[x1, y1], [x2, y2]] = [to(...a), to(...b)];
    parts.push(svgNode("line", { x1, y1, x2, y2, stroke }));
  };
  for (const u of [-0.5, 0.5]) {
    for (const v of [-0.5, 0.5]) {
      edge([-0.5, u, v], [0.5, u, v], u + v < -0.9 ? colours.muted : colours.line);
      edge([u, -0.5, v], [u, 0.5, v], u + v < -0.9 ? colours.muted : colours.line);
      edge([u, v, -0.5], [u, v, 0.5], u + v < -0.9 ? colours.muted : colours.line);
    }
  }
  table.setup.objectives.forEach(([name], n) => {
    const [px, py] = to(...[0, 1, 2].map((m) => (m === n ? 0.62 : -0.5)));
    const anchor = px > area.width * 0.7 ? "end" : px < area.width * 0.3 ? "start" : "middle";
    const column = table.columns.get(name);
    parts.push(svgNode("text", { x: px, y: py, fill: colours.text, "font-size": 13, "text-anchor": anchor }, `${column.label}${column.unit ? ` (${column.unit}${column.log ? ", log" : ""})` : ""} →`));
  });
  return parts;
}

// The front as a line with marked points, the knee and the pins with their names, the design under the cursor.
function marksOf({ table, x, y, solid, front, marks }, spot, area, colours) {
  const points = front.map(spot).filter(Boolean);
  const dot = ([px, py], r) => `M${px.toFixed(1)} ${py.toFixed(1)}m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
  const parts = [];
  if (!solid) {
    const line = bestOfTwo(table, front, x, y).map(spot).filter(Boolean);
    if (line.length > 1) parts.push(svgNode("path", { d: `M${line.map((p) => p.map((v) => v.toFixed(1))).join("L")}`, fill: "none", stroke: colours.text, "stroke-width": 1.5 }));
  }
  const radius = front.length > 150 ? 2.5 : 3.5;
  parts.push(svgNode("path", { d: points.map((p) => dot(p, radius)).join(""), fill: colours.text, stroke: colours.ground, "stroke-width": 1 }));
  const taken = [];
  for (const { at, word, strong } of marks) {
    const place = spot(at);
    if (!place) continue;
    const [px, py] = place;
    parts.push(svgNode("path", { d: dot(place, strong ? 8 : 7), fill: strong ? "none" : colours.ground, stroke: strong ? colours.accent : colours.text, "stroke-width": strong ? 3 : 2.5 }));
    if (!word) continue;
    const right = px < area.width - 90;
    let ty = py + (py > area.top + 24 ? -10 : 20);
    while (taken.some(([tx, t]) => Math.abs(tx - px) < 60 && Math.abs(t - ty) < 16)) ty += 16;
    taken.push([px, ty]);
    const label = { x: px + (right ? 11 : -11), y: ty, "text-anchor": right ? "start" : "end", fill: colours.text, "font-size": 13, "font-weight": 600 };
    parts.push(svgNode("text", { ...label, stroke: colours.ground, "stroke-width": 4, "paint-order": "stroke" }, word));
  }
  return parts;
}

// Those of the front that no other beats in the two columns of the axes alone; none where one is no result.
function bestOfTwo(table, front, x, y) {
  const [cx, cy] = [table.columns.get(x), table.columns.get(y)];
  if (!cx.better || !cy.better || x === y) return [];
  const [right, up] = [cx, cy].map(({ better }) => (better === "higher" ? -1 : 1));
  const kept = [];
  let least = Infinity;
  for (const i of [...front].sort((a, b) => right * (cx.value(a) - cx.value(b)) || up * (cy.value(a) - cy.value(b)))) {
    if (up * cy.value(i) < least) {
      kept.push(i);
      least = up * cy.value(i);
    }
  }
  return kept;
}
