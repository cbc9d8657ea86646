// All that is known of one accelerator: facts, the last hour, its models, its log, and what can be done with it.

import { stateOf } from "./accelerators.js";
import { ask } from "./api.js";
import { chart } from "./charts.js";
import { byId, el, setText } from "./dom.js";
import * as format from "./format.js";

const LOG_MS = 2000;
const HISTORY_MS = 10000;
const MAX_LOG_CHARACTERS = 100000;

const FACTS = [
  ["Id", (r) => r.accelerator_id],
  ["State", stateOf],
  ["Type", (r) => (r.usd_per_hour === null ? `${r.type}, no price` : `${r.type}, ${r.usd_per_hour} USD/hour`)],
  ["Device", (r) => `${format.percent(r.share)} of ${r.device}`],
  ["Memory", (r) => format.bytesOf(r.memory_bytes, r.memory_limit_bytes)],
  ["Busy", (r) => `${format.percent(r.utilisation_share)} of its share`],
  ["Queue", (r) => `${r.num_waiting} waiting, ${r.num_running} running`],
  ["Held back", (r) => `${format.percent(r.throttled_share)} of the time now, ${format.seconds(r.throttled_seconds)} in all`],
  ["Device lease", (r) => (r.lease_wait_seconds === null ? "none" : `waited for ${format.seconds(r.lease_wait_seconds)} in all`)],
  ["Attached", (r) => format.moment(r.created_at)],
  ["Lease", (r) => (r.lease_left_seconds === null ? "until it is detached" : `ends in ${format.seconds(r.lease_left_seconds)} without a heartbeat`)],
  ["Restarts", (r) => `${r.num_restarts} ${r.last_exit}`.trim()],
  ["Kills for memory", (r) => format.count(r.num_oom_kills)],
  ["Inferences", (r) => format.count(r.inferences)],
  ["Cost", (r) => `${format.usd(r.cost_usd)} USD; ${format.usd(r.usd_per_100k)} for 100,000 inferences`],
];

const PARTS = ["total", "queue", "service", "wire"];
const latencyRows = (row) => ["p50", "p99"].map((name) => [name, ...PARTS.map((part) => format.milliseconds(row[name]?.[`${part}_ms`]))]);
const modelRows = (row) =>
  row.models.map((m) => [
    m.name, m.state.toLowerCase() + (m.reason ? `: ${m.reason}` : ""), m.engine ?? format.ABSENT, m.precision ?? format.ABSENT,
    m.proof || "computed as written", format.count(m.num_ok), format.count(m.num_failed),
    format.milliseconds(m.mean_service_ms),
  ]);

function table(titles, label) {
  const body = el("tbody");
  const head = el("thead", {}, el("tr", {}, ...titles.map((title) => el("th", { scope: "col" }, title))));
  const node = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, el("table", {}, head, body));
  let shown = "";
  return {
    node,
    show(rows) {
      const key = JSON.stringify(rows);
      if (key === shown) return;
      shown = key;
      body.replaceChildren(...rows.map(([first, ...rest]) =>
        el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((cell) => el("td", {}, cell)))));
    },
  };
}

// `actions` are buttons: [label, class, (row) => void].
export function detailDialog(actions) {
  const dialog = byId("detail");
  let close = () => {};

  function open(id, find) {
    const facts = FACTS.map(([name, get]) => [get, el("dd"), name]);
    const models = table(["Model", "State", "Engine", "Precision", "Proof", "Answered", "Failed", "Mean service"], "Models");
    const latency = table(["Latency", "Total", "Queue", "Service", "Wire"], "Latency of the last minute");
    const charts = el("div", { class: "charts" });
    const log = el("pre", { class: "log", tabindex: "0", role: "region", "aria-label": "Log" }, "...");
    const title = el("h2", { id: "detail-title" });
    const gone = el("p", { class: "refused", role: "alert", hidden: true }, "It is not attached any more.");
    const buttons = actions.map(([label, kind, act]) => el("button", { type: "button", class: kind, onclick: () => act(find(id)) }, label));
    dialog.replaceChildren(
      el("div", { class: "dialog-head" }, title, el("button", { type: "button", onclick: () => dialog.close() }, "Close")),
      gone,
      el("div", { class: "dialog-actions left" }, ...buttons),
      el("dl", { class: "facts" }, ...facts.flatMap(([, value, name]) => [el("dt", {}, name), value])),
      el("h3", {}, "Models"), models.node,
      el("h3", {}, "Requests of the last minute"), latency.node,
      el("h3", {}, "The last hour"), charts,
      el("h3", {}, "Log"), log,
    );
    const timers = [];
    const repeat = (milliseconds, work) => {
      const once = async () => {
        if (find(id)) await work().catch(() => {}); // gone or away: the stream says so
        if (timers[place] !== null) timers[place] = setTimeout(once, milliseconds);
      };
      const place = timers.push(0) - 1;
      once();
    };
    repeat(HISTORY_MS, async () => {
      const past = await ask("GET", `/v1/accelerators/${id}/history`);
      charts.replaceChildren(
        chart("Requests/s", past.at, past.requests_per_second, format.figures),
        chart("p99", past.at, past.p99_seconds, (s) => format.milliseconds(s * 1000)),
        chart("Busy", past.at, past.utilisation_share, format.percent),
        chart("Memory", past.at, past.memory_bytes, format.bytes),
        chart("Queue", past.at, past.num_waiting, format.figures),
      );
    });
    let cursor = null;
    repeat(LOG_MS, async () => {
      const query = cursor === null ? "" : `?cursor=${cursor}`;
      const part = await ask("GET", `/v1/accelerators/${id}/logs${query}`);
      if (cursor === null || part.text) {
        const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
        const text = (cursor === null ? "" : log.textContent) + part.text;
        setText(log, text.slice(-MAX_LOG_CHARACTERS) || "It has written nothing.");
        if (isAtEnd) log.scrollTop = log.scrollHeight;
      }
      cursor = part.cursor;
    });

    function show() {
      const row = find(id);
      gone.hidden = row !== undefined;
      for (const button of buttons) button.disabled = row === undefined;
      if (row === undefined) return;
      setText(title, row.name);
      for (const [get, value] of facts) setText(value, get(row));
      models.show(modelRows(row));
      latency.show(latencyRows(row));
    }

    close = () => {
      timers.forEach((timer, place) => {
        clearTimeout(timer);
        timers[place] = null;
      });
      update.current = () => {};
      dialog.replaceChildren();
    };
    update.current = show;
    show();
    dialog.showModal();
  }

  const update = { current: () => {} };
  dialog.addEventListener("close", () => close());
  return { open, show: () => update.current() };
}
