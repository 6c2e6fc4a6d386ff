// Draws figure specs (theme.page_spec) with Plotly, for the report and for the widgets. CK_THEME is set before this runs.

const CK_HEX = new RegExp(Object.keys(CK_THEME.dark).join("|"), "g");

function ckRecolour(node) {
  if (typeof node === "string") return node.replace(CK_HEX, (hex) => CK_THEME.dark[hex]);
  if (Array.isArray(node)) return node.map(ckRecolour);
  if (node && typeof node === "object") {
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, ckRecolour(value)]));
  }
  return node;
}

// ckSet(layout, "annotations[0].x", 1)
function ckSet(layout, path, value) {
  const keys = path.replace(/\[(\d+)\]/g, ".$1").split(".");
  const last = keys.pop();
  let node = layout;
  for (const key of keys) node = node[key] ??= {};
  node[last] = value;
}

function ckLayout(spec, width) {
  const layout = structuredClone(spec.layout);
  if (width < CK_THEME.narrow) {
    for (const [path, value] of Object.entries(spec.narrow)) ckSet(layout, path, value);
  }
  const clear = "rgba(0, 0, 0, 0)";
  return { ...layout, width, template: CK_THEME.template, paper_bgcolor: clear, plot_bgcolor: clear };
}

// Rows of "series, x, y, words" as RFC 4180 wants them.
function ckCsv(spec) {
  const title = (axis) => spec.layout[axis.replace(/^([xy])(\d*)$/, "$1axis$2")]?.title?.text ?? axis;
  const name = (axis, value) => {
    const { tickvals, ticktext, type } = spec.layout[axis.replace(/^([xy])(\d*)$/, "$1axis$2")] ?? {};
    const at = type === "log" || !tickvals ? -1 : tickvals.indexOf(value);
    return at < 0 ? value : ticktext[at];
  };
  const cell = (value) => {
    const text = String(value ?? "").replace(/<br>/g, " ").replace(/<[^>]*>/g, "").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
    // a spreadsheet takes text that starts with one of these for a formula
    const safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const rows = [["series", "x", "y", "x axis", "y axis", "design or note"]];
  for (const trace of spec.data) {
    if (trace.hoverinfo === "skip" || !Array.isArray(trace.x)) continue;
    const [xaxis, yaxis] = [trace.xaxis ?? "x", trace.yaxis ?? "y"];
    trace.x.forEach((x, i) => {
      const note = trace.customdata?.[i] ?? trace.text?.[i] ?? "";
      rows.push([trace.name, name(xaxis, x), name(yaxis, trace.y[i]), title(xaxis), title(yaxis), Array.isArray(note) ? note.join(", ") : note]);
    });
  }
  return rows.map((row) => row.map(cell).join(",")).join("\r\n");
}

function ckSave(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// The picture with its title, as it stands in a notebook; light, because it goes on paper.
function ckPicture(spec, format) {
  const { title, top, height } = spec.heading;
  const layout = { ...structuredClone(spec.layout), template: CK_THEME.template, title, height, width: 1000 };
  layout.margin = { ...layout.margin, t: top };
  return Plotly.downloadImage({ data: spec.data, layout }, { format, filename: spec.file, width: 1000, height, scale: format === "png" ? 2 : 1 });
}

// Mounts spec into the element `figure`, which holds a .ck-plot and (or not) a .ck-save. Returns { show(spec), draw() }.
function ckMount(figure, spec, isDark) {
  const plot = figure.querySelector(".ck-plot");
  let drawn = "";
  const draw = () => {
    const width = Math.floor(plot.clientWidth);
    if (!width) return;
    const dark = isDark();
    drawn = `${width} ${dark}`;
    const shown = { data: structuredClone(spec.data), layout: ckLayout(spec, width) };
    const { data, layout } = dark ? ckRecolour(shown) : shown;
    plot.style.minHeight = `${layout.height}px`;
    plot.setAttribute("aria-label", spec.alt);
    Plotly.react(plot, data, layout, { displayModeBar: false, responsive: false, doubleClick: false });
  };
  const save = figure.querySelector(".ck-save");
  if (save) {
    const actions = {
      SVG: () => ckPicture(spec, "svg"),
      PNG: () => ckPicture(spec, "png"),
      CSV: () => ckSave(`${spec.file}.csv`, new Blob([ckCsv(spec)], { type: "text/csv" })),
    };
    save.replaceChildren(
      ...Object.entries(actions).map(([label, action]) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = label;
        button.setAttribute("aria-label", `Save ${spec.file} as ${label}`);
        button.addEventListener("click", action);
        return button;
      }),
    );
  }
  const resized = new ResizeObserver(() => {
    if (`${Math.floor(plot.clientWidth)} ${isDark()}` !== drawn) draw();
  });
  resized.observe(plot);
  draw();
  return {
    show(next) {
      spec = next;
      draw();
    },
    draw,
    stop: () => resized.disconnect(),
  };
}
