// The parts of a DesignExplorer that are no pictures: limits as numbers, pins side by side, the table, what is saved.
// designs_lanes.js stands before this text.

// Texts and attributes that stay as they are cost nothing.
const say = (node, text) => node.textContent !== text && (node.textContent = text);

// A row a column: its least and its most, typed. changed(name, range)
function limitsForm(table, id, changed) {
  const rows = {};
  const list = make("div", { className: "ckx-limits" });
  for (const [name, column] of table.columns) {
    const label = `${column.label}${column.unit ? ` (${column.unit})` : ""}`;
    const error = make("p", { className: "ckx-error", role: "alert", id: `${id}-${name}-error` });
    const entry = (end) => {
      const about = { "aria-label": `${end ? "Most" : "Least"} ${label}`, "aria-describedby": `${id}-${name}-error` };
      if (!column.text) return make("input", { type: "number", step: "any", placeholder: end ? "most" : "least", ...about });
      const values = column.values.map((value) => make("option", { value }, value));
      return make("select", about, make("option", { value: "" }, end ? "to any" : "from any"), ...values);
    };
    const fields = [entry(0), entry(1)];
    const row = make("div", { className: "ckx-limit" }, make("span", {}, label), ...fields, error);
    const read = (field) => {
      if (field.value.trim() === "") return null;
      return column.text ? field.value : Number((Number(field.value) / column.factor).toPrecision(12));
    };
    for (const field of fields) {
      field.addEventListener("change", () => {
        const bad = fields.some((one) => one.validity?.badInput);
        const range = fields.map(read);
        const turned = range[0] !== null && range[1] !== null && range[0] > range[1];
        rows[name].complain(bad ? "Type a number." : turned ? "The least is above the most: turn them round." : "");
        if (!bad && !turned) changed(name, range);
      });
    }
    rows[name] = {
      complain: (text) => {
        if (error.textContent === text) return;
        error.textContent = text;
        row.classList.toggle("ckx-wrong", Boolean(text));
        for (const field of fields) field.setAttribute("aria-invalid", String(Boolean(text)));
      },
      show: (range) => {
        fields.forEach((field, end) => {
          const value = range?.[end] ?? null;
          const text = value === null ? "" : column.text ? value : String(Number((value * column.factor).toPrecision(6)));
          // what is being typed stays
          if (field.value !== text && field !== document.activeElement) field.value = text;
        });
        row.classList.toggle("ckx-set", Boolean(range));
        if (range) rows[name].complain("");
      },
    };
    list.append(row);
  }
  return { list, rows };
}

// Rows of designs, in the order of a column, a page at a time. on: { sort(name), page(n), look(i), pin(i) }
function designTable(table, on) {
  const names = [...table.columns.keys()];
  const body = make("tbody");
  const heads = names.map((name) => {
    const { label, unit } = table.columns.get(name);
    const button = make("button", { type: "button" }, `${label}${unit ? ` (${unit})` : ""}`);
    button.addEventListener("click", () => on.sort(name));
    return make("th", { scope: "col" }, button);
  });
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Design"), ...heads));
  const caption = make("caption", {});
  const frame = make("div", { className: "ckx-scroll", role: "region", "aria-label": "Selected designs", tabindex: "0" }, make("table", { className: "ckx-designs" }, caption, head, body));
  const [back, next] = ["Previous", "Next"].map((text) => make("button", { type: "button", className: "ckx-button" }, text));
  const where = make("span", { className: "ckx-hint" });
  const pager = make("div", { className: "ckx-buttons" }, back, next, where);
  let page = 0;
  back.addEventListener("click", () => on.page(page - 1));
  next.addEventListener("click", () => on.page(page + 1));
  const show = ({ choice, mask, count }) => {
    const { rows } = table.setup;
    const last = Math.max(0, Math.ceil(count / rows) - 1);
    page = Math.min(choice.page, last);
    const order = orderBy(table, choice.sort);
    const found = [];
    let pass = page * rows;
    for (let n = 0; n < order.length && found.length < rows; n += 1) {
      const i = order[choice.down ? order.length - 1 - n : n];
      if (mask[i] && pass-- <= 0) found.push(i);
    }
    heads.forEach((th, n) => setSvg(th, { "aria-sort": names[n] === choice.sort ? (choice.down ? "descending" : "ascending") : "none" }));
    while (body.rows.length > found.length) body.lastChild.remove();
    while (body.rows.length < found.length) body.append(emptyRow());
    found.forEach((i, n) => fill(body.rows[n], i, choice));
    const sortedBy = table.columns.get(choice.sort).label.toLowerCase();
    say(caption, `Selected designs, ${choice.down ? "most" : "least"} ${sortedBy} first`);
    const range = count ? `${(page * rows + 1).toLocaleString("en-US")} to ${(page * rows + found.length).toLocaleString("en-US")} of ${count.toLocaleString("en-US")}` : "No design is selected.";
    say(where, range);
    back.disabled = page === 0;
    next.disabled = page >= last;
  };
  const emptyRow = () => {
    const name = make("button", { type: "button" });
    const row = make("tr", {}, make("th", { scope: "row" }, name), ...names.map(() => make("td")));
    name.addEventListener("click", () => on.look(row.design));
    return row;
  };
  const fill = (row, i, choice) => {
    const [head, ...cells] = row.children;
    row.design = i;
    setSvg(row, { class: `${choice.pins.includes(i) ? "ckx-pinned" : ""} ${choice.cursor === i ? "ckx-here" : ""}` });
    setSvg(head.firstChild, { "aria-label": `Look at design ${table.label(i)}` });
    say(head.firstChild, table.label(i));
    names.forEach((name, n) => {
      const { value, result, factor } = table.columns.get(name);
      const found = value(i);
      say(cells[n], typeof found !== "number" ? found : !result ? tickLabel(found) : Number.isFinite(found) ? tableText(found * factor) : "unknown");
    });
  };
  return { frame, pager, show };
}

const LETTERS = "ABCDEF";

// Pinned designs in columns, what differs in words. on: { unpin(i), look(i) }
function pinBoard(table, on) {
  const place = make("div", { className: "ckx-scroll", role: "region", "aria-label": "Pinned designs side by side", tabindex: "0" });
  const words = make("ul", { className: "ckx-differences" });
  const empty = make("p", { className: "ckx-hint" }, `Pin up to ${table.setup.pins} designs to compare them side by side.`);
  const show = (pins, told) => {
    empty.hidden = pins.length > 0;
    place.hidden = words.hidden = pins.length === 0;
    const heads = pins.map((i, n) => {
      const off = make("button", { type: "button", className: "ckx-button", "aria-label": `Unpin ${LETTERS[n]}, design ${table.label(i)}` }, "Unpin");
      off.addEventListener("click", () => on.unpin(i));
      return make("th", { scope: "col" }, make("b", {}, LETTERS[n]), ` design ${table.label(i)}`, make("br"), off);
    });
    const rows = [...table.columns.values()].map((column) => {
      const values = pins.map((i) => column.value(i));
      const best = column.better && values.length > 1 ? Math[column.better === "higher" ? "max" : "min"](...values) : null;
      const differs = values.some((value) => value !== values[0]);
      const cells = values.map((value) => {
        const text = valueText(column, value);
        return make("td", best === value && differs ? { className: "ckx-best" } : {}, best === value && differs ? `✓ ${text}` : text);
      });
      return make("tr", differs ? { className: "ckx-differs" } : {}, make("th", { scope: "row" }, column.label), ...cells);
    });
    const caption = make("caption", {}, "Pinned designs; ✓ marks the best of a row, bold what differs");
    place.replaceChildren(make("table", { className: "ckx-pins" }, caption, make("thead", {}, make("tr", {}, make("td", {}), ...heads)), make("tbody", {}, ...rows)));
    const against = told.map(({ against: text }, n) => (text ? make("li", {}, make("b", {}, `${LETTERS[n]} beside A: `), text) : "")).filter(Boolean);
    words.replaceChildren(...against);
  };
  return { place, words, empty, show };
}

// What is selected as text of a file.
function savedAs(format, table, mask) {
  const columns = [...table.columns.values()];
  const rows = [];
  const named = (i) => (Number.isNaN(Number(table.label(i))) ? table.label(i) : Number(table.label(i)));
  for (let i = 0; i < mask.length; i += 1) if (mask[i]) rows.push(i);
  if (format === "csv") {
    return csvText([["design", ...columns.map(({ name }) => name)], ...rows.map((i) => [named(i), ...columns.map((column) => column.value(i))])]);
  }
  const plain = (value) => (typeof value === "number" && !Number.isFinite(value) ? null : value);
  const told = rows.map((i) => ({ design: named(i), ...Object.fromEntries(columns.map((column) => [column.name, plain(column.value(i))])) }));
  return JSON.stringify(told, null, 1);
}

// A picture as SVG: the canvases as images under its axes.
function pictureOf({ box, under, svg, canvases }, title, colours) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const head = 34;
  const whole = svgNode("svg", { xmlns: "http://www.w3.org/2000/svg", width, height: height + head, viewBox: `0 ${-head} ${width} ${height + head}`, "font-family": "system-ui, sans-serif" });
  whole.append(svgNode("rect", { y: -head, width, height: height + head, fill: colours.ground }), svgNode("text", { x: 8, y: -12, "font-size": 15, "font-weight": 600, fill: colours.text }, title));
  for (const layer of [...box.children].filter((one) => [under, svg, ...canvases].includes(one))) {
    if (layer.toDataURL) whole.append(svgNode("image", { href: layer.toDataURL(), width, height }));
    else whole.append(...layer.cloneNode(true).childNodes);
  }
  return { text: new XMLSerializer().serializeToString(whole), width, height: height + head };
}
