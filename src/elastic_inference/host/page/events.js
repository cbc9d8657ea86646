// What happened, newest first.

import { byId, el } from "./dom.js";
import * as format from "./format.js";

const MAX_SHOWN = 200;
const MOODS = {
  died: "bad", "out of memory": "bad", "does not answer": "bad", refused: "warn", host: "warn", budget: "warn", waits: "warn",
  attached: "good", "serves again": "good", "answers again": "good",
};

function item(event) {
  const time = el("time", { datetime: new Date(event.at * 1000).toISOString() }, format.clock(event.at));
  return el(
    "li", { class: MOODS[event.kind] ?? null },
    time, el("b", {}, event.kind), el("span", { title: event.accelerator_id }, event.name), el("span", {}, event.text),
  );
}

export function eventList() {
  const list = byId("events").firstElementChild;
  let last = 0;
  list.append(el("li", { class: "empty" }, "Nothing has happened since the host started."));

  return function show(events, isWhole) {
    if (isWhole && (events.at(-1)?.number ?? 0) < last) {
      list.replaceChildren(); // the host started anew, and counts anew
      last = 0;
    }
    const fresh = events.filter((event) => event.number > last);
    if (!fresh.length) return;
    if (last === 0) list.replaceChildren();
    last = fresh.at(-1).number;
    list.prepend(...fresh.reverse().map(item));
    while (list.children.length > MAX_SHOWN) list.lastElementChild.remove();
  };
}
