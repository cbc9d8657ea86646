"use strict";
// Sort a table by the column whose button is pressed: figures by value, texts by locale, empty ones always last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const wasAscending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", wasAscending ? "descending" : "ascending");
    const sign = wasAscending ? -1 : 1;
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const rows = [...body.rows].sort((one, two) => {
      const a = key(one), b = key(two);
      if (a === "" || b === "") return (a === "") - (b === "");
      const difference = Number(a) - Number(b);
      return sign * (Number.isNaN(difference) ? a.localeCompare(b, undefined, { numeric: true }) : difference);
    });
    body.append(...rows);
  });
}
// A table wider than its place fades out where it goes on, so that nobody takes the columns in sight for all.
const fade = (box) => box.classList.toggle("has-more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
const boxes = document.querySelectorAll(".scroll");
for (const box of boxes) box.addEventListener("scroll", () => fade(box), { passive: true });
addEventListener("resize", () => boxes.forEach(fade));
boxes.forEach(fade);
