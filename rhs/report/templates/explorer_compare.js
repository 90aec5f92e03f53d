// Two runs side by side: another report's explorer.html is read as text, checked, and laid beside.

const LARGEST = 512 * 2 ** 20; // bytes

function startCompare() {
  const input = byId("compare-file");
  input.addEventListener("change", () => {
    if (input.files.length) openOther(input.files[0]);
    input.value = ""; // the same file can be chosen again
  });
  byId("compare-open").addEventListener("click", () => input.click());
  let depth = 0;
  const over = (by) => { depth += by; document.body.classList.toggle("dropping", depth > 0); };
  addEventListener("dragenter", (event) => { event.preventDefault(); over(1); });
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    if (event.dataTransfer.files.length) openOther(event.dataTransfer.files[0]);
  });
  drawRuns();
}

async function openOther(file) {
  try {
    if (file.size > LARGEST) throw new Refused("is larger than 512 MiB");
    compareWith(readRun(dataIn(await file.text())));
    notice("");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    notice(`“${file.name}” ${error.message}.`);
  }
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function compareWith(there) {
  if (there.about.data !== run.about.data) {
    throw new Refused(`is a run on other data: ${dataWords(there)}, while this page is on ${dataWords(run)}`);
  }
  // Rows by image name: the two pages may have numbered, or chosen, their images otherwise.
  const rowHere = run.queries.map((image) =>
    there.rowOf.get(there.imageOf.get(run.names[image])) ?? -1);
  if (!rowHere.some((row) => row >= 0)) throw new Refused("shows none of this page's queries");
  other = { ...there, rowHere };
  refilter({ tab: "runs" });
}

const dataWords = ({ about }) => {
  const set = Object.fromEntries(about.facts)["data set"];
  return `${set ? `${set}, ` : ""}${plural(about.images, "test image")} of ${plural(about.classes, "class", "classes")}`;
};

function closeOther() {
  other = null;
  refilter({ outcome: OUTCOMES[state.outcome].other ? "all" : state.outcome });
}

// Draw everything again: what the filters mean has changed.
function refilter(change) {
  Object.assign(state, change);
  filtered = run.queries.map((_, row) => row).filter(passes);
  keepingFocus(() => {
    for (const draw of Object.values(renderers)) draw();
    drawRuns();
  });
  remember(false);
}

function drawRuns() {
  const panel = byId("panel-runs");
  const choose = h("button", { type: "button", onclick: () => byId("compare-file").click() }, "Choose a file…");
  if (!other) {
    panel.replaceChildren(h("p", { class: "drop" }, "Open the ", h("code", {}, "explorer.html"),
      " of another run on the same data: choose it, or drop it anywhere on this page. Its neighbors then stand below this run's. Nothing leaves this computer. ", choose));
    return;
  }
  const shared = run.queries.map((_, row) => row).filter((row) => other.rowHere[row] >= 0 && run.hits[row] !== null);
  const mean = (values) => (values.length ? percent(values.reduce((a, b) => a + b, 0) / values.length) : "–");
  const rowOf = (name, one, hits) => h("tr", {}, h("th", { scope: "row" }, name, h("small", {}, one.label)),
    h("td", {}, one.about.facts.map((pair) => pair.join(" ")).join(" · ")),
    h("td", { class: "number headline" }, recallWords(one)), h("td", { class: "number" }, mean(hits)));
  const count = (here, there) => shared.filter((row) =>
    (run.outcomes[row] === "wrong") === here && (other.outcomes[other.rowHere[row]] === "wrong") === there).length;
  const cell = (outcome, here, there) => h("td", { class: "number" }, outcome
    ? h("button", { type: "button", class: "plain", onclick: () => update({ outcome }) }, number(count(here, there)))
    : number(count(here, there)));
  panel.replaceChildren(
    h("table", { id: "runs" }, h("thead", {}, h("tr", {}, h("th"), h("th", {}, "Made with"),
      h("th", { class: "number" }, "Recall@1, all queries"),
      h("th", { class: "number" }, `Recall@1, the ${number(shared.length)} on both pages`))),
    h("tbody", {}, rowOf("This run", run, shared.map((row) => run.hits[row])),
      rowOf("Other run", other, shared.map((row) => other.hits[other.rowHere[row]])))),
    h("table", { id: "crossed" }, h("thead", {}, h("tr", {}, h("th", {}, "Queries"),
      h("th", { class: "number" }, "there right"), h("th", { class: "number" }, "there wrong"))),
    h("tbody", {}, h("tr", {}, h("th", { scope: "row" }, "here right"), cell(null, false, false), cell("there", false, true)),
      h("tr", {}, h("th", { scope: "row" }, "here wrong"), cell("here", true, false), cell("both", true, true)))),
    h("p", { class: "steps" }, choose, h("button", { type: "button", id: "compare-close", onclick: closeOther }, "Close the comparison")));
}

function recallWords({ about }) {
  if (about.recall === null) return "–";
  const [low, high] = about.interval;
  const range = about.interval.length ? ` (${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)})` : "";
  return percent(about.recall) + range;
}
