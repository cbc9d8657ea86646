// The last hour as a line, or as much of it as there is: where a figure is not known, the line has a gap.

import { el, svg } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 50;
const LEAST_SECONDS = 300; // of a chart: the first points lie at its right end

function path(at, values, most) {
  const end = at.at(-1);
  const seconds = Math.max(LEAST_SECONDS, end - at[0]);
  let text = "";
  let isDrawn = false;
  values.forEach((value, place) => {
    if (value === null) {
      isDrawn = false;
      return;
    }
    const x = (WIDTH * (1 - (end - at[place]) / seconds)).toFixed(1);
    const y = (HEIGHT - 2 - (HEIGHT - 4) * (value / most)).toFixed(1);
    text += `${isDrawn ? "L" : "M"}${x} ${y}`;
    if (!isDrawn) text += "h0.1"; // a point by itself is seen too
    isDrawn = true;
  });
  return text;
}

// `most` is the top of the chart; null: the greatest value. `form` writes a value.
export function chart(title, at, values, form, most = null) {
  const known = values.filter((value) => value !== null);
  const greatest = known.length ? Math.max(...known) : null;
  const said = known.length ? `${title}: now ${form(known.at(-1))}, at most ${form(greatest)} in ${Math.max(1, Math.round((at.at(-1) - at[0]) / 60))} min` : `${title}: not known yet`;
  const drawn = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": said });
  if (known.length) drawn.append(svg("path", { d: path(at, values, most ?? (greatest || 1)) }));
  return el("figure", {}, drawn, el("figcaption", {}, said));
}
