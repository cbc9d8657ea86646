// The page put together: each snapshot is shown in all its parts.

import { acceleratorTable, isSilent } from "./accelerators.js";
import * as actions from "./actions.js";
import { detailDialog } from "./detail.js";
import { deviceCards } from "./devices.js";
import { byId, el, setText } from "./dom.js";
import { eventList } from "./events.js";
import * as format from "./format.js";
import { openStream } from "./stream.js";
import { tenantCards } from "./tenants.js";

const detail = detailDialog([
  ["Resize", "attacher", actions.resize],
  ["Detach", "danger", actions.detach],
]);
const table = acceleratorTable((id) => detail.open(id, table.row));
const showDevices = deviceCards();
const showEvents = eventList();
const showTenants = tenantCards();
let host = { is_draining: false };

const sum = (rows, get) => rows.reduce((total, row) => total + get(row), 0);

const TILES = {
  Accelerators: (rows) => [format.count(rows.length), byState(rows)],
  "Requests/s": (rows) => [format.figures(sum(rows, (r) => r.requests_per_second)), `${sum(rows, (r) => r.num_waiting)} waiting`],
  "Restarts": (rows) => [format.count(sum(rows, (r) => r.num_restarts)), `${sum(rows, (r) => r.num_oom_kills)} kills for memory`],
  "USD so far": (rows) => [format.usd(String(sum(rows, (r) => Number(r.cost_usd ?? 0)))), unpriced(rows)],
  "USD/hour": (rows) => [format.usd(String(sum(rows, (r) => Number(r.usd_per_hour ?? 0)))), unpriced(rows)],
  "USD/100k": (rows) => [costOfMany(rows), "idle time paid included"],
};

function byState(rows) {
  const silent = rows.filter(isSilent).length;
  const others = rows.filter((r) => r.state !== "ready").length;
  return [`${rows.length - others - silent} ready`, others && `${others} not ready`, silent && `${silent} silent`].filter(Boolean).join(", ");
}

function unpriced(rows) {
  const num = rows.filter((r) => r.usd_per_hour === null).length;
  return num ? `${num} without a price left out` : "what is attached now";
}

function costOfMany(rows) {
  const priced = rows.filter((r) => r.cost_usd !== null && r.inferences);
  const inferences = sum(priced, (r) => r.inferences);
  return inferences ? format.usd(String((sum(priced, (r) => Number(r.cost_usd)) * 1e5) / inferences)) : format.ABSENT;
}

const tiles = Object.entries(TILES).map(([name, get]) => {
  const value = document.createTextNode("");
  const note = el("small");
  byId("totals").append(el("div", {}, el("dt", {}, name), el("dd", {}, value, note)));
  return { get, value, note };
});

function showHost(told) {
  host = told;
  document.body.classList.toggle("is-attacher", told.is_operator || told.tenant !== null);
  const whose = told.tenant === null ? "" : `tenant ${told.tenant}`;
  setText(byId("host-id"), [whose, told.host_id, told.version, told.is_draining ? "draining" : ""].filter(Boolean).join(" · "));
  byId("attach").hidden = !told.is_operator && told.tenant === null;
  byId("drain").hidden = !told.is_operator;
  setText(byId("tenants-title"), told.is_operator ? "Tenants" : "Quota and budget");
  byId("attach").disabled = told.is_draining;
  setText(byId("drain"), told.is_draining ? "Take new ones" : "Drain");
  const warnings = told.warnings.join("\n");
  if (byId("warnings").dataset.shown !== warnings) {
    byId("warnings").dataset.shown = warnings;
    byId("warnings").replaceChildren(...told.warnings.map((text) => el("p", { class: "warning" }, text)));
  }
}

function showTotals() {
  const rows = table.rows();
  for (const { get, value, note } of tiles) {
    const [figure, text] = get(rows);
    if (value.data !== figure) value.data = figure;
    setText(note, text);
  }
}

byId("attach").addEventListener("click", actions.attach);
byId("drain").addEventListener("click", () => actions.drain(host.is_draining));

openStream(
  (state, text) => {
    byId("connection").className = `state ${state}`;
    setText(byId("connection"), text);
  },
  (frame) => {
    showHost(frame.host);
    showDevices(frame.devices);
    document.body.classList.toggle("has-tenants", frame.host.is_operator && frame.tenants.length > 0);
    table.show(frame.accelerators, frame.gone, frame.is_whole);
    showTenants(frame.tenants, frame.waiting, table.rows());
    showEvents(frame.events, frame.is_whole);
    showTotals();
    detail.show();
  },
);
