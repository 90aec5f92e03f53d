// Elements are only ever made here, from text: class and file names never become markup.

const byId = (id) => document.getElementById(id);

// h("button", {class: "x", onclick: f, "aria-label": "y"}, child, "text", null)
function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const SHAPES = { right: "M1.5 5.4 4 8l4.5-6", wrong: "m2 2 6 6M8 2 2 8", tie: "M1.5 3.5h7M1.5 6.5h7" };
const WORDS = { right: "right", wrong: "wrong", tie: "tie", none: "no answer" };

// A shape beside the color: a tick, a cross, two lines for a tie; nothing for "none".
function mark(outcome) {
  if (!SHAPES[outcome]) return null;
  const SVG = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 10 10");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", SHAPES[outcome]);
  svg.append(path);
  return h("span", { class: "mark", "aria-hidden": "true" }, svg);
}

const number = (value) => value.toLocaleString("en-US");
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many || one + "s"}`;
const ascending = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

// At most `step` rows, and a button for more: a table of 10,000 classes opens at once.
function rowsInSteps(body, items, makeRow, step = 100) {
  let shown = 0;
  const columns = body.closest("table").tHead.rows[0].cells.length;
  function more() {
    const last = body.lastElementChild;
    if (last && last.classList.contains("more")) last.remove();
    body.append(...items.slice(shown, shown + step).map(makeRow));
    shown = Math.min(shown + step, items.length);
    if (shown < items.length) {
      const text = `Show more (${number(items.length - shown)} left)`;
      const button = h("button", { type: "button", onclick: () => { more(); focusRow(); } }, text);
      body.append(h("tr", { class: "more" }, h("td", { colspan: columns }, button)));
    }
  }
  const focusRow = () => [...body.querySelectorAll("button")].at(-1)?.focus();
  more();
}
