// Parallel coordinates: an axis a column, all designs as counted lines, the front's one by one, handles for ranges.
// designs_draw.js stands before this text.

// lanesView(root, { ranges(), limit(name, range), done() }), where ranges() are those of now, drawn or not:
// show({ table, axes, mask, all, front, marks, ranges, swept, fresh }).
function lanesView(root, { ranges, limit, done }) {
  const layers = layersOf("ckx-lanes", 3);
  const { box, under, svg, contexts } = layers;
  box.append(under); // names and numbers stand above the lines
  const handles = make("div", { className: "ckx-handles" });
  box.append(handles);
  let lanes;
  let seen;
  const measure = (count) => {
    const width = Math.max(200, Math.floor(box.clientWidth));
    const upright = width >= 600;
    const height = upright ? 360 : 84 * count + 10;
    layers.fit(width, height);
    const [start, end] = upright ? [66, width - 66] : [52, height - 36];
    const [low, high] = upright ? [height - 34, 76] : [40, width - 40];
    const ratio = layers.ratio();
    lanes = {
      upright, width, height, ratio, low, high,
      at: (g) => start + (g * (end - start)) / (count - 1),
      to: (p) => low + p * (high - low),
      pixel: (bin) => (low + ((high - low) * bin) / (BINS - 1)) * ratio,
      point: (g, p) => (upright ? [lanes.at(g), lanes.to(p)] : [lanes.to(p), lanes.at(g)]),
    };
  };
  const lines = (shown, axes, colours) => {
    const context = contexts[2];
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    context.save();
    context.scale(lanes.ratio, lanes.ratio);
    const stroke = (i, colour, width, alpha) => {
      context.beginPath();
      axes.forEach(({ place }, g) => context[g ? "lineTo" : "moveTo"](...lanes.point(g, Math.max(0, place[i]))));
      Object.assign(context, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha });
      context.stroke();
    };
    const every = Math.ceil(shown.front.length / LINES);
    shown.front.forEach((i, n) => n % every === 0 && stroke(i, colours.text, 1, shown.front.length > 40 ? 0.35 : 0.6));
    for (const { at, strong } of shown.marks) {
      stroke(at, colours.ground, 5, 1);
      stroke(at, strong ? colours.accent : colours.text, 2.5, 1);
    }
    context.restore();
  };
  const show = (shown) => {
    const axes = shown.axes.map((name) => shown.table.columns.get(name));
    const fresh = shown.fresh || !seen;
    seen = shown;
    if (fresh) measure(axes.length);
    const colours = coloursOf(root);
    const filtered = !shown.all;
    if (fresh || filtered !== box.filtered) {
      contexts[0].clearRect(0, 0, contexts[0].canvas.width, contexts[0].canvas.height);
      if (filtered) paintLanes(contexts[0], axes, shown.table.runs, colours.rgb.line, lanes, 200);
      box.filtered = filtered;
    }
    if (fresh || shown.swept) paintLanes(contexts[1], axes, shown.mask, filtered ? colours.rgb.accent : colours.rgb.muted, lanes, 215);
    lines(shown, axes, colours);
    if (layers.stands(axes, colours.dark)) under.replaceChildren(...axes.flatMap((column, g) => axisOf(column, g, lanes, colours)));
    svg.replaceChildren(...axes.flatMap((column, g) => chosenOf(column, g, shown.ranges[column.name], lanes, colours)));
    placeHandles(axes);
  };

  // ---- handles: two an axis, sliders for the keyboard
  let made = "";
  const placeHandles = (axes) => {
    const names = axes.map(({ name }) => name);
    if (made !== String(names)) {
      made = String(names);
      handles.replaceChildren(...names.flatMap((name) => [0, 1].map((end) => handle(name, end))));
    }
    axes.forEach((column, g) =>
      [0, 1].forEach((end) => {
        const node = handles.children[2 * g + end];
        const value = seen.ranges[column.name]?.[end] ?? null;
        const [px, py] = lanes.point(g, value === null ? end : placeOf(column, value));
        setSvg(node, {
          style: `transform: translate(${px}px, ${py}px)`,
          class: `ckx-handle ckx-${lanes.upright ? "up" : "side"}${end} ${value === null ? "" : "ckx-set"}`,
          "aria-orientation": lanes.upright ? "vertical" : "horizontal",
          "aria-valuenow": Math.round(100 * (value === null ? end : placeOf(column, value))),
          "aria-valuetext": value === null ? "no limit" : valueText(column, value),
        });
      }),
    );
  };
  const handle = (name, end) => {
    const column = seen.table.columns.get(name);
    const label = `${end ? "Most" : "Least"} ${column.label.toLowerCase()}`;
    const node = make("div", { role: "slider", tabindex: "0", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" });
    node.addEventListener("keydown", (event) => {
      const step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
      const away = event.key === "Delete" || event.key === "Backspace" || event.key === "Escape";
      if (!step && !away && event.key !== "Home" && event.key !== "End") return;
      event.preventDefault();
      event.stopPropagation();
      if (away) setEnd(name, end, null);
      else if (event.key === "Home" || event.key === "End") setEnd(name, end, event.key === "End" ? 1 : 0);
      else setEnd(name, end, stepped(seen.table.columns.get(name), ranges()[name]?.[end] ?? null, end, step));
      done();
    });
    follow(node, (event) => setEnd(name, end, along(event)));
    return node;
  };
  // the place on its axis after so many steps: from value to value, or by hundredths
  const stepped = (column, value, end, step) => {
    const at = value === null ? end : placeOf(column, value);
    if (column.kind !== "codes") return at + step / 100;
    const last = column.values.length - 1;
    const code = Math.round(((Math.min(0.97, Math.max(0.03, at)) - 0.03) / 0.94) * last) + (value === null ? 0 : step);
    return code < 0 ? 0 : code > last ? 1 : 0.03 + (0.94 * code) / Math.max(1, last);
  };
  const setEnd = (name, end, place) => {
    const column = seen.table.columns.get(name);
    const range = [...(ranges()[name] ?? [null, null])];
    range[end] = place === null || (end ? place >= 1 : place <= 0) ? null : valueAt(column, place);
    const [low, high] = range;
    // an end that is pushed beyond the other takes it along
    if (low !== null && high !== null && low > high) range[1 - end] = range[end];
    limit(name, range);
  };
  const along = (event) => {
    const at = box.getBoundingClientRect();
    const px = lanes.upright ? event.clientY - at.top : event.clientX - at.left;
    return (px - lanes.low) / (lanes.high - lanes.low);
  };
  const follow = (node, moved) => {
    node.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      event.stopPropagation();
      node.focus();
      node.setPointerCapture(event.pointerId);
      const end = () => {
        node.removeEventListener("pointermove", moved);
        node.removeEventListener("pointerup", end);
        node.removeEventListener("pointercancel", end);
        done();
      };
      node.addEventListener("pointermove", moved);
      node.addEventListener("pointerup", end);
      node.addEventListener("pointercancel", end);
    });
  };

  // ---- a drag along an axis makes a range; a click takes it away
  box.addEventListener("pointerdown", (event) => {
    if (!lanes || event.target.closest(".ckx-handle") || event.button) return;
    const frame = box.getBoundingClientRect();
    const off = lanes.upright ? event.clientX - frame.left : event.clientY - frame.top;
    const g = seen.axes.findIndex((_, n) => Math.abs(lanes.at(n) - off) < 18);
    const from = along(event);
    if (g < 0 || from < -0.02 || from > 1.02) return;
    const name = seen.axes[g];
    let moved = false;
    box.setPointerCapture(event.pointerId);
    const move = (now) => {
      const to = along(now);
      if (!moved && Math.abs(to - from) < 0.015) return;
      moved = true;
      const [low, high] = from < to ? [from, to] : [to, from];
      const column = seen.table.columns.get(name);
      limit(name, [low <= 0 ? null : valueAt(column, low), high >= 1 ? null : valueAt(column, high)]);
    };
    const end = () => {
      box.removeEventListener("pointermove", move);
      box.removeEventListener("pointerup", end);
      box.removeEventListener("pointercancel", end);
      if (!moved) limit(name, [null, null]);
      done();
    };
    box.addEventListener("pointermove", move);
    box.addEventListener("pointerup", end);
    box.addEventListener("pointercancel", end);
  });
  return { ...layers, show };
}

// One axis: its line, ticks and name.
function axisOf(column, g, lanes, colours) {
  const { upright } = lanes;
  const at = lanes.at(g);
  const parts = [];
  const words = { fill: colours.muted, "font-size": 13 };
  const halo = { stroke: colours.ground, "stroke-width": 3, "paint-order": "stroke" };
  const [x1, y1] = lanes.point(g, 0);
  const [x2, y2] = lanes.point(g, 1);
  parts.push(svgNode("line", { x1, y1, x2, y2, stroke: colours.muted }));
  for (const { at: place, text } of ticksOf(column, upright ? 7 : 4)) {
    const [px, py] = lanes.point(g, place);
    parts.push(upright ? svgNode("text", { ...words, ...halo, x: px + 6, y: py + 4 }, text) : svgNode("text", { ...words, ...halo, x: px, y: py + 20, "text-anchor": "middle" }, text));
  }
  const unit = column.unit ? `${column.unit}${column.log ? ", log" : ""}` : column.log ? "log" : "";
  const strong = { fill: colours.text, "font-size": 13, ...halo };
  if (!upright) return [...parts, svgNode("text", { ...strong, x: 8, y: at - 24 }, `${column.label}${unit ? ` (${unit})` : ""}`)];
  const lines = [...split(column.label), unit].filter(Boolean);
  lines.forEach((line, n) => parts.push(svgNode("text", { ...strong, ...(n && line === unit ? { fill: colours.muted } : {}), x: at, y: 14 + 16 * (n + 3 - lines.length), "text-anchor": "middle" }, line)));
  return parts;
}

// What of an axis is chosen.
function chosenOf(column, g, range, { upright, at, to }, colours) {
  if (!range) return [];
  const [p, q] = [0, 1].map((end) => to(range[end] === null ? end : placeOf(column, range[end])));
  const [low, size] = [Math.min(p, q) - 2, Math.abs(p - q) + 4];
  const shape = upright ? { x: at(g) - 7, width: 14, y: low, height: size } : { y: at(g) - 7, height: 14, x: low, width: size };
  return [svgNode("rect", { ...shape, rx: 3, fill: colours.accent, "fill-opacity": 0.25, stroke: colours.accent })];
}

// A label in at most two lines.
function split(label) {
  const at = label.indexOf(" ");
  return label.length < 12 || at < 0 ? [label] : [label.slice(0, at), label.slice(at + 1)];
}
