// Figures as people read them. What is not known is a dash.

export const ABSENT = "–";

const known = (value, form) => (value === null || value === undefined ? ABSENT : form(value));

export const bytes = (value) =>
  known(value, (b) => (b >= 1 << 30 ? `${(b / (1 << 30)).toFixed(1)} GiB` : `${Math.round(b / (1 << 20))} MiB`));

// Of two amounts, in one unit where they have one.
export function bytesOf(used, limit) {
  const [one, all] = [bytes(used), bytes(limit)];
  return `${one.split(" ")[1] === all.split(" ")[1] ? one.split(" ")[0] : one} of ${all}`;
}

export const percent = (share) => known(share, (s) => `${s < 0.01 ? Number((s * 100).toPrecision(2)) : Math.round(s * 100)}%`);

export const figures = (value, digits = 3) =>
  known(value, (v) => (v >= 1000 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(digits)))));

export const milliseconds = (value) =>
  known(value, (ms) => (ms >= 1000 ? `${figures(ms / 1000)} s` : `${figures(ms)} ms`));

// At least two digits that say something: a budget may be of a few millionths.
export const usd = (text) =>
  known(text, (t) => {
    const amount = Number(t);
    if (amount === 0) return "0";
    if (amount < 0.001) return amount.toFixed(Math.min(12, 1 - Math.floor(Math.log10(amount))));
    return amount.toFixed(amount < 1 ? 4 : 2);
  });

export const count = (value) => known(value, (v) => v.toLocaleString("en"));

export const seconds = (value) => known(value, (s) => (s >= 3600 ? `${figures(s / 3600)} h` : s >= 60 ? `${figures(s / 60)} min` : `${figures(s)} s`));

export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

export const moment = (at) => new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC";
