// Elements, made and changed with text alone: nothing that a tenant named is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

// The page is written to each second; most of it is as it was, and must cost nothing.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// A bar of parts, each a share of 0 to 1, one above the other; what it says stands beside it as text.
export function bar(...names) {
  const parts = names.map((name) => el("i", { class: name }));
  return { node: el("span", { class: "bar", "aria-hidden": "true" }, ...parts), parts };
}

export function setBar({ node, parts }, ...shares) {
  shares.forEach((share, place) => {
    const value = Math.min(1, Math.max(0, share)).toFixed(3);
    if (parts[place].style.getPropertyValue("--share") !== value) parts[place].style.setProperty("--share", value);
  });
  node.classList.toggle("high", shares.at(-1) > 0.9);
}
