// What is granted and what is used of each device.

import { bar, byId, el, setBar, setText } from "./dom.js";
import * as format from "./format.js";

function makeCard(name) {
  const title = el("small");
  const card = { title, lines: {} };
  const line = (key, label, ...bars) => {
    const text = el("span", { class: "text" });
    const drawn = bar(...bars);
    card.lines[key] = { text, bar: drawn };
    return el("div", { class: "pair" }, el("span", {}, label), drawn.node, text);
  };
  const lease = el("span", { class: "text" });
  card.lease = el("div", { class: "pair" }, el("span", {}, "Lease"), lease);
  card.leaseText = lease;
  card.node = el(
    "div", { class: "card" },
    el("h3", {}, name, title),
    line("share", "Share", "granted", "used"), line("memory", "Memory", "granted", "used"), card.lease,
  );
  return card;
}

export function deviceCards() {
  const cards = new Map();

  return function show(devices) {
    byId("device-section").hidden = devices.length === 0;
    for (const device of devices) {
      let card = cards.get(device.name);
      if (!card) {
        card = makeCard(device.name);
        cards.set(device.name, card);
        byId("devices").append(card.node);
      }
      const { share, memory } = card.lines;
      const num = device.num_accelerators;
      setText(card.title, `${num} ${num === 1 ? "accelerator" : "accelerators"}, shared by ${device.sharing}`);
      setBar(share.bar, device.granted_share, device.used_share);
      setText(share.text, `${format.percent(device.granted_share)} granted, ${format.percent(device.used_share)} used`);
      const offered = device.offered_memory_bytes;
      const used = device.used_memory_bytes;
      setBar(memory.bar, device.granted_memory_bytes / offered, (used ?? 0) / offered);
      const said = used === null ? "" : `, ${format.bytes(used)} used`;
      setText(memory.text, `${format.bytes(device.granted_memory_bytes)} of ${format.bytes(offered)} granted${said}`);
      card.lease.hidden = device.lease_wait_seconds === null;
      setText(card.leaseText, `waited for ${format.seconds(device.lease_wait_seconds)} in all`);
    }
  };
}
