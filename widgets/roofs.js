// The roofs of an accelerator from plain numbers: codesign_kernel.figures.roofs, in the page, so that they move at once;
// and their picture. page.js and drawing.js stand before this text.

// { peak (MAC/s), roofs: [{ level, label, bandwidth (byte/s) }] } of a machine of these terms with these parameters.
function roofsOf(terms, external, p) {
  const hz = p.frequency_mhz * 1e6;
  const sides = { rows: p.rows, cols: p.cols, lanes: Math.max(p.rows, p.cols) };
  const perCycle = (p.bandwidth_gb_s * 8000) / p.frequency_mhz;
  let bus = perCycle;
  if (terms.bus_word_bits) {
    // a bus as wide as a power of two, which divides a word
    const word = sides.lanes * terms.bus_word_bits;
    for (bus = 1; 2 * bus <= Math.min(perCycle, 1024) && word % (2 * bus) === 0; ) bus *= 2;
  }
  const inside = terms.levels.map(({ level, label, ports }) => {
    const word = ports.reduce((sum, { side, bits }) => sum + sides[side] * bits, 0);
    return { level, label, bandwidth: ((p.onchip_words * word) / 8) * hz };
  });
  return { peak: p.rows * p.cols * hz, roofs: [{ ...external, bandwidth: (bus / 8) * hz }, ...inside] };
}

// A layer under the roofs: what limits it, the lowest roof over it, and what it attains of the model's rate.
function underRoofs({ peak, roofs }, layer, near) {
  let lowest = Infinity;
  let level = "compute";
  for (const roof of roofs) {
    const intensity = layer.intensities[roof.level];
    if (intensity !== null && roof.bandwidth * intensity < lowest) {
      lowest = roof.bandwidth * intensity;
      level = roof.level;
    }
  }
  const limit = lowest < near * peak ? level : "compute";
  const allowed = Math.min(peak, lowest);
  return { limit, allowed, attained: Math.min(layer.rate, allowed) };
}

const SHAPES = { compute: "M0-1A1 1 0 1 1 0 1 1 1 0 0 1 0-1Z", external: "M-.9-.9H.9V.9H-.9Z", inside: "M0-1.2L1.2 0 0 1.2-1.2 0Z" };
const REACH = 24; // px around the pointer within which a layer is found

function kindOf(limit, external) {
  if (limit === "compute") return "compute";
  return limit === external.level ? "external" : "inside";
}

// What there is to say of a layer: one sentence, and one line for each memory.
function layerWords(layer, view) {
  const roof = view.roofs.roofs.find(({ level }) => level === layer.limit);
  const what = roof ? `the ${roof.label}` : "the array";
  return {
    name: layer.name,
    sentence: `${quantity(layer.attained, "MAC/s")}, ${percent(layer.attained / layer.allowed)} of its roof, which ${what} sets; ${percent(layer.share)} of the time`,
    memories: view.roofs.roofs.map(({ level, label, bandwidth }) => {
      const intensity = layer.intensities[level];
      if (intensity === null) return `${label}: moves nothing`;
      return `${label}: ${threeDigits(intensity)} MAC/B, allows ${quantity(Math.min(view.roofs.peak, intensity * bandwidth), "MAC/s")}`;
    }),
  };
}

// Half decades around what has to be seen, so that the axes stand while a slider moves a little.
function spanOf(values) {
  const logs = values.filter((value) => value > 0 && Number.isFinite(value)).map(Math.log10);
  return [10 ** (Math.floor(2 * Math.min(...logs)) / 2), 10 ** (Math.ceil(2 * Math.max(...logs)) / 2)];
}

function axesOf(view, box) {
  const ridges = [...view.roofs.roofs, ...view.usual.roofs].map(({ bandwidth }, i) => (i < view.roofs.roofs.length ? view.roofs : view.usual).peak / bandwidth);
  const seen = view.layers.flatMap((layer) => Object.values(layer.intensities).filter((value) => value !== null));
  const inside = view.layers.some((layer) => layer.intensities[view.external] === null);
  const edge = inside ? 64 : 0;
  const x = logAxis(...spanOf([...seen.map((v) => v / 1.3), ...seen.map((v) => v * 1.3), ...ridges]), box.left, box.right - edge);
  const rates = view.layers.map((layer) => layer.attained);
  const y = logAxis(...spanOf([...rates.map((v) => v / 1.6), view.roofs.peak * 1.4, view.usual.peak]), box.bottom, box.top);
  return { x, y, edge };
}

// Of a roof: where it enters the plot, its ridge, and the right edge, as a path.
function roofPath({ x, y }, box, peak, bandwidth) {
  const [left, floor] = [x.value(box.left), y.value(box.bottom)];
  const start = Math.max(left, floor / bandwidth);
  const ridge = peak / bandwidth;
  const low = y.at(Math.max(floor, Math.min(peak, start * bandwidth)));
  return ridge <= left ? `M${box.left} ${y.at(peak)}H${box.right}` : `M${x.at(start)} ${low}L${x.at(ridge)} ${y.at(peak)}H${box.right}`;
}

// Lines that lie upon one another have one label: [{ words, bandwidth }].
function slopeLabels(roofs, narrow) {
  const groups = [];
  for (const roof of roofs) {
    const twin = groups.find(([other]) => Math.abs(Math.log(other.bandwidth / roof.bandwidth)) < 0.12);
    if (twin) twin.push(roof);
    else groups.push([roof]);
  }
  const short = ({ label }) => label.replace(/ (buffer|memory)$/, "");
  return groups.map((group) => {
    const words = narrow ? "" : group.length > 1 ? `${group.map(short).join(", ")} ` : `${group[0].label} `;
    return { words: `${words}${quantity(group[0].bandwidth, "B/s")}`, bandwidth: group[0].bandwidth };
  });
}

// The picture: made once, moved in place, so that a drag costs little and the focus stays.
function roofPicture(chosen) {
  const svg = svgNode("svg", { class: "ckx-roofs" });
  const grid = svgNode("g", { "aria-hidden": "true" });
  const lines = svgNode("g", { "aria-hidden": "true" });
  const memories = svgNode("g", { "aria-hidden": "true" });
  const points = svgNode("g", { role: "listbox", "aria-label": "Layers, in the order of the network", class: "ckx-layers" });
  const names = svgNode("g", { "aria-hidden": "true", class: "ckx-names" });
  svg.append(grid, lines, memories, points, names);
  let shown = [];
  let places = [];
  let taken = []; // places of the words along the slopes
  let gridded = "";
  let named = "";
  const pick = (i) => chosen(shown[i].name);

  const drawGrid = ({ x, y, edge }, box, narrow) => {
    const key = `${x.at(1)} ${x.pixels} ${y.at(1)} ${y.pixels} ${edge} ${box.right}`;
    if (key === gridded) return;
    gridded = key;
    const parts = [];
    const room = narrow ? 34 : 44;
    let last = -Infinity;
    for (const tick of x.ticks) {
      const at = x.at(tick);
      parts.push(svgNode("line", { x1: at, x2: at, y1: box.top, y2: box.bottom, class: "ckx-grid" }));
      if (at - last < room) continue;
      last = at;
      parts.push(svgNode("text", { x: at, y: box.bottom + 18, "text-anchor": at > box.right - 20 ? "end" : "middle" }, tickText(tick)));
    }
    for (const tick of y.ticks) {
      parts.push(svgNode("line", { x1: box.left, x2: box.right, y1: y.at(tick), y2: y.at(tick), class: "ckx-grid" }));
      parts.push(svgNode("text", { x: box.left - 6, y: y.at(tick) + 4, "text-anchor": "end" }, tickText(tick / 1e9)));
    }
    parts.push(svgNode("text", { x: box.left, y: box.bottom + 40 }, narrow ? "MAC per byte of each memory (log)" : "Intensity (MAC per byte that passes the memory, log scale)"));
    parts.push(svgNode("text", { x: 4, y: 12 }, "GMAC/s (log scale), higher is better"));
    if (edge) {
      const at = box.right - edge + 4;
      parts.push(svgNode("line", { x1: at, x2: at, y1: box.top, y2: box.bottom, class: "ckx-edge" }));
      parts.push(svgNode("text", { x: box.right, y: box.bottom - 20, "text-anchor": "end" }, "no external"));
      parts.push(svgNode("text", { x: box.right, y: box.bottom - 5, "text-anchor": "end" }, "traffic"));
    }
    grid.replaceChildren(...parts);
  };

  const drawRoofs = (view, axes, box, narrow) => {
    const parts = [];
    if (view.moved) parts.push(svgNode("path", { d: roofPath(axes, box, view.usual.peak, view.usual.roofs[0].bandwidth), class: "ckx-usual" }));
    for (const { level, bandwidth } of view.roofs.roofs) {
      const line = level === view.external ? "ckx-roof" : "ckx-roof ckx-inner";
      parts.push(svgNode("path", { d: roofPath(axes, box, view.roofs.peak, bandwidth), class: line, "data-level": level, "data-bandwidth": bandwidth }));
    }
    const slant = (Math.atan2(axes.y.pixels, axes.x.pixels) * 180) / Math.PI;
    taken = [];
    slopeLabels(view.roofs.roofs, narrow).forEach(({ words, bandwidth }, i) => {
      const start = Math.max(axes.x.value(box.left), axes.y.value(box.bottom) / bandwidth);
      const along = start * (view.roofs.peak / bandwidth / start) ** (narrow ? 0.5 : 0.45 + 0.2 * (i % 2));
      const [x, y] = [axes.x.at(along), axes.y.at(along * bandwidth)];
      if (x <= box.left + 40) return;
      const [run, rise] = [Math.cos((slant * Math.PI) / 180), Math.sin((slant * Math.PI) / 180)];
      for (let far = -3.5 * words.length; far <= 3.5 * words.length; far += 14) taken.push([x + far * run - 10 * rise, y - far * rise - 10 * run]);
      parts.push(svgNode("text", { class: "ckx-slope", "text-anchor": "middle", transform: `translate(${x} ${y}) rotate(${-slant}) translate(0 -6)` }, words));
    });
    parts.push(svgNode("text", { x: box.right, y: axes.y.at(view.roofs.peak) - 7, "text-anchor": "end", class: "ckx-slope" }, `peak ${quantity(view.roofs.peak, "MAC/s")}`));
    lines.replaceChildren(...parts);
  };

  const drawPoints = (view, axes, box) => {
    if (shown.map(({ name }) => name).join("\n") !== view.layers.map(({ name }) => name).join("\n")) {
      points.replaceChildren(...view.layers.map(() => svgNode("g", { role: "option", class: "ckx-point" }, svgNode("circle", { r: 20, class: "ckx-target" }), svgNode("circle", { class: "ckx-ring" }), svgNode("path"))));
    }
    shown = view.layers;
    places = shown.map((layer) => {
      const intensity = layer.intensities[view.external];
      return [intensity === null ? box.right - axes.edge / 2 : axes.x.at(intensity), axes.y.at(layer.attained)];
    });
    const walk = Math.max(0, shown.findIndex(({ name }) => name === view.selected));
    shown.forEach((layer, i) => {
      const node = points.children[i];
      const radius = 4 + 11 * Math.sqrt(layer.share);
      setSvg(node, {
        transform: `translate(${places[i][0]} ${places[i][1]})`, tabindex: i === walk ? 0 : -1, "aria-selected": String(layer.name === view.selected),
        "data-kind": layer.kind,
      });
      setSvg(node.children[1], { r: radius + 4 });
      setSvg(node.children[2], { d: SHAPES[layer.kind], transform: `scale(${radius})` });
    });
  };

  // The chosen layer at each memory: how far it lies from that memory's slope.
  const drawMemories = (view, axes, box) => {
    const i = shown.findIndex(({ name }) => name === view.looked);
    if (i < 0) return memories.replaceChildren();
    const [own, y] = places[i];
    const at = view.roofs.roofs.slice(1).filter(({ level }) => shown[i].intensities[level] !== null).map((roof) => ({ roof, x: axes.x.at(shown[i].intensities[roof.level]) }));
    const marks = at.flatMap(({ roof, x }) => {
      const top = axes.y.at(Math.min(view.roofs.peak, shown[i].intensities[roof.level] * roof.bandwidth));
      return [svgNode("line", { x1: x, x2: x, y1: y, y2: top, class: "ckx-link" }), svgNode("circle", { cx: x, cy: y, r: 4, class: "ckx-mark" })];
    });
    const words = at.sort((a, b) => a.x - b.x).map(({ roof, x }, k) => svgNode("text", { x, y: y + 18 + 15 * (k % 3), "text-anchor": x > box.right - 120 ? "end" : "middle", class: "ckx-mark-name" }, roof.label));
    const ends = [own, ...at.map(({ x }) => x)];
    memories.replaceChildren(svgNode("line", { x1: Math.min(...ends), x2: Math.max(...ends), y1: y, y2: y, class: "ckx-link" }), ...marks, ...words);
  };

  // The name of the layer looked at, or those of the slowest, as far as they lie over nothing.
  const drawNames = (view, axes, box, narrow) => {
    const peak = axes.y.at(view.roofs.peak);
    const key = `${view.looked} ${box.right} ${peak} ${places.join(" ")} ${taken.join(" ")}`;
    if (key === named) return;
    named = key;
    const placed = [];
    const wanted = shown.map((layer, i) => ({ layer, i })).sort((a, b) => (b.layer.name === view.looked) - (a.layer.name === view.looked) || b.layer.share - a.layer.share);
    const parts = [];
    for (const { layer, i } of wanted) {
      const [x, y] = places[i];
      const text = layer.name.length > 22 ? `…${layer.name.slice(-21)}` : layer.name;
      const half = 3.6 * text.length;
      const middle = Math.min(Math.max(x, box.left + half), box.right - half);
      const top = y - 12 - 11 * Math.sqrt(layer.share);
      const covers = places.some(([a, b], other) => other !== i && Math.abs(a - middle) < half + 6 && b > top - 18 && b < top + 10);
      const writes = taken.some(([a, b]) => Math.abs(a - middle) < half + 6 && Math.abs(b + 4 - top) < 16);
      const clashes = writes || placed.some(([a, b, w]) => Math.abs(a - middle) < w + half + 8 && Math.abs(b - top) < 18);
      if (layer.name !== view.looked && (view.looked || covers || clashes || Math.abs(top - 4 - peak) < 14)) continue;
      placed.push([middle, top, half]);
      parts.push(svgNode("text", { x: middle, y: top, "text-anchor": "middle", class: layer.name === view.looked ? "ckx-looked" : "" }, text));
      if (parts.length === (narrow ? 3 : 6)) break;
    }
    names.replaceChildren(...parts);
  };

  const draw = (view, width) => {
    const narrow = width < 600;
    const height = narrow ? 300 : 440;
    setSvg(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    const box = { left: narrow ? 44 : 56, right: width - 12, top: 30, bottom: height - 50 };
    const axes = axesOf(view, box);
    drawGrid(axes, box, narrow);
    drawRoofs(view, axes, box, narrow);
    drawPoints(view, axes, box);
    drawMemories(view, axes, box);
    drawNames(view, axes, box, narrow);
  };

  // What nobody sees waits until the slider rests.
  const label = (view) =>
    view.layers.forEach((layer, i) => {
      const { name, sentence } = layerWords(layer, view);
      setSvg(points.children[i], { "aria-label": `${name}: ${sentence}` });
    });

  const nearest = (event) => {
    const frame = svg.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    let [best, far] = [-1, REACH];
    places.forEach(([a, b], i) => {
      const away = Math.hypot(a - x, b - y);
      if (away < far) [best, far] = [i, away];
    });
    return best;
  };
  points.addEventListener("keydown", (event) => {
    const now = [...points.children].indexOf(event.target);
    const to = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to === undefined && event.key !== "Escape") return;
    event.preventDefault();
    if (event.key === "Escape") return chosen("");
    const next = Math.min(Math.max(to, 0), shown.length - 1);
    pick(next);
    points.children[next].focus();
  });
  points.addEventListener("focusin", (event) => pick([...points.children].indexOf(event.target)));
  return { svg, draw, label, nearest, nameAt: (i) => shown[i]?.name ?? "" };
}
