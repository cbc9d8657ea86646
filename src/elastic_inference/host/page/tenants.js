// What each tenant has, may have and has spent; and who waits for capacity. A tenant sees itself alone.

import { bar, byId, el, setBar, setText } from "./dom.js";
import * as format from "./format.js";

// Of nothing, nothing is left.
const part = (used, limit) => (limit > 0 ? used / limit : 1);

const of = (value, limit) => (limit === null ? value : `${value} of ${limit}`);

function budgetText(row) {
  const spent = format.usd(row.spent_usd);
  const unpriced = row.unpriced_hours ? `, ${format.figures(row.unpriced_hours)} h without a price` : "";
  if (!row.budget) return `${spent} USD this month${unpriced}`;
  const ends = row.budget.ends_at && row.budget.level === "reached" ? `, detached from ${format.moment(row.budget.ends_at)} on` : "";
  return `${spent} of ${format.usd(row.budget.usd_per_month)} USD this month${unpriced}${ends}`;
}

// label, share of its limit (null: it has none), what stands below the bar
const LINES = [
  ["Budget", (r) => (r.budget ? part(Number(r.spent_usd ?? 0), Number(r.budget.usd_per_month)) : null), budgetText],
  ["Share", (r) => (r.max_share === null ? null : part(r.share, r.max_share)),
    (r) => of(format.percent(r.share), r.max_share === null ? null : format.percent(r.max_share))],
  ["Memory", (r) => (r.max_memory_bytes === null ? null : part(r.memory_bytes, r.max_memory_bytes)),
    (r) => of(format.bytes(r.memory_bytes), r.max_memory_bytes === null ? null : format.bytes(r.max_memory_bytes))],
  ["Requests", (r) => (r.requests_per_second === null ? null : part(r.requests_now, r.requests_per_second)),
    (r) => `${of(format.figures(r.requests_now), r.requests_per_second)} a second`],
];

function makeCard(name) {
  const title = el("small");
  const warning = el("p", { class: "warning", hidden: true });
  const lines = LINES.map(([label, share, text]) => {
    const drawn = bar("used");
    const words = el("span", { class: "text" });
    return { share, text, drawn, words, node: el("div", { class: "pair" }, el("span", {}, label), drawn.node, words) };
  });
  const node = el("div", { class: "card" }, el("h3", {}, name, title), warning, ...lines.map((line) => line.node));
  return { node, title, warning, lines };
}

function showCard(card, row) {
  const num = of(format.count(row.num_accelerators), row.max_accelerators);
  const waiting = row.num_waiting ? `, ${row.num_waiting} waiting` : "";
  setText(card.title, `${num} ${row.num_accelerators === 1 && row.max_accelerators === null ? "accelerator" : "accelerators"}${waiting}`);
  card.warning.hidden = !row.warning;
  setText(card.warning, row.warning);
  for (const line of card.lines) {
    const share = line.share(row);
    line.drawn.node.hidden = share === null;
    if (share !== null) setBar(line.drawn, share);
    setText(line.words, line.text(row));
  }
}

const requestsOf = (tenant, accelerators) =>
  accelerators.reduce((sum, row) => sum + (row.tenant === tenant ? row.requests_per_second ?? 0 : 0), 0);

export function tenantCards() {
  const cards = new Map();

  return function show(tenants, waiting, accelerators) {
    byId("tenant-section").hidden = tenants.length === 0;
    const names = new Set(tenants.map((row) => row.name));
    for (const [name, card] of cards) {
      if (names.has(name)) continue;
      card.node.remove();
      cards.delete(name);
    }
    for (const row of tenants) {
      if (!cards.has(row.name)) {
        cards.set(row.name, makeCard(row.name));
        byId("tenants").append(cards.get(row.name).node);
      }
      showCard(cards.get(row.name), { ...row, requests_now: requestsOf(row.name, accelerators) });
    }
    const line = waiting.map((w) => `${w.place}. ${w.type}${w.tenant ? ` for ${w.tenant}` : ""} since ${format.clock(w.since)}`);
    byId("line").hidden = line.length === 0;
    setText(byId("line"), `In line for capacity: ${line.slice(0, 10).join("; ")}${line.length > 10 ? `; and ${line.length - 10} more` : ""}`);
  };
}
