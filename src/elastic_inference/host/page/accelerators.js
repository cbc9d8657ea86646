// The table of accelerators: one row each, changed in place, sorted and filtered.

import { bar, byId, el, setBar, setText } from "./dom.js";
import * as format from "./format.js";

const SLOW_PARTS = ["queue", "service", "wire"];

export const isSilent = (row) => !row.is_healthy && row.state === "ready";

export const stateOf = (row) => (isSilent(row) ? "does not answer" : row.state);

const models = (row) => row.models.map((m) => m.name).join(" ");

// What computes it comes first: names are hashes where a predictor uploaded the model.
export const describeModel = (m) => {
  const computes = m.engine ? `${m.engine} ${m.precision}, ${verdictOf(m)}` : m.state.toLowerCase();
  return `${computes} (${m.name.length > 12 ? `${m.name.slice(0, 9)}…` : m.name})`;
};

// The proof is one line, of which the words before the colon say what it came to.
const verdictOf = (m) => (m.proof ? m.proof.split(":")[0] : "as written");

const text = (get) => ({ make: () => null, show: (cell, row) => setText(cell, get(row)) });

const BUSY = {
  make: (cell) => {
    const parts = { bar: bar(""), text: el("span") };
    cell.append(parts.text, parts.bar.node);
    return parts;
  },
  show: (_, row, parts) => {
    const held = row.throttled_share >= 0.05 ? `, held back ${format.percent(row.throttled_share)}` : "";
    setText(parts.text, format.percent(row.utilisation_share) + held);
    setBar(parts.bar, row.utilisation_share ?? 0);
  },
};

const MEMORY = {
  make: BUSY.make,
  show: (_, row, parts) => {
    setText(parts.text, format.bytesOf(row.memory_bytes, row.memory_limit_bytes));
    setBar(parts.bar, row.memory_bytes / row.memory_limit_bytes);
  },
};

const SLOW = {
  make: (cell) => {
    const parts = { text: el("span"), split: el("span", { class: "split", "aria-hidden": "true" }) };
    parts.split.append(...SLOW_PARTS.map((name) => el("i", { class: name })));
    cell.append(parts.text, parts.split);
    return parts;
  },
  show: (cell, row, parts) => {
    const p99 = row.p99;
    setText(parts.text, p99 ? format.milliseconds(p99.total_ms) : format.ABSENT);
    parts.split.hidden = !p99;
    if (!p99) return;
    SLOW_PARTS.forEach((name, place) => parts.split.children[place].style.setProperty("--part", p99[`${name}_ms`]));
    const said = SLOW_PARTS.map((name) => `${name} ${format.milliseconds(p99[`${name}_ms`])}`).join(", ");
    if (cell.title !== said) cell.title = said;
  },
};

const STATE = {
  make: (cell) => cell.appendChild(el("span", { class: "badge" })),
  show: (_, row, badge) => {
    setText(badge, stateOf(row));
    const kind = `badge ${isSilent(row) ? "silent" : row.state}`;
    if (badge.className !== kind) badge.className = kind;
  },
};

// title, class, what it is sorted by, and how its cell is made and shown
const COLUMNS = [
  ["State", "state-cell", (r) => stateOf(r), STATE],
  ["Tenant", "tenant", (r) => r.tenant, text((r) => r.tenant || format.ABSENT)],
  ["Type", "", (r) => r.type, text((r) => r.type)],
  ["Device", "", (r) => r.device, text((r) => `${format.percent(r.share)} of ${r.device}`)],
  ["Busy", "busy", (r) => r.utilisation_share ?? -1, BUSY],
  ["Memory", "memory", (r) => r.memory_bytes, MEMORY],
  ["Queue", "number", (r) => r.num_waiting, text((r) => format.count(r.num_waiting))],
  ["Req/s", "number", (r) => r.requests_per_second, text((r) => format.figures(r.requests_per_second))],
  ["p50", "number", (r) => r.p50?.total_ms ?? -1, text((r) => format.milliseconds(r.p50?.total_ms))],
  ["p99", "number slow", (r) => r.p99?.total_ms ?? -1, SLOW],
  ["Models", "models", (r) => r.num_models, text((r) => r.models.map(describeModel).join("; ") || format.ABSENT)],
  ["Restarts", "number", (r) => r.num_restarts, text((r) => format.count(r.num_restarts))],
  ["USD", "number", (r) => Number(r.cost_usd ?? -1), text((r) => format.usd(r.cost_usd))],
  ["USD/100k", "number", (r) => Number(r.usd_per_100k ?? -1), text((r) => format.usd(r.usd_per_100k))],
];
const NAME = ["Name", "", (r) => r.name.toLowerCase()];

function makeRow(row, onOpen) {
  const name = el("button", { type: "button", title: row.accelerator_id, onclick: () => onOpen(row.accelerator_id) }, row.name);
  const line = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, name));
  const cells = COLUMNS.map(([title, kind, , column]) => {
    const cell = el("td", { role: "cell", class: kind, "data-label": kind === "state-cell" ? null : title });
    line.append(cell);
    return [cell, column, column.make(cell)];
  });
  return { line, cells };
}

// `onOpen(id)` is called when somebody wants to see more of one.
export function acceleratorTable(onOpen) {
  const lines = new Map(); // id -> { line, cells, row }
  const body = el("tbody", { role: "rowgroup" });
  let sortedBy = null; // [column, sign]; null: in the order of attaching
  let wanted = "";

  const heads = [NAME, ...COLUMNS].map((column) => {
    const head = el("th", { scope: "col", role: "columnheader", class: ["number", "tenant"].find((kind) => column[1].includes(kind)) ?? null });
    head.append(el("button", { type: "button", onclick: () => sortBy(column, head) }, column[0]));
    return head;
  });
  const top = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads));
  byId("accelerators").append(el("table", { role: "table", "aria-labelledby": "accelerators-title" }, top, body));
  byId("filter").addEventListener("input", (event) => {
    wanted = event.target.value.trim().toLowerCase();
    for (const each of lines.values()) filter(each);
    arrange();
  });

  function sortBy(column, head) {
    const sign = sortedBy?.[0] === column ? -sortedBy[1] : 1;
    sortedBy = [column, sign];
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    arrange();
  }

  function filter({ line, row }) {
    const hay = [row.name, row.accelerator_id, row.tenant, row.type, row.device, stateOf(row), models(row)].join(" ").toLowerCase();
    line.hidden = wanted !== "" && !hay.includes(wanted);
  }

  function arrange() {
    const all = [...lines.values()];
    if (sortedBy) {
      const [[, , key], sign] = sortedBy;
      const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      all.sort((a, b) => sign * order(key(a.row), key(b.row)));
    }
    // Only rows out of place are moved, so that a focus inside one that stays is kept.
    all.forEach(({ line }, place) => {
      if (body.children[place] !== line) body.insertBefore(line, body.children[place] ?? null);
    });
    const numShown = all.filter(({ line }) => !line.hidden).length;
    const nothing = byId("nothing");
    nothing.hidden = numShown > 0;
    setText(nothing, all.length ? "No accelerator matches the filter." : "No accelerators are attached.");
  }

  function show(rows, gone, isWhole) {
    const told = new Set(rows.map((row) => row.accelerator_id));
    for (const id of isWhole ? [...lines.keys()].filter((id) => !told.has(id)) : gone) {
      lines.get(id)?.line.remove();
      lines.delete(id);
    }
    for (const row of rows) {
      let each = lines.get(row.accelerator_id);
      if (!each) {
        each = makeRow(row, onOpen);
        lines.set(row.accelerator_id, each);
      }
      each.row = row;
      for (const [cell, column, parts] of each.cells) column.show(cell, row, parts);
      if (wanted) filter(each);
    }
    arrange();
  }

  return { show, rows: () => [...lines.values()].map(({ row }) => row), row: (id) => lines.get(id)?.row };
}
