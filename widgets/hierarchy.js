// The memory hierarchy of one mapping: boxes from DRAM to the array, arrows as thick as what moves.
// page.js and drawing.js stand before this text.

const OPERANDS = { W: "weights", I: "inputs", O: "outputs", "-": "instructions" };
const STAYS = { ws: "W", os: "O", is: "I" };
const ROWS = { dram: 0, register: 2, compute: 2 };
const rowOf = (level) => ROWS[level] ?? 1;
const HEIGHTS = [64, 108, 64];
const TOPS = [2, 162, 366];
const TOTAL = 434;
const ORDER = ["weight", "input", "activation", "shared", "output", "accumulator", "instruction"];

// { level: [x, y, width, height] }
function placesOf(boxes, width) {
  const places = {};
  for (const row of [0, 1, 2]) {
    const here = boxes.filter(({ level }) => rowOf(level) === row).sort((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level));
    const gap = 10;
    const each = (width - 4 - gap * (here.length - 1)) / here.length;
    here.forEach(({ level }, i) => {
      places[level] = [2 + i * (each + gap), TOPS[row], each, HEIGHTS[row]];
    });
  }
  return places;
}

// Words in lines of at most so many characters.
function wrapped(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    if (line && line.length + word.length + 1 > most) lines.push(word);
    else lines[lines.length - 1] = line ? `${line} ${word}` : word;
  }
  return lines;
}

function boxNode(box, [x, y, width, height], most, stays) {
  const node = svgNode("g", { class: "ckx-box", role: "button", tabindex: 0, "aria-pressed": "false", "aria-label": box.words, "data-level": box.level });
  const memory = box.level !== "compute";
  node.append(svgNode("rect", { x, y, width, height, rx: 6, class: "ckx-frame-rect" }));
  const lines = wrapped(box.label, Math.floor((width - 14) / 7.6));
  lines.slice(0, 2).forEach((line, i) => {
    const tight = 7.6 * line.length > width - 12 ? { textLength: width - 14, lengthAdjust: "spacingAndGlyphs" } : {};
    node.append(svgNode("text", { x: x + 8, y: y + 19 + 16 * i, class: "ckx-box-name", ...tight }, line));
  });
  let at = y + 19 + 16 * Math.min(2, lines.length);
  if (box.capacity) {
    node.append(svgNode("text", { x: x + 8, y: at }, box.full ? (width > 130 ? `${box.full} of ${box.capacity}` : box.full) : box.capacity));
    node.append(svgNode("rect", { x: x + 8, y: at + 7, width: width - 16, height: 10, class: "ckx-room" }));
    let left = x + 8;
    for (const { operand, share } of box.held) {
      const wide = Math.min(share, 1) * (width - 16);
      node.append(svgNode("rect", { x: left, y: at + 7, width: wide, height: 10, class: `ckx-fill ckx-op-${operand}` }));
      left += wide;
    }
  }
  const energy = Math.max(0, most ? box.energy_pj / most : 0) * (width - 16);
  if (box.level === "register") node.append(svgNode("text", { x: x + width - 8, y: y + height - 12, "text-anchor": "end" }, `${stays} stays`));
  node.append(svgNode("text", { x: x + 8, y: y + height - 12, class: "ckx-energy" }, box.energy));
  node.append(svgNode("rect", { x: x + 8, y: y + height - 7, width: Math.max(energy, 0.5), height: 4, class: memory ? "ckx-memory" : "ckx-compute" }));
  return node;
}

// An arrow from (x, y0) to (x, y1), `thick` wide, with its number on it.
function arrowNode(flow, x, y0, y1, thick, label, width) {
  const way = Math.sign(y1 - y0);
  const head = Math.max(7, thick * 0.9);
  const neck = y1 - way * head;
  const half = thick / 2;
  const tip = Math.max(5, half + 3);
  const body = `M${x - half} ${y0}V${neck}H${x - tip}L${x} ${y1}L${x + tip} ${neck}H${x + half}V${y0}Z`;
  return svgNode(
    "g",
    { class: "ckx-flow", "data-operand": flow.operand, "data-source": flow.source, "data-target": flow.target, "data-bits": flow.bits },
    svgNode("path", { d: body, class: `ckx-op-${flow.operand}` }),
    svgNode("text", { x: Math.min(Math.max(x, 42), width - 42), y: label, "text-anchor": "middle", class: "ckx-flow-name" }, flow.operand === "-" ? flow.text : `${flow.operand} ${flow.text}`),
  );
}

// scale: { bits, energy_pj }, the largest arrow and box of all sides; pressed(level) when a box is pressed.
function drawHierarchy(svg, side, width, scale, pressed) {
  setSvg(svg, { width, height: TOTAL, viewBox: `0 0 ${width} ${TOTAL}` });
  const places = placesOf(side.boxes, width);
  const thick = ({ bits }) => 2 + 18 * Math.sqrt(bits / scale.bits);
  const flows = [];
  for (const upper of [0, 1]) {
    // arrows of one gap between rows, by the box in the middle row whose they are
    const gap = side.flows.filter(({ source, target }) => rowOf(source) + rowOf(target) === 2 * upper + 1);
    for (const level of Object.keys(places).filter((name) => rowOf(name) === 1)) {
      const mine = gap.filter(({ source, target }) => source === level || target === level);
      const [x, , wide] = places[level];
      mine.forEach((flow, i) => {
        const at = x + (wide * (i + 0.5)) / mine.length;
        const [top, bottom] = [TOPS[upper] + HEIGHTS[upper] + 3, TOPS[upper + 1] - 3];
        const down = rowOf(flow.source) < rowOf(flow.target);
        const label = top + ((bottom - top) * (i + 1)) / (mine.length + 1) + 4;
        flows.push(arrowNode(flow, at, down ? top : bottom, down ? bottom : top, thick(flow), label, width));
      });
    }
  }
  // results of the vector unit, past the buffers; and a map that stays on chip, from buffer to buffer
  for (const flow of side.flows.filter(({ source, target }) => rowOf(source) === 2 && rowOf(target) === 0)) {
    flows.push(arrowNode(flow, width - 8, TOPS[2] - 3, TOPS[0] + HEIGHTS[0] + 3, Math.min(8, thick(flow)), TOPS[2] - 40, width));
  }
  for (const flow of side.flows.filter(({ source, target }) => rowOf(source) === 1 && rowOf(target) === 1)) {
    const [from, to] = [places[flow.source], places[flow.target]];
    const [x0, x1, y] = [from[0] + from[2] / 2, to[0] + to[2] / 2, from[1] - 18];
    const path = svgNode("path", { d: `M${x0} ${from[1]}V${y}H${x1}V${to[1] - 6}`, class: `ckx-kept ckx-line-${flow.operand}`, "stroke-width": Math.min(8, thick(flow)) });
    const tip = svgNode("path", { d: `M${x1 - 7} ${to[1] - 9}H${x1 + 7}L${x1} ${to[1]}Z`, class: `ckx-op-${flow.operand}` });
    const name = svgNode("text", { x: (x0 + x1) / 2, y: y - 8, "text-anchor": "middle", class: "ckx-flow-name" }, `${flow.operand} ${flow.text} stays`);
    flows.push(svgNode("g", { class: "ckx-flow", "data-operand": flow.operand, "data-source": flow.source, "data-target": flow.target, "data-bits": flow.bits }, path, tip, name));
  }
  const boxes = side.boxes.map((box) => {
    const node = boxNode(box, places[box.level], scale.energy_pj, STAYS[side.dataflow]);
    node.addEventListener("click", () => pressed(box.level));
    node.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      pressed(box.level);
    });
    return node;
  });
  const focused = svg.contains(document.activeElement) ? document.activeElement.dataset.level : undefined;
  svg.replaceChildren(svgNode("g", { "aria-hidden": "true" }, ...flows), ...boxes);
  if (focused) boxes.find((node) => node.dataset.level === focused)?.focus();
}

// Whether a flow has to do with what is chosen: a loop, or a level.
function flowIsMeant(flow, chosen, side) {
  if (chosen.level) {
    if (chosen.level !== "register") return [flow.source, flow.target].includes(chosen.level);
    return [flow.source, flow.target].includes("compute") && flow.operand === STAYS[side.dataflow];
  }
  const line = side.lines[chosen.loop];
  const end = line.place === "dram" ? "dram" : "compute";
  return line.moves.includes(flow.operand) && [flow.source, flow.target].includes(end);
}

// Whether a loop has to do with a level: its turns move an operand that passes there.
function loopIsMeant(line, level, side) {
  if (line.place === "dram" && level === "dram") return true;
  if (line.place === "buffer" && (level === "compute" || level === "register")) return true;
  if (line.place === "array") return level === "compute" || level === "register";
  return side.flows.some((flow) => [flow.source, flow.target].includes(level) && level !== "dram" && level !== "compute" && line.moves.includes(flow.operand) && [flow.source, flow.target].includes(line.place === "dram" ? "dram" : "compute"));
}
