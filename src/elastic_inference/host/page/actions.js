// What the page can change: attach, resize, detach, drain. Each is asked first, and what the host refuses is shown there.

import { ask } from "./api.js";
import { byId, el } from "./dom.js";

let number = 0;

function field(label, input) {
  input.id = `field-${(number += 1)}`;
  return [el("label", { for: input.id }, label), input];
}

// Asks a question in the dialog; `act` is awaited when it is confirmed, and what it returns is shown where it is more
// than nothing.
function question(title, text, fields, confirm, act, isDangerous = false) {
  const dialog = byId("question");
  const refused = el("p", { class: "refused", role: "alert", hidden: true });
  const go = el("button", { class: isDangerous ? "danger" : "main" }, confirm);
  const cancel = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = el("form", {}, el("h2", { id: "question-title" }, title), text ? el("p", {}, text) : null,
    ...fields, refused, el("div", { class: "dialog-actions" }, cancel, go));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    refused.hidden = true;
    try {
      const told = await act();
      if (told) form.replaceChildren(...told, el("div", { class: "dialog-actions" },
        el("button", { type: "button", class: "main", onclick: () => dialog.close() }, "Close")));
      else dialog.close();
    } catch (error) {
      refused.textContent = error.message;
      refused.hidden = false;
      go.disabled = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
}

async function typeChoice(current) {
  const types = await ask("GET", "/v1/types");
  const options = types.filter((t) => t.num_available !== 0 || t.name === current).map((t) => {
    const price = t.usd_per_hour === null ? "no price" : `${t.usd_per_hour} USD/hour`;
    const fit = t.num_available === null ? "" : `, ${t.num_available} fit`; // a tenant is not told what others leave
    return el("option", { value: t.name, selected: t.name === current }, `${t.name}: ${t.compute}, ${price}${fit}`);
  });
  return el("select", { required: true }, ...options);
}

export async function attach() {
  const type = await typeChoice(null);
  const name = el("input", { maxlength: "100", autocomplete: "off" });
  question("Attach an accelerator", "", [...field("Type", type), ...field("Name (optional)", name)], "Attach", async () => {
    const body = { type: type.value };
    if (name.value.trim()) body.name = name.value.trim();
    const made = await ask("POST", "/v1/accelerators", body);
    return [
      el("h2", { id: "question-title" }, `Attached ${made.name}`),
      el("p", {}, "Its token is shown only now; keep it."),
      el("pre", { tabindex: "0", role: "region", "aria-label": "What a client needs" },
        `id        ${made.accelerator_id}\n${made.endpoints.map((e) => `endpoint  ${e}`).join("\n")}\ntoken     ${made.token}`),
    ];
  });
}

export async function resize(row) {
  const type = await typeChoice(row.type);
  question(`Resize ${row.name}`, "It keeps its id, token, endpoints and models; its process may be restarted, and requests wait meanwhile.",
    field("New type", type), "Resize",
    async () => { await ask("PATCH", `/v1/accelerators/${row.accelerator_id}`, { type: type.value }); });
}

export function detach(row) {
  const drain = el("input", { type: "number", min: "0", max: "600", step: "1", value: "10", required: true });
  question(`Detach ${row.name}?`, "It finishes what is in flight, and then ends. Its token, models and log are removed.",
    field("Seconds for what is in flight", drain), "Detach",
    async () => { await ask("DELETE", `/v1/accelerators/${row.accelerator_id}?drain_seconds=${Number(drain.value)}`); }, true);
}

export function drain(isDraining) {
  const [title, text, confirm] = isDraining
    ? ["Take new accelerators again?", "", "Take them"]
    : ["Drain this host?", "It refuses new accelerators until you take that back. Attached ones keep running.", "Drain"];
  question(title, text, [], confirm, async () => { await ask("POST", "/v1/host/drain", { is_draining: !isDraining }); }, !isDraining);
}
