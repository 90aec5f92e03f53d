// Start, tabs, keys.

const KEYS = [
  ["j or →, k or ←", "next, previous query"],
  ["r", "a random query of those listed"],
  ["1 … 9, 0", "make that neighbor the query (0: the tenth)"],
  ["Alt ←", "back, as in any page"],
  ["/", "search class and file names"],
  ["c", "choose a class"],
  ["f", "failures only, or all"],
  ["x", "clear all filters"],
  ["m, p, l, t", "map, confused pairs, recall by class, two runs"],
  ["o", "open another run to compare with"],
  ["Esc", "leave a field, close this"],
  ["?", "these keys"],
  ["In the list", "arrows, Page Up and Down, Home, End"],
  ["On the map", "arrows move it, + and − zoom, 0 shows all; drag and click by mouse, wheel after a click or with Ctrl"],
];
const CLEAR = { text: "", label: -1, outcome: "all", pair: null };

const ACTIONS = {
  j: () => step(1), ArrowRight: () => step(1), k: () => step(-1), ArrowLeft: () => step(-1),
  r: randomQuery,
  "/": () => byId("search").select(),
  c: () => byId("class").focus(),
  f: () => update({ outcome: state.outcome === "wrong" ? "all" : "wrong" }),
  x: () => update({ ...CLEAR }),
  m: () => openTab("map"), p: () => openTab("confusions"), l: () => openTab("classes"), t: () => openTab("runs"),
  o: () => byId("compare-file").click(),
  "?": () => byId("help").showModal(),
};
for (let place = 1; place <= 10; place += 1) ACTIONS[place % 10] = () => openNeighbor(place);

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const field = event.target.closest?.("input, select, textarea");
  if (field) {
    if (event.key === "Escape") { field.blur(); list.focus(); }
    return;
  }
  if (event.target.closest?.("[role=tablist]") && event.key.startsWith("Arrow")) return;
  const action = Object.hasOwn(ACTIONS, event.key) ? ACTIONS[event.key] : null;
  if (!action) return;
  event.preventDefault();
  action();
}

function openTab(tab) {
  update({ tab });
  byId(`tab-${tab}`).focus({ preventScroll: true });
  byId("panels").scrollIntoView({ block: "nearest" });
}

function drawTabs() {
  for (const tab of TABS) {
    const selected = tab === state.tab;
    byId(`tab-${tab}`).setAttribute("aria-selected", String(selected));
    byId(`tab-${tab}`).tabIndex = selected ? 0 : -1;
    byId(`panel-${tab}`).hidden = !selected;
  }
}

function startTabs() {
  for (const tab of TABS) byId(`tab-${tab}`).addEventListener("click", () => update({ tab }));
  byId("tabs").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) openTab(TABS[(TABS.indexOf(state.tab) + by + TABS.length) % TABS.length]);
  });
}

function startHelp() {
  const help = byId("help");
  help.append(h("h2", { id: "help-title" }, "Keys"),
    h("dl", {}, ...KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])),
    h("form", { method: "dialog" }, h("button", {}, "Close")));
  byId("help-open").addEventListener("click", () => help.showModal());
}

// How good the run is, and what this page leaves out.
function drawFacts() {
  const { about } = run;
  const shown = run.queries.length;
  const classes = new Set(run.queries.map((image) => run.labels[image])).size;
  const parts = [h("span", {}, "Recall@1 ", h("b", {}, recallWords(run)))];
  if (shown < about.queries) {
    parts.push(h("span", { class: "sample" }, `Shown: ${number(shown)} of ${plural(about.queries, "query", "queries")} (${number(classes)} of ${number(about.classes)} classes, drawn at random); neighbors are searched among all ${number(about.images)} test images.`));
  } else parts.push(h("span", {}, `${plural(shown, "query", "queries")}, ${plural(about.classes, "class", "classes")}`));
  if (about.images > about.queries) parts.push(h("span", {}, `${plural(about.images - about.queries, "image")} in the gallery`));
  if (about.answerable < about.queries) {
    parts.push(h("span", {}, `${plural(about.queries - about.answerable, "query", "queries")} without an answer, not counted`));
  }
  byId("facts").replaceChildren(...parts);
}

function start() {
  run = readRun(byId("explorer-data").textContent);
  Object.assign(state, stateOf(location.hash));
  filtered = run.queries.map((_, row) => row).filter(passes);
  const asked = new URLSearchParams(location.hash.slice(1)).has("q");
  if (!asked && filtered.length) state.image = run.queries[filtered[0]];
  renderers = { filters: drawFilters, query: drawQuery, tabs: drawTabs, map: drawMap };
  drawFacts();
  startList();
  startTabs();
  startHelp();
  startMap();
  startConfusions();
  startClasses();
  startCompare();
  for (const draw of Object.values(renderers)) draw();
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("random").addEventListener("click", randomQuery);
  addEventListener("keydown", keys);
  addEventListener("hashchange", () => {
    clearTimeout(writing);
    pending = null;
    update(stateOf(location.hash), { push: false });
  });
  document.body.dataset.ready = "yes";
}

start();
