// The designs of a DesignExplorer in typed arrays: columns, what is selected, its front, and designs in words.
// page.js and drawing.js stand before this text.

const bytesOf = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);

// Numbers come in the fewest bytes that hold them as they are.
const numbersOf = (sent) => (sent.kind === "singles" ? Float64Array.from(new Float32Array(bytesOf(sent.data))) : new Float64Array(bytesOf(sent.data)));

// One column: value(i) of design i; place[i] is where it lies on its axis, 0 to 1, and below 0 where it has no number.
function columnOf(about, sent, ends) {
  const column = { ...about, kind: sent.kind === "singles" ? "numbers" : sent.kind, ends, ticks: undefined };
  if (sent.kind === "codes") {
    column.values = sent.values;
    column.codes = new Uint8Array(bytesOf(sent.data));
    column.value = (i) => column.values[column.codes[i]];
  } else {
    column.numbers = numbersOf(sent);
    column.value = (i) => column.numbers[i];
    const [low, high] = ends.length ? ends : [0, 1];
    column.log = low > 0 && high > 100 * low;
    // a little room at both ends, so that no point lies on the frame
    const [first, last] = column.log ? [Math.log10(low), Math.log10(high)] : [low, high];
    const room = 0.02 * (last - first || Math.abs(last) || 1);
    column.first = first - room;
    column.span = last - first + 2 * room;
  }
  column.place = placesOf(column);
  column.bins = new Uint8Array(column.place.length);
  for (let i = 0; i < column.bins.length; i += 1) column.bins[i] = Math.max(0, column.place[i]) * (BINS - 1) + 0.5;
  return column;
}

function placesOf(column) {
  if (column.kind === "codes") {
    const last = column.values.length - 1;
    const at = Float32Array.from(column.values, (_, code) => (last ? 0.03 + (0.94 * code) / last : 0.5));
    const place = new Float32Array(column.codes.length);
    for (let i = 0; i < place.length; i += 1) place[i] = at[column.codes[i]];
    return place;
  }
  const { numbers, log, first, span } = column;
  const place = new Float32Array(numbers.length);
  const scale = (log ? Math.LOG10E : 1) / span;
  for (let i = 0; i < numbers.length; i += 1) {
    const at = (log ? Math.log(numbers[i]) : numbers[i]) * scale - first / span;
    place[i] = at >= 0 && at <= 1 ? at : -1;
  }
  return place;
}

// Where a value lies on the axis of a column, 0 to 1.
function placeOf(column, value) {
  if (column.kind === "codes") {
    const last = column.values.length - 1;
    let code = column.values.findIndex((v) => v >= value);
    if (code < 0) code = last;
    return last ? 0.03 + (0.94 * code) / last : 0.5;
  }
  const at = ((column.log ? Math.log10(value) : value) - column.first) / column.span;
  return Math.min(1, Math.max(0, at));
}

// A column as an axis between other ends; one of few values has a place for each, and stays.
const zoomed = (column, ends) => (ends && column.numbers ? columnOf(column, { kind: "numbers", data: new DataView(column.numbers.buffer) }, ends) : column);

// The least and the most of a column among the designs in mask.
function endsOf(column, mask) {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < mask.length; i += 1) {
    if (!mask[i]) continue;
    const value = column.numbers ? column.numbers[i] : column.codes[i];
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

// The value at a place of the axis: one that there is, or a number of four digits.
function valueAt(column, place) {
  if (column.kind === "codes") {
    const last = column.values.length - 1;
    return column.values[Math.min(last, Math.max(0, Math.round(((place - 0.03) / 0.94) * last)))];
  }
  const at = column.first + place * column.span;
  return Number((column.log ? 10 ** at : at).toPrecision(4));
}

function tableOf(setup, fixed, moving) {
  const columns = new Map();
  for (const about of setup.columns) {
    const sent = moving.columns[about.name] ?? fixed[about.name];
    columns.set(about.name, columnOf(about, sent, moving.spans[about.name] ?? []));
  }
  const table = { count: setup.count, columns, setup, orders: new Map() };
  const named = fixed[""];
  const numbers = named.kind === "texts" ? null : numbersOf(named);
  table.label = (i) => (numbers ? String(numbers[i]) : named.values[i]);
  settle(table);
  return table;
}

// The same table with the columns that changed.
function moveTable(table, moving) {
  for (const [name, column] of table.columns) {
    const ends = moving.spans[name] ?? [];
    const sent = moving.columns[name];
    if (sent) table.columns.set(name, columnOf(column, sent, ends));
    else if (column.numbers && String(ends) !== String(column.ends)) {
      table.columns.set(name, zoomed(column, ends));
    }
  }
  settle(table);
}

// Costs, who runs, and the order in which the front is swept.
function settle(table) {
  const { setup, count } = table;
  table.costs = setup.objectives.map(([name, sign]) => {
    const column = table.columns.get(name);
    if (column.numbers && sign > 0) return column.numbers;
    const costs = column.numbers ? column.numbers.slice() : Float64Array.from(column.codes, (code) => column.values[code]);
    if (sign < 0) for (let i = 0; i < count; i += 1) costs[i] = -costs[i];
    return costs;
  });
  table.runs = new Uint8Array(count);
  table.running = 0;
  for (let i = 0; i < count; i += 1) {
    let sum = 0;
    for (const costs of table.costs) sum += costs[i];
    if (Number.isFinite(sum)) table.running += table.runs[i] = 1;
  }
  const who = new Uint32Array(table.running);
  for (let i = 0, n = 0; i < count; i += 1) if (table.runs[i]) who[n++] = i;
  table.order = sorted(table.costs, who);
  table.orders.clear();
}

// Numbers of designs in rising order of keys, the first key first: radix over 32 bits, then the rest of the digits.
function sorted(keys, order) {
  let from = order;
  let to = new Uint32Array(order.length);
  const counts = new Uint32Array(65536);
  for (const key of [...keys].reverse()) {
    const bits = new Uint32Array(new Float32Array(key).buffer);
    for (let i = 0; i < bits.length; i += 1) bits[i] ^= bits[i] >>> 31 ? 0xffffffff : 0x80000000;
    for (const shift of [0, 16]) {
      counts.fill(0);
      for (let n = 0; n < from.length; n += 1) counts[(bits[from[n]] >>> shift) & 65535] += 1;
      for (let b = 0, sum = 0; b < 65536; b += 1) {
        const here = counts[b];
        counts[b] = sum;
        sum += here;
      }
      for (let n = 0; n < from.length; n += 1) to[counts[(bits[from[n]] >>> shift) & 65535]++] = from[n];
      [from, to] = [to, from];
    }
  }
  const before = (a, b) => {
    for (const key of keys) if (key[a] !== key[b]) return key[a] < key[b];
    return false;
  };
  for (let n = 1; n < from.length; n += 1) {
    const one = from[n];
    let at = n;
    for (; at > 0 && before(one, from[at - 1]); at -= 1) from[at] = from[at - 1];
    from[at] = one;
  }
  return from;
}

// mask[i] is 1 where design i runs and keeps all ranges ({column: [least or null, most or null]}).
function select(table, ranges, mask) {
  mask.set(table.runs);
  for (const [name, [low, high]] of Object.entries(ranges)) {
    const column = table.columns.get(name);
    const keeps = (v) => (low === null || v >= low) && (high === null || v <= high);
    if (column.codes) {
      const pass = Uint8Array.from(column.values, (v) => (keeps(v) ? 1 : 0));
      for (let i = 0; i < mask.length; i += 1) mask[i] &= pass[column.codes[i]];
    } else {
      const least = low ?? -Infinity;
      const most = high ?? Infinity;
      const { numbers } = column;
      for (let i = 0; i < mask.length; i += 1) if (!(numbers[i] >= least && numbers[i] <= most)) mask[i] = 0;
    }
  }
  let count = 0;
  for (let i = 0; i < mask.length; i += 1) count += mask[i];
  return count;
}

// The selected designs that no other selected one beats, in order (as codesign_kernel.pareto.non_dominated sweeps them).
function frontOf(table, mask) {
  const [first, second, third] = table.costs;
  const xs = [];
  const ys = [];
  const front = [];
  let last = -1;
  let kept = false;
  for (const i of table.order) {
    if (!mask[i]) continue;
    const y = third ? third[i] : 0;
    const x = second[i];
    const twin = last >= 0 && first[i] === first[last] && x === second[last] && (!third || y === third[last]);
    if (!twin) {
      let low = 0;
      for (let high = xs.length; low < high; ) {
        const middle = (low + high) >> 1;
        if (xs[middle] <= x) low = middle + 1;
        else high = middle;
      }
      kept = !(low && ys[low - 1] <= y);
      if (kept) {
        let stop = low;
        while (stop < ys.length && ys[stop] >= y) stop += 1;
        xs.splice(low, stop - low, x);
        ys.splice(low, stop - low, y);
      }
    }
    if (kept) front.push(i);
    last = i;
  }
  return front;
}

// Designs in the order of a column, from cache: those without a number come last.
function orderBy(table, name) {
  if (!table.orders.has(name)) {
    const column = table.columns.get(name);
    // the front was swept in this order
    if (column.numbers && column.numbers === table.costs[0]) return table.order;
    const finite = new Float64Array(column.numbers ?? column.codes);
    for (let i = 0; i < finite.length; i += 1) if (Number.isNaN(finite[i])) finite[i] = Infinity;
    const who = new Uint32Array(table.running);
    for (let i = 0, n = 0; i < table.count; i += 1) if (table.runs[i]) who[n++] = i;
    table.orders.set(name, sorted([finite], who));
  }
  return table.orders.get(name);
}

// As codesign_kernel.units.quantity writes it.
function quantityText(value, unit) {
  if (!Number.isFinite(value)) return "unknown";
  if (unit === "cycle") return `${Math.round(value).toLocaleString("en-US")} cycles`;
  if (unit === "m²") return Math.abs(value) < 1e-8 && value ? `${threeDigits(value * 1e12)} µm²` : `${threeDigits(value * 1e6)} mm²`;
  return quantity(value, unit);
}

const plainNumber = (value) => (typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value));

// A value of a column with its unit.
function valueText(column, value) {
  if (typeof value !== "number") return String(value);
  if (column.base_unit === "%") return `${threeDigits(100 * value)} %`;
  if (column.base_unit) return quantityText(value * column.base, column.base_unit);
  return `${column.result ? threeDigits(value) : plainNumber(value)} ${column.unit}`.trim();
}

function designWords(table, i) {
  const { setup, columns } = table;
  const value = (name) => columns.get(name).value(i);
  const parts = setup.paired ? [`${value("rows")} × ${value("cols")} PEs`] : [];
  for (const [name, words] of setup.phrases) parts.push(words.replace("{}", plainNumber(value(name))));
  return parts.join(", ");
}

function resultWords(table, i) {
  const named = table.setup.objectives.map(([name]) => table.columns.get(name));
  return named.map((column) => `${column.label.toLowerCase()} ${valueText(column, column.value(i))}`).join(", ");
}

// Ticks of an axis: [{ at: 0 to 1, text }], worked out once.
function ticksOf(column, wanted) {
  column.ticks ??= {};
  return (column.ticks[wanted] ??= newTicks(column, wanted));
}

function newTicks(column, wanted) {
  if (column.kind === "codes") {
    const every = Math.ceil(column.values.length / wanted);
    return column.values.map((value) => ({ at: placeOf(column, value), text: plainNumber(value) })).filter((_, n) => n % every === 0);
  }
  const { first, span, log, factor } = column;
  const values = [];
  if (log) {
    const steps = span > 3 || (wanted < 5 && span > 2) ? [1] : wanted < 8 && span > 1.5 ? [1, 3] : [1, 2, 5];
    for (let decade = Math.floor(first); decade <= first + span; decade += 1) values.push(...steps.map((step) => step * 10 ** decade));
  } else {
    const raw = (span * factor) / wanted;
    const decade = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((n) => n * decade >= raw) * decade;
    for (let n = Math.ceil((first * factor) / step); n * step <= (first + span) * factor; n += 1) values.push((n * step) / factor);
  }
  const shown = values.map((value) => ({ at: (log ? Math.log10(value) : value) / span - first / span, text: tickLabel(value * factor) }));
  return shown.filter(({ at }) => at >= 0 && at <= 1);
}

// formats are costly to make
const FOUR = new Intl.NumberFormat("en-US", { minimumSignificantDigits: 4, maximumSignificantDigits: 4 });
const SIX = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 6 });
const tableText = (value) => FOUR.format(value);
const tickLabel = (value) => SIX.format(value || 0); // no minus before zero

function axisTitle(column) {
  const unit = [column.unit, column.log ? "log scale" : ""].filter(Boolean).join(", ");
  const better = column.better ? `, ${column.better} is better` : "";
  return `${column.label}${unit ? ` (${unit})` : ""}${better}`;
}
