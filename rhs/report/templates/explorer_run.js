// A run's data: read out of a page, checked, and made ready. Another run's file is somebody's upload:
// nothing of it is executed, and nothing in it is trusted before `readRun` has looked at it.

const FORMAT = "rhs-explorer-1";
const OPENING = '<script type="application/json" id="explorer-data">';
const PICTURE = /^data:image\/(png|webp|jpeg);base64,[A-Za-z0-9+/]+=*$/;

class Refused extends Error {}

// The JSON text inside a page that this report wrote; it holds no "<".
function dataIn(page) {
  const start = page.indexOf(OPENING);
  const end = start < 0 ? -1 : page.indexOf("<", start + OPENING.length);
  if (end < 0) throw new Refused("is no explorer page of a report");
  return page.slice(start + OPENING.length, end);
}

function readRun(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Refused("is damaged: its data cannot be read");
  }
  if (!data || typeof data !== "object") throw new Refused("is damaged: its data is no object");
  if (data.format !== FORMAT) {
    throw new Refused("was written by another version of the report: make both reports anew");
  }
  const problem = problemOf(data);
  if (problem) throw new Refused(`is damaged: ${problem}`);
  return prepared(data);
}

const isText = (value) => typeof value === "string";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const isShare = (value) => isNumber(value) && value >= 0 && value <= 1;
const below = (limit) => (value) => Number.isInteger(value) && value >= 0 && value < limit;
const listOf = (test) => (value) => Array.isArray(value) && value.every(test);
const orNull = (test) => (value) => value === null || test(value);

// What is wrong with the data, or "".
function problemOf(data) {
  const about = data.about;
  if (!about || typeof about !== "object") return "about";
  const fact = (pair) => listOf(isText)(pair) && pair.length === 2;
  const facts = {
    title: isText, run: isText, data: isText, facts: listOf(fact), recall: orNull(isShare),
    interval: (value) => listOf(isNumber)(value) && [0, 2].includes(value.length),
    images: below(1e9), queries: below(1e9), answerable: below(1e9), classes: below(1e9),
  };
  for (const [name, test] of Object.entries(facts)) if (!test(about[name])) return `about.${name}`;
  for (const name of ["classes", "asked", "pairs", "names", "labels", "thumbs", "pictures", "queries"]) {
    if (!Array.isArray(data[name])) return name;
  }
  const image = below(data.names.length);
  const label = below(data.classes.length);
  const lists = {
    asked: (one) => listOf(isNumber)(one) && one.length === 2 && one[1] >= 0 && one[1] <= one[0],
    pairs: (one) => listOf(below(1e9))(one) && one.length === 3 && label(one[0]) && label(one[1]),
    classes: isText, names: isText, labels: label,
    thumbs: below(data.pictures.length), pictures: (uri) => isText(uri) && PICTURE.test(uri),
    queries: image, neighbors: listOf(image), similarities: listOf(isNumber),
    hits: orNull(isShare), ranks: orNull(below(1e9)), typical: listOf(image),
  };
  for (const [name, test] of Object.entries(lists)) if (!listOf(test)(data[name])) return name;
  for (const name of ["labels", "thumbs"]) {
    if (data[name].length !== data.names.length) return name;
  }
  for (const name of ["neighbors", "similarities", "hits", "ranks"]) {
    if (data[name].length !== data.queries.length) return name;
  }
  for (const name of ["typical", "asked"]) {
    if (data[name].length !== data.classes.length) return name;
  }
  if (!below(1e9)(data.pairs_in_all)) return "pairs_in_all";
  const pairs = data.neighbors.every((row, at) => row.length === data.similarities[at].length);
  return pairs ? mapProblem(data.map, image) : "similarities";
}

function mapProblem(map, image) {
  if (map === null) return "";
  const whole = map && listOf(image)(map.images) && listOf(isNumber)(map.x) && listOf(isNumber)(map.y);
  const fits = whole && map.x.length === map.images.length && map.y.length === map.images.length;
  return fits ? "" : "map";
}

function prepared(data) {
  const rowOf = new Map(data.queries.map((image, row) => [image, row]));
  const outcomes = data.hits.map((hit, row) => {
    if (hit === null || !data.neighbors[row].length) return "none";
    return hit === 0 ? "wrong" : hit === 1 ? "right" : "tie";
  });
  const imageOf = new Map(data.names.map((name, image) => [name, image]));
  const lower = data.names.map(
    (name, image) => `${data.classes[data.labels[image]]}\n${name}`.toLowerCase());
  return { ...data, rowOf, outcomes, imageOf, lower, label: labelOf(data.about) };
}

// What a column is called: the run's name, or what is known of how it was made.
function labelOf(about) {
  const known = Object.fromEntries(about.facts);
  const parts = [known.model, known.method, known.seed && `seed ${known.seed}`];
  return about.run || parts.filter(Boolean).join(", ") || about.title;
}

const className = (run, image) => run.classes[run.labels[image]];
const pictureOf = (run, image) => run.pictures[run.thumbs[image]];
