// How signals are found and added to the waveform of an RtlViewer. code.js stands before this text.

const MOST_LISTED = 400;

function wirePicker(ui, app, run, most, moved) {
  let scope = "";
  const list = () => {
    const wanted = ui.filter.value.trim().toLowerCase();
    const all = run.signals.map(([place, name, width], number) => ({ place, name, width, number }));
    const mine = all.filter((one) => (wanted ? `${one.place}.${one.name}`.toLowerCase().includes(wanted) : one.place === scope));
    const label = ({ place, name, width }) => `${wanted ? `${place}.` : ""}${name}${width > 1 ? `[${width - 1}:0]` : ""}`;
    ui.known.replaceChildren(...mine.slice(0, MOST_LISTED).map((one) => make("option", { value: String(one.number) }, label(one))));
    ui.count.textContent = mine.length > MOST_LISTED ? `The first ${MOST_LISTED} of ${mine.length.toLocaleString("en-US")}; filter further.` : `${mine.length} signal${mine.length === 1 ? "" : "s"}${wanted ? "" : ` in ${scope || "the top"}`}`;
  };
  const children = (parent) => {
    const found = new Map();
    for (const [place] of run.signals) {
      if (!place.startsWith(parent ? `${parent}.` : "") || place === parent) continue;
      const name = place.slice(parent ? parent.length + 1 : 0).split(".")[0];
      found.set(name, parent ? `${parent}.${name}` : name);
    }
    return [...found].map(([name, full]) => nodeOf(name, full));
  };
  const nodeOf = (name, full) => ({
    label: name,
    many: children(full).length,
    open: full.split(".").length < 3,
    parts: () => children(full),
    pick() {
      scope = full;
      ui.filter.value = "";
      list();
    },
  });
  const add = () => {
    const numbers = [...ui.known.selectedOptions].map((one) => Number(one.value));
    const fresh = numbers.filter((number) => !app.view.signals.some((one) => one.id === number));
    const room = most.signals - app.view.signals.length;
    app.view.signals.push(...fresh.slice(0, room).map((number) => ({ id: number, radix: "hex" })));
    if (fresh.length > room) ui.count.textContent = `At most ${most.signals} signals are shown at a time; remove some.`;
    else ui.count.textContent = `${fresh.length} added`;
    moved();
  };
  ui.filter.addEventListener("input", list);
  ui.add.addEventListener("click", add);
  ui.known.addEventListener("dblclick", add);
  ui.known.addEventListener("keydown", (event) => event.key === "Enter" && (event.preventDefault(), add()));
  ui.tree.fill(children(""));
  scope = run.signals[0]?.[0] ?? "";
  list();
}
