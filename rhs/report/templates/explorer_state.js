// What is looked at. It lives in the address after "#", so that Back works and a link can be shared.

const state = {
  image: -1, // what stands in the middle: a query, or an image that asks nothing
  text: "", label: -1, // filters: words; a class
  outcome: "all", // all, wrong; with another run: here, there, both
  pair: null, // [class of the query, class of its wrong nearest neighbor]
  tab: "map",
};
const OUTCOMES = {
  all: { title: "All", other: false, test: () => true },
  wrong: { title: "Failures", other: false, test: (here) => here === "wrong" },
  here: { title: "Only here wrong", other: true, test: (here, there) => here === "wrong" && there && there !== "wrong" },
  there: { title: "Only there wrong", other: true, test: (here, there) => here !== "wrong" && there === "wrong" },
  both: { title: "Both wrong", other: true, test: (here, there) => here === "wrong" && there === "wrong" },
};
const TABS = ["map", "confusions", "classes", "runs"];

let run; // this page's
let other = null; // the run it is compared with
let filtered = []; // rows of run.queries that pass the filters, in order
let renderers = {}; // what draws each part again; see main

function passes(row) {
  const image = run.queries[row];
  if (state.label >= 0 && run.labels[image] !== state.label) return false;
  if (!OUTCOMES[state.outcome].test(run.outcomes[row], outcomeThere(row))) return false;
  if (state.pair && (run.outcomes[row] !== "wrong" || run.labels[image] !== state.pair[0]
      || run.labels[run.neighbors[row][0]] !== state.pair[1])) return false;
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => run.lower[image].includes(word));
}

function outcomeThere(row) {
  const there = other ? other.rowHere[row] : -1;
  return there >= 0 ? other.outcomes[there] : undefined;
}

// Change the state and draw what depends on it. `push`: a step that Back undoes.
function update(change, { push = true } = {}) {
  const before = { ...state };
  Object.assign(state, change);
  const filters = ["text", "label", "outcome", "pair"].some((name) => before[name] !== state[name]);
  if (filters) {
    filtered = run.queries.map((_, row) => row).filter(passes);
    // Filters narrow the list; the query stays if it is in it, else the first one stands in.
    const row = run.rowOf.get(state.image);
    if (!("image" in change) && filtered.length && !filtered.includes(row)) {
      state.image = run.queries[filtered[0]];
    }
  }
  keepingFocus(() => {
    if (filters) renderers.filters();
    if (filters || before.image !== state.image) renderers.query();
    if (before.tab !== state.tab) renderers.tabs();
    if (filters || before.image !== state.image || before.tab !== state.tab) renderers.map();
  });
  remember(push);
}

let writing = 0;
let pending = null; // an address not written yet

// Browsers refuse hundreds of history entries in a row: steps that follow each other share one.
function remember(push) {
  const hash = hashOf();
  if (push) {
    writePending(); // Back leads to where one was, not to where the address still was
    if (hash !== location.hash) history.pushState(null, "", hash);
  } else {
    pending = hash;
    clearTimeout(writing);
    writing = setTimeout(writePending, 150);
  }
}

function writePending() {
  clearTimeout(writing);
  if (pending !== null && pending !== location.hash) history.replaceState(null, "", pending);
  pending = null;
}

// Draw, and keep the keyboard where it was: what is drawn anew takes the focus of what it replaces.
function keepingFocus(draw) {
  const was = document.activeElement;
  const known = was && (was.id ? `#${was.id}` : ["outcome", "place", "sort"].filter((key) => was.dataset[key])
    .map((key) => `[data-${key}="${was.dataset[key]}"]`)[0]);
  draw();
  if (!was || document.contains(was)) return;
  (document.querySelector(known || "#list") || list).focus({ preventScroll: true });
}

function hashOf() {
  const words = new URLSearchParams();
  if (state.image >= 0) words.set("q", run.names[state.image]);
  if (state.outcome !== "all") words.set("show", state.outcome);
  if (state.label >= 0) words.set("class", run.classes[state.label]);
  if (state.pair) state.pair.forEach((label, at) => words.set(["of", "as"][at], run.classes[label]));
  if (state.text) words.set("text", state.text);
  if (state.tab !== "map") words.set("tab", state.tab);
  return `#${words}`;
}

// The state that an address asks for; what it does not know it leaves at its default.
function stateOf(hash) {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const label = (name) => (words.has(name) ? run.classes.indexOf(words.get(name)) : -1);
  const outcome = words.get("show");
  const known = Object.hasOwn(OUTCOMES, outcome || "") && (other || !OUTCOMES[outcome].other);
  return {
    image: run.imageOf.get(words.get("q")) ?? (run.queries.length ? run.queries[0] : -1),
    text: words.get("text") || "",
    label: label("class"),
    outcome: known ? outcome : "all",
    pair: label("of") >= 0 && label("as") >= 0 ? [label("of"), label("as")] : null,
    tab: TABS.includes(words.get("tab")) ? words.get("tab") : "map",
  };
}

const show = (image) => update({ image });

// The query `by` places on in the list; from an image that is not in it, the first or last.
function step(by) {
  if (!filtered.length) return;
  const at = filtered.indexOf(run.rowOf.get(state.image));
  const start = at >= 0 || !Number.isFinite(by) ? at : by > 0 ? -by : filtered.length - 1 - by;
  const to = start + by;
  const within = Math.max(0, Math.min(filtered.length - 1, to));
  update({ image: run.queries[filtered[within]] }, { push: false });
}

function randomQuery() {
  if (!filtered.length) return;
  show(run.queries[filtered[Math.floor(Math.random() * filtered.length)]]);
}
