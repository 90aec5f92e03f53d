// Tables of the whole run: which classes are taken for which, and Recall@1 of each class.

// [{pair: [of, as], count, share of the queries of that class, how many are on this page}], most first.
function confusions() {
  const here = new Map();
  run.queries.forEach((image, row) => {
    if (run.outcomes[row] !== "wrong") return;
    const key = `${run.labels[image]} ${run.labels[run.neighbors[row][0]]}`;
    here.set(key, (here.get(key) || 0) + 1);
  });
  const pairs = run.pairs.map(([of, as, count]) => (
    { pair: [of, as], count, share: count / run.asked[of][0], here: here.get(`${of} ${as}`) || 0 }));
  return pairs.sort((a, b) => b.count - a.count || b.share - a.share
    || ascending(run.classes[a.pair[0]], run.classes[b.pair[0]])
    || ascending(run.classes[a.pair[1]], run.classes[b.pair[1]]));
}

// These tables count all queries, of which the page may show a sample.
function ofAll() {
  return run.queries.length < run.about.queries
    ? `Of all ${number(run.about.queries)} queries; those that this page shows can be opened. ` : "";
}

function startConfusions() {
  const pairs = confusions();
  const panel = byId("panel-confusions");
  if (!pairs.length) {
    panel.append(h("p", { class: "empty" }, "No query has a nearest neighbor of another class."));
    return;
  }
  const cut = pairs.length < run.pairs_in_all ? `, the ${number(pairs.length)} most frequent listed` : "";
  const words = `${ofAll()}${plural(run.pairs_in_all, "pair")} of classes${cut}: queries of the one whose nearest neighbor is of the other. The share is of the first class's queries.`;
  const body = h("tbody");
  panel.append(h("p", { class: "lead" }, words),
    h("table", { id: "confusions" }, h("thead", {}, h("tr", {}, h("th", {}, "Queries of"),
      h("th", {}, "taken for"), h("th", { class: "number" }, "Count"),
      h("th", { class: "number" }, "Share"))), body));
  const face = (label) => h("span", { class: "face" },
    run.typical[label].slice(0, 2).map((image) => h("img", { src: pictureOf(run, image), alt: "" })),
    h("span", {}, run.classes[label]));
  rowsInSteps(body, pairs, ({ pair, count, share, here }) => {
    const button = here === 0 ? face(pair[0]) : h("button", { type: "button", class: "plain", "aria-label":
      `${run.classes[pair[0]]} taken for ${run.classes[pair[1]]}: ${plural(count, "query", "queries")}` }, face(pair[0]));
    return h("tr", here === 0 ? {} : { class: "link", onclick: () => openPair(pair) }, h("td", {}, button),
      h("td", {}, face(pair[1])), h("td", { class: "number" }, number(count)),
      h("td", { class: "number" }, percent(share)));
  });
}

// The queries of a pair, from the first.
function openPair(pair) {
  const row = run.queries.findIndex((image, at) => run.outcomes[at] === "wrong"
    && run.labels[image] === pair[0] && run.labels[run.neighbors[at][0]] === pair[1]);
  update({ pair, label: -1, text: "", outcome: "all", image: run.queries[row] });
  byId("stage").scrollTo({ top: 0 });
}

// Recall@1 and number of the queries of each class that have an answer.
function classRecalls() {
  const here = new Set(run.queries.map((image) => run.labels[image]));
  return run.asked.map(([count, hits], label) => (
    { label, name: run.classes[label], count, recall: hits / count, here: here.has(label) }))
    .filter(({ count }) => count);
}

const ORDERS = { // column: title, its first direction, and what it compares
  name: ["Class", 1, (a, b) => ascending(a.name, b.name)],
  count: ["Queries", -1, (a, b) => a.count - b.count],
  recall: ["Recall@1", 1, (a, b) => a.recall - b.recall],
};

function startClasses() {
  const panel = byId("panel-classes");
  const all = classRecalls();
  if (!all.length) {
    panel.append(h("p", { class: "empty" }, "No query has another image of its class to find."));
    return;
  }
  const headers = Object.fromEntries(Object.entries(ORDERS).map(([column, [title]]) => [column,
    h("th", { class: column === "name" ? null : "number", scope: "col" },
      h("button", { type: "button", class: "plain", "data-sort": column, onclick: () => sort(column) }, title))]));
  const body = h("tbody");
  panel.append(h("p", { class: "lead" }, `${ofAll()}Each class as it stands in the list: choose one to see its queries. A column's title sorts.`),
    h("table", { id: "classes" }, h("thead", {}, h("tr", {}, ...Object.values(headers), h("th", { class: "bars" }))), body));
  let by = "";
  let direction = 1;
  function sort(column) {
    direction = by === column ? -direction : ORDERS[column][1];
    by = column;
    for (const [name, header] of Object.entries(headers)) {
      header.setAttribute("aria-sort", name !== by ? "none" : direction > 0 ? "ascending" : "descending");
    }
    const compare = ORDERS[column][2];
    all.sort((a, b) => direction * compare(a, b) || b.count - a.count || ascending(a.name, b.name));
    body.replaceChildren();
    rowsInSteps(body, all, classRow);
  }
  sort("recall");
}

function classRow({ label, name, count, recall, here }) {
  const bar = h("span", { class: "bar" }, h("i"));
  bar.firstChild.style.width = `${100 * recall}%`;
  const pick = () => update({ label, pair: null, text: "", outcome: "all" });
  return h("tr", here ? { class: "link", onclick: pick } : {},
    h("td", {}, here ? h("button", { type: "button", class: "plain" }, name) : name),
    h("td", { class: "number" }, number(count)),
    h("td", { class: "number" }, percent(recall)), h("td", { class: "bars" }, bar));
}
