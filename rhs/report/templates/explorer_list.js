// The filters and the grid of queries. Only the cells in sight exist: 5,000 images stay fluid.

const CELL = 60; // pixels, with its gap; as in explorer.css
const list = byId("list");
const cells = byId("cells");

const columns = () => Math.max(1, Math.floor(cells.clientWidth / CELL));

function drawCells() {
  const across = columns();
  cells.style.height = `${Math.ceil(filtered.length / across) * CELL}px`;
  const first = Math.max(0, Math.floor(list.scrollTop / CELL) - 2) * across;
  const last = (Math.ceil((list.scrollTop + list.clientHeight) / CELL) + 2) * across;
  const selected = run.rowOf.get(state.image);
  cells.replaceChildren(...filtered.slice(first, last).map((row, at) => cell(row, first + at, across, row === selected)));
  const shown = byId("selected-cell");
  if (shown) list.setAttribute("aria-activedescendant", shown.id);
  else list.removeAttribute("aria-activedescendant");
}

function cell(row, at, across, selected) {
  const image = run.queries[row];
  const outcome = run.outcomes[row];
  const words = `${className(run, image)}, ${WORDS[outcome]}`;
  const element = h(
    "div",
    {
      role: "option", class: `cell ${outcome}`, "data-row": row, id: selected && "selected-cell",
      "aria-selected": String(selected), "aria-label": words,
      "aria-posinset": at + 1, "aria-setsize": filtered.length,
      title: `${className(run, image)}\n${run.names[image]}`,
    },
    h("img", { src: pictureOf(run, image), alt: "", draggable: "false" }),
    mark(outcome),
  );
  element.style.left = `${(at % across) * CELL}px`;
  element.style.top = `${Math.floor(at / across) * CELL}px`;
  return element;
}

// Scroll only as far as needed for the selected query to be in sight.
function revealSelected() {
  const at = filtered.indexOf(run.rowOf.get(state.image));
  if (at >= 0) {
    const top = Math.floor(at / columns()) * CELL;
    if (top < list.scrollTop) list.scrollTop = top;
    const bottom = top + CELL - list.clientHeight;
    if (bottom > list.scrollTop) list.scrollTop = bottom;
  }
  const place = at < 0 ? "" : `${number(at + 1)} of `;
  const total = number(run.queries.length);
  const all = filtered.length === run.queries.length;
  byId("count").textContent = `${place}${number(filtered.length)}${all ? "" : ` (${total} in all)`}`;
  drawCells();
}

function drawFilters() {
  if (byId("search").value !== state.text) byId("search").value = state.text;
  byId("class").value = String(state.label);
  const outcomes = Object.entries(OUTCOMES).filter(([, outcome]) => other || !outcome.other);
  byId("outcomes").replaceChildren(...outcomes.map(([name, outcome]) => {
    const count = run.outcomes.filter((here, row) => outcome.test(here, outcomeThere(row))).length;
    return h(
      "button",
      { type: "button", "data-outcome": name, "aria-pressed": String(state.outcome === name),
        onclick: () => update({ outcome: name }) },
      `${outcome.title} `, h("small", {}, number(count)),
    );
  }));
  const pair = byId("pair");
  pair.hidden = !state.pair;
  if (state.pair) {
    const [of, as] = state.pair.map((label) => h("b", {}, run.classes[label]));
    pair.replaceChildren(
      h("span", {}, of, " taken for ", as),
      h("button", { type: "button", "aria-label": "Show all pairs", onclick: () => update({ pair: null }) }, "✕"),
    );
  }
  list.setAttribute("aria-label", plural(filtered.length, "query", "queries"));
  byId("previous").disabled = byId("next").disabled = byId("random").disabled = !filtered.length;
}

function listKeys(event) {
  const across = columns();
  const page = Math.max(1, Math.floor(list.clientHeight / CELL) - 1) * across;
  const by = {
    ArrowDown: across, ArrowUp: -across, PageDown: page, PageUp: -page,
    Home: -Infinity, End: Infinity,
  }[event.key];
  if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  step(by);
}

function startList() {
  const labels = [...new Set(run.queries.map((image) => run.labels[image]))];
  labels.sort((a, b) => ascending(run.classes[a], run.classes[b]));
  byId("class").append(
    h("option", { value: -1 }, `All ${plural(labels.length, "class", "classes")}`),
    ...labels.map((label) => h("option", { value: label }, run.classes[label])),
  );
  byId("class").addEventListener("change", (event) => update({ label: Number(event.target.value) }));
  byId("search").addEventListener("input", (event) =>
    update({ text: event.target.value.trim() ? event.target.value : "" }, { push: false }));
  list.addEventListener("click", (event) => {
    const clicked = event.target.closest("[data-row]");
    if (clicked) show(run.queries[Number(clicked.dataset.row)]);
  });
  list.addEventListener("keydown", listKeys);
  let waiting = false;
  list.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; drawCells(); });
  }, { passive: true });
  new ResizeObserver(revealSelected).observe(list);
}
