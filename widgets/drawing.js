// What pages share that draw their pictures themselves: SVG, log axes, numbers as people read them, and saving.
// page.js stands before this text.

function svgNode(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setSvg(node, attributes);
  node.append(...children);
  return node;
}

// What stays as it is costs nothing: a drag sets the same attributes again and again.
function setSvg(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    const text = String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

// As Python rounds: the number itself, not what multiplying makes of it, and half to even.
function rounded(value, digits) {
  if (digits < 0) return rounded(value / 10 ** -digits, 0) * 10 ** -digits;
  const near = value.toFixed(digits);
  const half = /^50*$/.test(value.toFixed(digits + 30).slice(-30));
  return half && Number(near.at(-1)) % 2 ? Number(near) - Math.sign(value) * 10 ** -digits : Number(near);
}

// codesign_kernel.units.three_digits
function threeDigits(value) {
  if (value === 0 || !Number.isFinite(value)) return value === 0 ? "0" : String(value);
  const magnitude = (x) => Math.floor(Math.log10(Math.abs(x)));
  const near = rounded(value, 2 - magnitude(value));
  return near.toFixed(Math.max(0, 2 - magnitude(near)));
}

const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"]];

// codesign_kernel.units.quantity, for units that take decimal prefixes
function quantity(value, unit) {
  if (value === 0 || !Number.isFinite(value)) return `${value} ${unit}`;
  const [scale, prefix] = PREFIXES.find(([step]) => Math.abs(value) >= step * 0.9995) ?? PREFIXES.at(-1);
  return `${threeDigits(value / scale)} ${prefix}${unit}`;
}

// codesign_kernel.figures.words.percent
function percent(share) {
  const number = share > 0 && share < 0.01 ? "<\u00a01" : share > 0.99 && share < 1 ? ">\u00a099" : rounded(100 * share, 0).toFixed(0);
  return `${number}\u00a0%`;
}

// A log axis over [low, high], drawn from pixel `from` to pixel `to`: { at(value), ticks: [value], span }.
function logAxis(low, high, from, to) {
  const [first, last] = [Math.log10(low), Math.log10(high)];
  const decades = last - first;
  const steps = decades < 2 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / 8));
  const ticks = [];
  for (let decade = Math.floor(first); decade <= Math.ceil(last); decade += 1) {
    if (decade % every === 0) for (const step of steps) ticks.push(step * 10 ** decade);
  }
  return {
    at: (value) => from + ((Math.log10(value) - first) / decades) * (to - from),
    value: (pixel) => 10 ** (first + ((pixel - from) / (to - from)) * decades),
    ticks: ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001),
    pixels: Math.abs(to - from) / decades,
  };
}

const tickText = (tick) => (tick >= 1 ? tick.toLocaleString("en-US", { maximumFractionDigits: 0 }) : String(Number(tick.toPrecision(6))));

const INKED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "visibility"];

// The picture as a file of its own: the colours that the page gives it are written into it.
function svgText(svg, title, ground) {
  const copy = svg.cloneNode(true);
  const pairs = [[svg, copy], ...[...svg.querySelectorAll("*")].map((node, i) => [node, copy.querySelectorAll("*")[i]])];
  for (const [node, twin] of pairs) {
    const seen = getComputedStyle(node);
    for (const name of INKED) twin.style.setProperty(name, seen.getPropertyValue(name));
  }
  const { width, height } = svg.getBoundingClientRect();
  setSvg(copy, { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 -36 ${width} ${height + 36}` });
  const heading = svgNode("text", { x: 8, y: -14, fill: getComputedStyle(svg).color, "font-family": "sans-serif", "font-size": 15, "font-weight": 600 }, title);
  copy.prepend(svgNode("rect", { x: 0, y: -36, width, height: height + 36, fill: ground }), heading);
  return { text: new XMLSerializer().serializeToString(copy), width, height: height + 36 };
}

function savePng(name, { text, width, height }) {
  const image = new Image();
  image.onload = () => {
    const canvas = make("canvas", { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
    canvas.toBlob((blob) => ckSave(`${name}.png`, blob));
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
}

function csvText(rows) {
  // a spreadsheet takes text that starts with one of these for a formula
  const safe = (cell) => (typeof cell === "string" && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell ?? ""));
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  return rows.map((row) => row.map((cell) => quoted(safe(cell))).join(",")).join("\r\n");
}

// The buttons under a picture. rows() gives its data, the head first; title() its finding.
function saveButtons(svg, file, title, rows) {
  const ground = () => getComputedStyle(svg.closest(".ckx")).backgroundColor;
  const actions = {
    SVG: () => ckSave(`${file}.svg`, new Blob([svgText(svg, title(), ground()).text], { type: "image/svg+xml" })),
    PNG: () => savePng(file, svgText(svg, title(), ground())),
    CSV: () => ckSave(`${file}.csv`, new Blob([csvText(rows())], { type: "text/csv" })),
  };
  return Object.entries(actions).map(([label, action]) => {
    const button = make("button", { type: "button", "aria-label": `Save ${file} as ${label}` }, label);
    button.addEventListener("click", action);
    return button;
  });
}

// A table whose rows are told apart by their number; a cell is a text. Redrawn where something changed.
function plainTable(caption, heads) {
  const body = make("tbody");
  const table = make("table", { className: "ckx-table" }, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), body);
  const frame = make("div", { className: "ckx-frame", role: "region", "aria-label": caption }, table);
  frame.tabIndex = 0; // what scrolls has to be reachable by keyboard
  const show = (rows) =>
    body.replaceChildren(...rows.map((cells) => make("tr", {}, ...cells.map((cell, i) => make(i ? "td" : "th", { ...(i ? {} : { scope: "row" }), "data-label": heads[i] }, cell)))));
  return { frame, show };
}
