// The query in the middle, and what each run found for it.

function drawQuery() {
  const section = byId("query");
  const image = state.image;
  if (image < 0) {
    section.replaceChildren(h("p", { class: "card empty" }, emptyReason()));
    revealSelected();
    return;
  }
  const row = run.rowOf.get(image);
  const label = run.labels[image];
  const big = h("img", { src: pictureOf(run, image), alt: className(run, image), id: "query-picture" });
  section.replaceChildren(
    h("div", { class: "card asked" },
      h("figure", {}, h("span", { class: "frame" }, big)),
      h("div", { class: "said" },
        h("h2", {}, h("button", { type: "button", class: "plain", title: "Only this class",
          onclick: () => update({ label, pair: null, text: "", outcome: "all" }) }, run.classes[label])),
        h("p", { class: "file" }, run.names[image]),
        h("p", { id: "verdict", class: row === undefined ? "none" : run.outcomes[row] }, ...verdict(row)),
        state.pair ? pairShown(run, state.pair) : null)),
    ...strips(row),
  );
  byId("spoken").textContent = `${className(run, image)}. ${byId("verdict").textContent}`;
  revealSelected();
}

function emptyReason() {
  if (!run.names.length) return "There are no test images, so there is nothing to explore.";
  return "No test image is a query, so there is nothing to explore.";
}

function verdict(row) {
  if (row === undefined) {
    const why = run.about.images > run.about.queries
      ? "It asks nothing: it is of the gallery that the queries are searched in"
      : "Its own neighbors are not on this page, which shows a sample";
    return [why + (run.about.images > run.about.queries && run.queries.length < run.about.queries
      ? ", or is not in this page's sample." : ".")];
  }
  const rank = run.ranks[row];
  const right = { none: run.neighbors[row].length
    ? "No other image of its class can be found: it is not counted."
    : "There is nothing to compare it with.",
  right: "Right: the nearest neighbor is of its class.",
  wrong: `Wrong: the first right one has rank ${number(rank || 0)}.`,
  tie: `Several tie for the first place: right with a chance of ${percent(run.hits[row] || 0)}.` };
  const outcome = run.outcomes[row];
  return [mark(outcome), right[outcome]].filter(Boolean);
}

function strips(row) {
  if (!other) return row === undefined ? [] : [strip(run, row, run.names.length ? "Nearest neighbors" : "", true)];
  const here = row === undefined ? null : strip(run, row, `This run: ${run.label}`, true);
  const there = row === undefined ? -1 : other.rowHere[row];
  const name = `Other run: ${other.label}`;
  if (there >= 0) return [here, strip(other, there, name, false)];
  const missing = h("p", { class: "empty" }, "That page does not show this query.");
  return [here, h("div", { class: "card strip" }, h("h3", {}, name), missing)];
}

// The neighbors that one run found. Another run's are shown from its own file.
function strip(of, row, title, own) {
  const outcome = of.outcomes[row];
  const query = of.queries[row];
  const rank = of.ranks[row];
  const aside = rank === null ? "" : `first right one: rank ${number(rank)}`;
  const tiles = of.neighbors[row].map((image, at) => {
    const right = of.labels[image] === of.labels[query];
    const kind = right ? "right" : "wrong";
    const here = own ? image : run.imageOf.get(of.names[image]);
    const similarity = of.similarities[row][at].toFixed(3);
    const name = className(of, image);
    return h("li", {},
      h("button", { type: "button", class: `tile ${kind}`, disabled: here === undefined,
        title: `${name}\n${of.names[image]}`, "data-place": own ? at + 1 : null,
        "aria-label": `${at + 1}: ${name}, ${kind}, cosine ${similarity}`,
        onclick: () => show(here) },
      h("span", { class: "frame" }, h("img", { src: pictureOf(of, image), alt: "" }), mark(kind)),
      h("span", { class: "caption" },
        h("span", { class: "name" }, name), h("span", { class: "similarity" }, similarity))));
  });
  const content = tiles.length ? h("ol", { class: "neighbors" }, ...tiles)
    : h("p", { class: "empty" }, "There is nothing to compare it with.");
  return h("div", { class: `card strip ${own ? "own" : "foreign"} ${outcome}` },
    h("h3", {}, title, h("span", { class: "aside" }, aside)), content);
}

// Typical images of two classes, side by side.
function pairShown(of, pair) {
  return h("div", { class: "pair-shown" }, ...pair.map((label) => h("figure", {},
    h("figcaption", {}, of.classes[label]),
    h("span", { class: "thumbs" }, ...of.typical[label].map((image) =>
      h("img", { src: pictureOf(of, image), alt: "", title: of.names[image] }))))));
}

const openNeighbor = (place) =>
  document.querySelector(`.strip.own [data-place="${place}"]`)?.click();
