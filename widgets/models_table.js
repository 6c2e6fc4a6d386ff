// The table of a ModelExplorer: layers, or modules with those inside; only the rows in sight are in the page.

// The layers and modules of one or two models under one another: { layers, modules }, each { key, kind, name, up, a, b,
// order }, where a and b are positions in the first and in the second model, or -1.
function unite(first, second) {
  const found = new Map();
  const enter = (model, which) => {
    let order = -1;
    const add = (kind, name, up, index, place) => {
      const key = `${kind} ${name}`;
      const known = found.get(key);
      if (known) known[which] = index;
      else found.set(key, { key, kind, name, up, a: -1, b: -1, [which]: index, order: which === "a" ? place : order + 1e-7 });
      order = found.get(key).order;
    };
    const paths = model.modules.name;
    const started = new Set();
    const start = (module, place) => {
      if (module < 0 || started.has(module)) return;
      start(model.modules.parent[module], place);
      started.add(module);
      add("module", paths[module], module ? `module ${paths[model.modules.parent[module]]}` : "", module, place);
    };
    model.layers.name.forEach((name, i) => {
      const module = model.layers.module[i];
      start(module, i);
      add("layer", name, `module ${paths[module]}`, i, i);
    });
  };
  enter(first, "a");
  if (second) enter(second, "b");
  const all = [...found.values()].sort((x, y) => x.order - y.order || (x.kind === "module" ? -1 : 1));
  const inside = new Map();
  for (const item of all) {
    if (!inside.has(item.up)) inside.set(item.up, []);
    inside.get(item.up).push(item);
  }
  return { all, inside, root: found.get("module ") };
}

function columnsOf(measures, measure, names) {
  const text = (name, label) => ({ name, label, words: true });
  const number = ([name, { label, head: short, help }]) => ({ name, label: short, help: `${label}. ${help}`, model: "a", measure: name });
  const head = [text("name", "Name"), text("op", "Operator")];
  if (!names.other) return [...head, text("shape", "Shape"), ...Object.entries(measures).map(number)];
  const { label, help } = measures[measure];
  return [
    ...head,
    { name: measure, label: names.model, help, model: "a", measure },
    { name: "other", label: names.other, help, model: "b", measure },
    { name: "ratio", label: "Second to first", help: `${label} of the second, as a multiple of the first's`, ratio: true, measure },
  ];
}

// models() gives { first, second, measures, measure, names }; picked(item), opened(path), sorted([column, direction]).
function tableView(id, { picked, opened, sorted }) {
  const caption = make("caption", { className: "ckx-hidden" });
  const head = make("tr");
  const body = make("tbody");
  const table = make("table", { className: "ckx-layers", id: `${id}-table` }, caption, make("thead", {}, head), body);
  table.tabIndex = 0;
  const frame = make("div", { className: "ckx-frame" }, table);
  let now; // what is shown
  let rows = [];
  let columns = [];
  let current = -1;
  let drawn = "";
  let most = 1; // of the bars

  const columnOf = (item, which, field) => {
    const index = item[which];
    const model = which === "a" ? now.first : now.second;
    return index < 0 || !model ? undefined : field(model[item.kind === "layer" ? "layers" : "modules"], index);
  };
  const either = (item, name) => columnOf(item, "a", (c, i) => c[name]?.[i]) ?? columnOf(item, "b", (c, i) => c[name]?.[i]) ?? "";
  const value = (item, column) => {
    if (column.name === "name") return item.name;
    if (column.words) return either(item, column.name);
    if (!column.ratio) return columnOf(item, column.model, (c, i) => c[column.measure][i]);
    const [a, b] = ["a", "b"].map((which) => columnOf(item, which, (c, i) => c[column.measure][i]));
    return a && b !== undefined && b !== null ? b / a : undefined;
  };
  const text = (item, column) => {
    if (column.words) return String(value(item, column));
    if (!column.ratio) return columnOf(item, column.model, (c, i) => c.text[column.measure][i])?.replace(" MAC/B", "") ?? "–";
    const ratio = value(item, column);
    return ratio === undefined ? "–" : ratio >= 1.5 ? `${ratio.toFixed(ratio < 20 ? 1 : 0)} ×` : `${Math.round(100 * ratio)} %`;
  };
  const compare = (x, y) => {
    const [name, direction] = now.sort ?? [];
    const column = columns.find((one) => one.name === name);
    if (!column) return x.order - y.order;
    const [a, b] = [value(x, column), value(y, column)];
    const missing = (v) => v === undefined || v === null;
    if (missing(a) || missing(b)) return missing(a) - missing(b) || x.order - y.order;
    return direction * (column.words ? String(a).localeCompare(String(b), "en", { numeric: true }) : a - b) || x.order - y.order;
  };
  const matches = (item) => {
    if (now.op && either(item, "op") !== now.op) return false;
    const sought = now.text.trim().toLowerCase();
    return !sought || [item.name, either(item, "op"), either(item, "shape")].some((part) => String(part).toLowerCase().includes(sought));
  };
  const listed = () => {
    if (now.by === "layers") {
      return now.items.all.filter((item) => item.kind === "layer" && matches(item)).sort(compare).map((item) => ({ item, depth: 0 }));
    }
    const filtered = now.op || now.text.trim();
    const open = new Set(now.open);
    const walk = (item, depth) => {
      if (item.kind === "layer") return !filtered || matches(item) ? [{ item, depth }] : [];
      const wide = item === now.items.root || filtered || open.has(item.name);
      const below = wide ? [...(now.items.inside.get(item.key) ?? [])].sort(compare).flatMap((one) => walk(one, depth + 1)) : [];
      return filtered && !below.length ? [] : [{ item, depth, open: Boolean(wide) }, ...below];
    };
    return walk(now.items.root, 0);
  };

  const drawHead = () => {
    const cells = columns.map((column) => {
      const [name, direction] = now.sort ?? [];
      const button = make("button", { type: "button", title: column.help ?? "" }, column.label);
      const cell = make("th", { scope: "col", className: `ckx-c-${column.words ? column.name : column.ratio ? "ratio" : column.measure === now.measure ? "main" : "number"}` }, button);
      cell.setAttribute("aria-sort", name === column.name ? (direction > 0 ? "ascending" : "descending") : "none");
      // numbers begin with the largest; a third press gives the order of execution back
      const order = column.words ? [1, -1] : [-1, 1];
      button.addEventListener("click", () => {
        const next = name !== column.name ? order[0] : direction === order[0] ? order[1] : 0;
        sorted(next ? [column.name, next] : null, column.name);
      });
      return cell;
    });
    head.replaceChildren(...cells);
  };
  const rowHeight = () => (frame.clientWidth < 480 ? 44 : 32);
  const rowOf = ({ item, depth, open }, index) => {
    const row = make("tr", { id: `${id}-r${index}`, "aria-selected": String(index === current || now.marked.has(item.key)) });
    row.setAttribute("aria-rowindex", String(index + 2));
    row.dataset.index = index;
    const tree = now.by === "modules";
    if (tree) row.setAttribute("aria-level", String(depth + 1));
    if (tree && item.kind === "module") row.setAttribute("aria-expanded", String(open));
    for (const [i, column] of columns.entries()) {
      const cell = make("td", { className: head.children[i].className }, i ? text(item, column) : "");
      if (!i) {
        const label = item.name || now.names.model + (now.names.other ? ` and ${now.names.other}` : "");
        const short = tree && item.name ? item.name.slice(item.name.lastIndexOf(".") + 1) : label;
        const sign = make("span", { className: "ckx-twist", "aria-hidden": "true" }, tree && item.kind === "module" ? (open ? "▾" : "▸") : "");
        const line = make("div", {}, ...(tree ? [sign] : []), make("span", { title: label, className: "ckx-label" }, make("bdi", {}, short)));
        cell.append(line);
        cell.style.paddingLeft = `${8 + (now.slim ? 8 : 14) * depth}px`;
      } else if (column.measure === now.measure && !column.ratio) {
        const share = item === now.items.root ? 0 : (value(item, column) ?? 0) / most;
        cell.style.setProperty("--share", `${Math.round(1000 * share) / 10}%`);
      }
      if (i && !column.words && value(item, column) === 0) cell.classList.add("ckx-zero");
      row.append(cell);
    }
    return row;
  };
  // Rows in sight, and empty ones that keep the scroll bar honest.
  const drawBody = (force) => {
    const high = rowHeight();
    const first = Math.max(0, Math.floor(frame.scrollTop / high) - 8);
    const last = Math.min(rows.length, first + Math.ceil((frame.clientHeight || 560) / high) + 16);
    if (!force && drawn === `${first} ${last}`) return;
    drawn = `${first} ${last}`;
    table.style.setProperty("--row", `${high}px`);
    const space = (count) => {
      const empty = make("tr", { "aria-hidden": "true", className: "ckx-space" }, make("td"));
      empty.style.height = `${count * high}px`;
      return empty;
    };
    body.replaceChildren(
      ...(first ? [space(first)] : []),
      ...rows.slice(first, last).map((row, i) => rowOf(row, first + i)),
      ...(last < rows.length ? [space(rows.length - last)] : []),
    );
    if (current >= first && current < last) table.setAttribute("aria-activedescendant", `${id}-r${current}`);
    else table.removeAttribute("aria-activedescendant");
  };
  const reveal = () => {
    const [high, above] = [rowHeight(), head.offsetHeight];
    const y = current * high;
    const [from, to] = [frame.scrollTop, frame.scrollTop + frame.clientHeight - high - above];
    // a step scrolls by a row, what is far off comes to the middle
    if (y < from) frame.scrollTop = from - y > 2 * high ? y - (to - from) / 2 : y;
    else if (y > to) frame.scrollTop = y - to > 2 * high ? y - (to - from) / 2 : y - (to - from);
  };
  const show = (next) => {
    now = next;
    columns = columnsOf(now.measures, now.measure, now.names);
    now.slim = rowHeight() > 40;
    rows = listed();
    const mine = columns.filter((column) => column.measure === now.measure && !column.ratio);
    most = 1e-12;
    for (const { item } of rows) for (const column of mine) if (item !== now.items.root) most = Math.max(most, value(item, column) ?? 0);
    table.setAttribute("role", now.by === "modules" ? "treegrid" : "grid");
    table.setAttribute("aria-rowcount", String(rows.length + 1));
    table.classList.toggle("ckx-two", Boolean(now.names.other));
    caption.textContent = now.by === "modules" ? "Modules and the layers inside" : "Layers in the order of execution, unless sorted";
    drawHead();
    current = rows.findIndex(({ item }) => item.key === now.selected);
    drawBody(true);
    return { shown: rows.filter(({ item }) => item.kind === "layer").length, rows: rows.length };
  };
  const mark = (selected, marked, seek) => {
    now.selected = selected;
    now.marked = marked;
    current = rows.findIndex(({ item }) => item.key === selected);
    if (current >= 0 && seek) reveal();
    drawBody(true);
  };
  const pick = (index) => rows[index] && picked(rows[index].item);
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-index]");
    if (!row) return;
    const { item } = rows[Number(row.dataset.index)];
    if (event.target.closest(".ckx-twist") && item.kind === "module" && item.name) opened(item.name);
    else picked(item);
  });
  body.addEventListener("dblclick", (event) => {
    const row = event.target.closest("tr[data-index]");
    const item = row && rows[Number(row.dataset.index)].item;
    if (item?.kind === "module" && item.name) opened(item.name);
  });
  table.addEventListener("keydown", (event) => {
    if (event.target !== table || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(frame.clientHeight / rowHeight()) - 2);
    const entry = rows[current];
    const folds = now.by === "modules" && entry?.item.kind === "module" && entry.item.name;
    const upper = () => rows.findIndex(({ item }) => item.key === entry?.item.up);
    const keys = {
      ArrowDown: () => pick(Math.min(current + 1, rows.length - 1)),
      ArrowUp: () => pick(Math.max(current - 1, 0)),
      PageDown: () => pick(Math.min(current + page, rows.length - 1)),
      PageUp: () => pick(Math.max(current - page, 0)),
      Home: () => pick(0),
      End: () => pick(rows.length - 1),
      ArrowRight: () => folds && (entry.open ? pick(current + 1) : opened(entry.item.name)),
      ArrowLeft: () => (folds && entry.open ? opened(entry.item.name) : now.by === "modules" && pick(upper())),
      Enter: () => folds && opened(entry.item.name),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  frame.addEventListener("scroll", () => requestAnimationFrame(() => now && drawBody(false)));
  const sized = new ResizeObserver(() => now && drawBody(true));
  sized.observe(frame);
  // What is listed, as it is sorted and filtered, with numbers in base units.
  const all = () => ({
    names: columns.map(({ label }) => label),
    rows: rows.map(({ item }) => columns.map((column) => value(item, column) ?? "")),
  });
  return { frame, show, mark, all, stop: () => sized.disconnect(), focusHead: (name) => head.children[columns.findIndex((one) => one.name === name)]?.firstChild.focus() };
}

function csvOf(frame, names) {
  const cell = (value) => {
    const text = String(value ?? "");
    // a spreadsheet takes text that starts with one of these for a formula
    const safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  return [names, ...frame].map((row) => row.map(cell).join(",")).join("\r\n");
}
