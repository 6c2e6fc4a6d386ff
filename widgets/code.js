// Lists of any length, trees, and source text: what a viewer of code is made of. page.js stands before this text.

// Only the lines in sight are in the page. row(index) makes one; heights are those of the style's --line.
function longList(frame, row) {
  const space = make("div", { className: "ckx-space" });
  const lines = make("div", { className: "ckx-lines" });
  space.append(lines);
  frame.append(space);
  let count = 0;
  let drawn = "";
  const height = () => Number.parseFloat(getComputedStyle(frame).getPropertyValue("--line")) || 20;
  const draw = (again = false) => {
    const line = height();
    const from = Math.max(0, Math.floor(frame.scrollTop / line) - 10);
    const to = Math.min(count, Math.ceil((frame.scrollTop + frame.clientHeight) / line) + 10);
    const now = `${from} ${to} ${line}`;
    if (!again && now === drawn) return;
    drawn = now;
    space.style.height = `${count * line}px`;
    lines.style.transform = `translateY(${from * line}px)`;
    const rows = [];
    for (let at = from; at < to; at += 1) rows.push(row(at));
    lines.replaceChildren(...rows);
  };
  frame.addEventListener("scroll", () => draw());
  const sized = new ResizeObserver(() => draw());
  sized.observe(frame);
  return {
    draw: () => draw(true),
    fill(many) {
      count = many;
      draw(true);
    },
    // into sight, where it is not
    reveal(at) {
      const line = height();
      const top = at * line;
      if (top < frame.scrollTop || top + line > frame.scrollTop + frame.clientHeight) {
        frame.scrollTop = Math.max(0, top - frame.clientHeight / 3);
      }
      draw(true);
    },
    stop: () => sized.disconnect(),
  };
}

// A tree as the keyboard expects it: arrows walk and open, Enter picks. A node is { label, note, parts(), pick() }.
function treeView(label) {
  const list = make("ul", { role: "tree", "aria-label": label, className: "ckx-tree" });
  let chosen;
  const focus = (item, move = true) => {
    for (const other of list.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
    item.tabIndex = 0;
    if (move) item.focus();
  };
  const choose = (item, node) => {
    chosen?.removeAttribute("aria-selected");
    chosen = item;
    item.setAttribute("aria-selected", "true");
    focus(item);
    node.pick();
  };
  const open = (item, node, wanted) => {
    const group = item.querySelector(":scope > ul");
    if (!group || wanted === (item.getAttribute("aria-expanded") === "true")) return;
    item.setAttribute("aria-expanded", String(wanted));
    if (wanted && !group.childElementCount) group.append(...node.parts().map((part) => itemOf(part)));
    group.hidden = !wanted;
  };
  const itemOf = (node) => {
    const name = make("span", { className: "ckx-node" }, make("span", { className: "ckx-name" }, node.label), make("span", { className: "ckx-note" }, node.note ?? ""));
    const item = make("li", { role: "treeitem", "aria-label": [node.label, node.note].filter(Boolean).join(", ") }, name);
    item.tabIndex = -1;
    if (node.many) {
      item.setAttribute("aria-expanded", "false");
      item.append(make("ul", { role: "group", hidden: true }));
    }
    name.addEventListener("click", (event) => {
      event.stopPropagation();
      if (event.offsetX < 20 && node.many) open(item, node, item.getAttribute("aria-expanded") !== "true");
      else choose(item, node);
    });
    item.addEventListener("keydown", (event) => {
      if (event.target !== item) return;
      const all = [...list.querySelectorAll("[role=treeitem]")].filter((one) => one.checkVisibility());
      const at = all.indexOf(item);
      const expanded = item.getAttribute("aria-expanded");
      const above = item.parentElement.closest("[role=treeitem]");
      const deeds = {
        ArrowDown: () => all[at + 1] && focus(all[at + 1]),
        ArrowUp: () => all[at - 1] && focus(all[at - 1]),
        Home: () => focus(all[0]),
        End: () => focus(all.at(-1)),
        ArrowRight: () => (expanded === "false" ? open(item, node, true) : expanded === "true" && all[at + 1] && focus(all[at + 1])),
        ArrowLeft: () => (expanded === "true" ? open(item, node, false) : above && focus(above)),
        Enter: () => choose(item, node),
        " ": () => choose(item, node),
      };
      if (!deeds[event.key]) return;
      event.preventDefault();
      deeds[event.key]();
    });
    if (node.open) open(item, node, true);
    return item;
  };
  return {
    list,
    fill(nodes) {
      list.replaceChildren(...nodes.map((node) => itemOf(node)));
      if (list.firstElementChild) list.firstElementChild.tabIndex = 0;
    },
  };
}

// The lines of a text, where each begins.
function linesOf(text) {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

// The first pair of marks behind an offset, less one: the one that holds there.
function markAt(marks, offset) {
  let low = 0;
  let high = marks.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (marks[2 * middle] <= offset) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// A line as coloured words, with what was found in it marked.
function colouredLine(text, from, to, marks, found) {
  const parts = [];
  const cuts = [];
  let at = marks ? markAt(marks, from) : -1;
  let code = at >= 0 ? marks[2 * at + 1] : 0;
  let begin = from;
  while (marks && 2 * (at + 1) < marks.length && marks[2 * (at + 1)] < to) {
    at += 1;
    cuts.push([begin, marks[2 * at], code]);
    begin = marks[2 * at];
    code = marks[2 * at + 1];
  }
  cuts.push([begin, to, code]);
  for (const [low, high, kind] of cuts) {
    let here = low;
    const put = (end, hit) => {
      if (end > here) parts.push(make(hit ? "mark" : "span", kind ? { className: `ckx-w${kind}` } : {}, text.slice(here, end)));
      here = Math.max(here, end);
    };
    for (const [first, last] of found) {
      if (last <= here || first >= high) continue;
      put(Math.max(here, first), false);
      put(Math.min(last, high), true);
    }
    put(high, false);
  }
  return parts;
}

// Where something stands in all files: [file, line from 1, offset, offset behind it]; at most so many, and how many there are.
const MOST_HITS = 1000;
function findAll(sources, files, find) {
  if (!find.text) return { hits: [], more: false, wrong: "" };
  let pattern;
  try {
    pattern = new RegExp(find.regex ? find.text : find.text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), find.case ? "g" : "gi");
  } catch (problem) {
    return { hits: [], more: false, wrong: `This is no regular expression: ${problem.message.split(": ").at(-1)}` };
  }
  const hits = [];
  for (const file of files) {
    const text = sources[file];
    const starts = linesOf(text);
    for (let at = 0; at < starts.length; at += 1) {
      const end = at + 1 < starts.length ? starts[at + 1] - 1 : text.length;
      for (const match of text.slice(starts[at], end).matchAll(pattern)) {
        if (!match[0]) continue;
        if (hits.length >= MOST_HITS) return { hits, more: true, wrong: "" };
        hits.push([file, at + 1, starts[at] + match.index, starts[at] + match.index + match[0].length]);
      }
    }
  }
  return { hits, more: false, wrong: "" };
}

// A regular expression can take for ever on a single line, so it runs beside the page and is stopped after this time (ms).
const LONGEST_SEARCH = 3000;

// Searches one after the other: ask() drops the one under way; told(result) is called once for each that is not dropped.
function seeker(sources, told) {
  let worker;
  let late;
  const stop = () => {
    clearTimeout(late);
    worker?.terminate();
    worker = undefined;
  };
  const done = (result) => {
    stop();
    told(result);
  };
  const refused = (wrong) => done({ hits: [], more: false, wrong });
  return {
    stop,
    ask(files, find) {
      stop();
      if (!find.regex || !find.text) {
        told(findAll(sources, files, find));
        return;
      }
      const script = `const MOST_HITS = ${MOST_HITS};\n${linesOf}\n${findAll}\nonmessage = ({ data }) => postMessage(findAll(...data));\npostMessage(null);`;
      const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
      try {
        worker = new Worker(address);
      } catch {
        refused("This page does not allow regular expressions; look for plain text.");
        return;
      } finally {
        URL.revokeObjectURL(address);
      }
      worker.onerror = () => refused("The search failed; look for plain text.");
      worker.onmessage = ({ data }) => {
        if (data) {
          done(data);
          return;
        }
        // it runs: from here on the time counts
        worker.postMessage([sources, files, find]);
        late = setTimeout(() => refused("This regular expression takes too long; look for something simpler."), LONGEST_SEARCH);
      };
    },
  };
}

function save(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
