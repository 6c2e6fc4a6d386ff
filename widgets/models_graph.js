// The graph of a ModelExplorer, as SVG: the kernel gives rows and lanes, this gives sizes. page.js stands before this text.

const SVG = "http://www.w3.org/2000/svg";
const VIRIDIS = [
  [68, 1, 84],
  [59, 82, 139],
  [33, 145, 140],
  [94, 201, 98],
  [253, 231, 37],
];
const BOX = { width: 152, gap: 16, thin: 22, low: 26, high: 76, between: 26, edge: 8 };

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[i].map((low, k) => Math.round(low + (at - i) * (VIRIDIS[i + 1][k] - low)));
}

// Black or white, whichever is read better on a colour.
function inkOn(rgb) {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#1B2430" : "#FFFFFF";
}

// The end of a text that fits into a box: it tells layers apart. Fonts differ, so it is measured.
const ruler = document.createElement("canvas").getContext("2d");

function fits(text, font) {
  ruler.font = font;
  return ruler.measureText(text).width <= BOX.width - 14;
}

function fitted(text, font) {
  let shown = text;
  while (shown.length > 3 && !fits(shown, font)) shown = `…${shown.replace("…", "").slice(1)}`;
  return shown;
}

// Pixels: left edges of lanes, tops and bottoms of rows, and the height of each node.
function geometry(level, values, low) {
  const most = Math.max(...values, 0) || 1;
  const heights = values.map((value) => Math.round(low + (BOX.high - low) * Math.sqrt(value / most)));
  const rows = Math.max(...level.rows) + 1;
  const tall = new Array(rows).fill(0);
  level.rows.forEach((row, n) => {
    tall[row] = Math.max(tall[row], heights[n]);
  });
  const top = [];
  let y = BOX.edge;
  for (const height of tall) {
    top.push(y);
    y += height + BOX.between;
  }
  const wide = new Array(level.width).fill(false);
  for (const lane of level.lanes) wide[lane] = true;
  const left = [];
  let x = BOX.edge;
  for (const boxes of wide) {
    left.push(x);
    x += (boxes ? BOX.width : BOX.thin) + BOX.gap;
  }
  const middle = left.map((at, lane) => at + (wide[lane] ? BOX.width : BOX.thin) / 2);
  return { heights, top, bottom: top.map((at, row) => at + tall[row]), left, middle, width: x - BOX.gap + BOX.edge, height: y };
}

function edgePath(level, at, [a, b], route) {
  const [from, to] = [level.rows[a], level.rows[b]];
  const bend = (x0, y0, x1, y1) => (x0 === x1 ? `V${y1}` : `C${x0},${(y0 + y1) / 2} ${x1},${(y0 + y1) / 2} ${x1},${y1}`);
  const x0 = at.middle[level.lanes[a]];
  const x1 = at.middle[level.lanes[b]];
  const end = at.top[to] - 3;
  const start = `M${x0},${at.top[from] + at.heights[a]}V${at.bottom[from]}`;
  if (route < 0) return start + bend(x0, at.bottom[from], x1, end);
  const x = at.middle[route];
  const last = at.bottom[to - 1];
  return `${start}${bend(x0, at.bottom[from], x, at.top[from + 1])}V${last}${bend(x, last, x1, end)}`;
}

function nodeShape(level, at, n, { value, share, id, peak, absent, font }) {
  const height = at.heights[n];
  const x = at.left[level.lanes[n]];
  const y = at.top[level.rows[n]];
  const rgb = viridis(share);
  const node = draw("g", { id: `${id}-n${n}`, role: "option", "aria-selected": "false", class: `ckx-node${value ? "" : " ckx-none"}${absent ? " ckx-absent" : ""}`, "data-n": n });
  node.setAttribute("aria-label", `${level.name[n]}, ${level.op[n]}${value ? `, ${value}` : ""}${peak ? ", memory peaks here" : ""}${absent ? `, not in ${absent}` : ""}`);
  const box = draw("rect", { x, y, width: BOX.width, height, rx: 5 });
  if (value) box.setAttribute("fill", `rgb(${rgb})`);
  const ink = value ? { style: `fill: ${inkOn(rgb)}` } : {};
  const middle = x + BOX.width / 2;
  const both = `${level.op[n]} · ${value}`;
  const words = height < 40 ? [level.name[n]] : [level.name[n], value ? (fits(both, font) ? both : value) : level.op[n]];
  const lines = words.map((text, i) => draw("text", { x: middle, y: y + height / 2 + (i - (words.length - 1) / 2) * 17, ...ink }, fitted(text, font)));
  const title = draw("title", {}, `${level.name[n]} (${level.op[n]})${value ? `: ${value}` : ""}`);
  node.append(title, box, ...lines);
  if (peak) node.append(draw("circle", { cx: x + BOX.width, cy: y, r: 6, class: "ckx-peak" }));
  return node;
}

// A list box whose options are the nodes. picked(n, how) is called for a click or a key; finer() for Enter.
function graphView(id, picked, finer, zoomed) {
  const list = make("div", { className: "ckx-graph", role: "listbox", "aria-label": "Layer graph", id: `${id}-graph` });
  list.tabIndex = 0;
  let level;
  let at;
  let zoom = 1;
  let current = -1;
  let svg;
  let shapes = []; // of nodes
  let paths = []; // of edges
  let marks = []; // which nodes are marked
  const scale = () => {
    svg.setAttribute("width", Math.round(at.width * zoom));
    svg.setAttribute("height", Math.round(at.height * zoom));
  };
  const show = (next, { measure, zoom: chosenZoom, low, peak, absent }) => {
    level = next;
    zoom = chosenZoom;
    const values = level[measure].map((value) => value ?? 0);
    at = geometry(level, values, low);
    const most = Math.max(...values, 0) || 1;
    const arrow = draw("marker", { id: `${id}-arrow`, viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" });
    arrow.append(draw("path", { d: "M0,0 L8,4 L0,8 z" }));
    const edges = draw("g", { class: "ckx-edges", "aria-hidden": "true" });
    paths = level.edges.map((edge, e) => draw("path", { d: edgePath(level, at, edge, level.routes[e]), "marker-end": `url(#${id}-arrow)` }));
    edges.append(...paths);
    marks = [];
    const font = `13px ${getComputedStyle(list).fontFamily}`;
    shapes = level.name.map((_, n) => {
      const value = values[n] ? level.text[measure][n] : "";
      return nodeShape(level, at, n, { value, share: Math.sqrt(values[n] / most), id, peak: level.layers[n].includes(peak), absent: absent(level.layers[n]), font });
    });
    svg = draw("svg", { role: "none", viewBox: `0 0 ${at.width} ${at.height}` }, draw("defs", {}, arrow), edges, ...shapes);
    scale();
    list.replaceChildren(svg);
  };
  // Marks the nodes with any of these layers; the first is brought into sight.
  const mark = (layers, seek) => {
    const chosen = level.layers.map((inside) => inside.some((layer) => layers.has(layer)));
    current = chosen.indexOf(true);
    // only what changes is touched: the page would lay out all of them again
    chosen.forEach((on, n) => on !== (marks[n] ?? false) && shapes[n].setAttribute("aria-selected", String(on)));
    level.edges.forEach(([a, b], e) => {
      const on = chosen[a] || chosen[b];
      if (on !== Boolean(marks[a] || marks[b])) paths[e].classList.toggle("ckx-on", on);
    });
    marks = chosen;
    if (current < 0) list.removeAttribute("aria-activedescendant");
    else list.setAttribute("aria-activedescendant", `${id}-n${current}`);
    if (current >= 0 && seek) reveal();
  };
  const reveal = () => {
    const x = at.left[level.lanes[current]] * zoom;
    const y = at.top[level.rows[current]] * zoom;
    const height = at.heights[current] * zoom;
    if (y < list.scrollTop || y + height > list.scrollTop + list.clientHeight) list.scrollTop = y - (list.clientHeight - height) / 2;
    if (x < list.scrollLeft || x + BOX.width * zoom > list.scrollLeft + list.clientWidth) list.scrollLeft = x - (list.clientWidth - BOX.width * zoom) / 2;
  };
  const setZoom = (value) => {
    const before = zoom;
    zoom = Math.min(Math.max(value, 0.05), 4);
    const middle = (list.scrollTop + list.clientHeight / 2) / before;
    scale();
    list.scrollTop = middle * zoom - list.clientHeight / 2;
    zoomed(zoom);
  };
  const fit = () => setZoom(Math.min(1, list.clientWidth / at.width));
  list.addEventListener("click", (event) => {
    const node = event.target.closest(".ckx-node");
    if (node) picked(Number(node.dataset.n));
  });
  list.addEventListener("dblclick", () => current >= 0 && level.layers[current].length > 1 && finer());
  list.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    setZoom(zoom * Math.exp(-event.deltaY / 400));
  });
  const beside = (step) => {
    if (current < 0) return current;
    const row = level.rows.map((r, n) => n).filter((n) => level.rows[n] === level.rows[current]);
    row.sort((a, b) => level.lanes[a] - level.lanes[b]);
    return row[row.indexOf(current) + step] ?? current;
  };
  list.addEventListener("keydown", (event) => {
    const last = level.name.length - 1;
    const steps = {
      ArrowDown: () => Math.min(current + 1, last),
      ArrowUp: () => Math.max(current - 1, 0),
      ArrowRight: () => beside(1),
      ArrowLeft: () => beside(-1),
      PageDown: () => Math.min(current + 10, last),
      PageUp: () => Math.max(current - 10, 0),
      Home: () => 0,
      End: () => last,
    };
    const others = { "+": () => setZoom(zoom * 1.25), "-": () => setZoom(zoom / 1.25), 0: () => setZoom(1), Enter: () => current >= 0 && level.layers[current].length > 1 && finer() };
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in steps || event.key in others)) return;
    event.preventDefault();
    if (event.key in others) others[event.key]();
    else if (steps[event.key]() >= 0) picked(steps[event.key]());
  });
  return { list, show, mark, fit, setZoom, zoom: () => zoom };
}
