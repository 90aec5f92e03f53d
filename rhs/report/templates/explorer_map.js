// The map of the embedding, on a canvas: pan, zoom, pictures on hover, the query and its neighbors.

const view = { scale: 1, x: 0, y: 0 }; // pixels a map unit, and where the map's origin stands
let canvas, tip, points = [];

// Hues a golden angle apart, in three depths, as on the report's own map.
function classColor(label) {
  return `hsl(${((label * 137.508) % 360).toFixed(0)} 62% ${[46, 58, 52][label % 3]}%)`;
}

function startMap() {
  const panel = byId("panel-map");
  if (!run.map) {
    panel.append(h("p", { class: "empty" }, "There are too few test images for a map."));
    return;
  }
  points = run.map.images.map((image, at) => (
    { image, x: run.map.x[at], y: run.map.y[at], color: classColor(run.labels[image]) }));
  canvas = h("canvas", { tabindex: "0", role: "img", "aria-label":
    `t-SNE map of ${plural(points.length, "image")}, colored by class. Arrow keys move it, + and − zoom, 0 shows all; the query is ringed.` });
  tip = h("div", { class: "tip", role: "tooltip", hidden: true });
  const tool = (text, label, action) => h("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
  panel.append(
    h("p", { class: "lead" }, `t-SNE of ${plural(points.length, "image")}, one color a class. Neighborhoods mean something, distances between groups do not. Lines lead to the query's neighbors.`),
    h("div", { class: "plane" }, canvas, tip, h("div", { class: "zoom" },
      tool("+", "Zoom in (+)", () => zoom(1.4)), tool("−", "Zoom out (−)", () => zoom(1 / 1.4)),
      tool("Fit", "Show all (0)", fit))));
  canvas.addEventListener("wheel", (event) => {
    // Else the wheel scrolls the page, as everywhere.
    if (!event.ctrlKey && document.activeElement !== canvas) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", mapKeys);
  startPointer();
  let fitted = 0; // to this width; shown again, the map stays as it was left
  new ResizeObserver(() => {
    if (canvas.clientWidth && canvas.clientWidth !== fitted) fit();
    if (canvas.clientWidth) fitted = canvas.clientWidth;
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
}

function fit() {
  const width = Math.max(1, ...points.map((point) => point.x));
  const height = Math.max(1, ...points.map((point) => point.y));
  const margin = 24;
  view.scale = Math.min((canvas.clientWidth - 2 * margin) / width, (canvas.clientHeight - 2 * margin) / height);
  view.x = (canvas.clientWidth - view.scale * width) / 2;
  view.y = (canvas.clientHeight - view.scale * height) / 2;
  drawMap();
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const scale = Math.max(0.005, Math.min(20, view.scale * factor));
  view.x = x - (x - view.x) * (scale / view.scale);
  view.y = y - (y - view.y) * (scale / view.scale);
  view.scale = scale;
  drawMap();
}

function mapKeys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const by = 60;
  const move = { ArrowLeft: [by, 0], ArrowRight: [-by, 0], ArrowUp: [0, by], ArrowDown: [0, -by] }[event.key];
  if (move) {
    view.x += move[0];
    view.y += move[1];
    drawMap();
  } else if (event.key === "+" || event.key === "=") zoom(1.4);
  else if (event.key === "-") zoom(1 / 1.4);
  else if (event.key === "0") fit();
  else return;
  event.preventDefault();
  event.stopPropagation(); // not the page's own arrows and digits
}

// The nearest point within reach of the pointer.
function pointAt(x, y) {
  let best = null;
  let reach = 12 ** 2;
  for (const point of points) {
    const away = (view.x + view.scale * point.x - x) ** 2 + (view.y + view.scale * point.y - y) ** 2;
    if (away < reach) [best, reach] = [point, away];
  }
  return best;
}

function startPointer() {
  let from = null; // where a drag began
  let dragged = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    from = { x: event.offsetX - view.x, y: event.offsetY - view.y, at: [event.offsetX, event.offsetY] };
    dragged = false;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) { hover(event.offsetX, event.offsetY); return; }
    if (Math.hypot(event.offsetX - from.at[0], event.offsetY - from.at[1]) > 4) dragged = true;
    if (!dragged) return;
    [view.x, view.y] = [event.offsetX - from.x, event.offsetY - from.y];
    tip.hidden = true;
    drawMap();
  });
  canvas.addEventListener("pointerup", (event) => {
    const point = from && !dragged ? pointAt(event.offsetX, event.offsetY) : null;
    from = null;
    if (point) show(point.image);
  });
  canvas.addEventListener("pointercancel", () => { from = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
}

function hover(x, y) {
  const point = pointAt(x, y);
  canvas.style.cursor = point ? "pointer" : "grab";
  tip.hidden = !point;
  if (!point) return;
  if (tip.dataset.image !== String(point.image)) {
    tip.dataset.image = point.image;
    tip.replaceChildren(h("img", { src: pictureOf(run, point.image), alt: "" }), h("span", {},
      h("b", {}, className(run, point.image)), h("span", { class: "file" }, run.names[point.image])));
  }
  const [px, py] = [view.x + view.scale * point.x, view.y + view.scale * point.y];
  tip.style.left = `${px > canvas.clientWidth / 2 ? px - tip.offsetWidth - 14 : px + 14}px`;
  tip.style.top = `${Math.max(4, Math.min(canvas.clientHeight - tip.offsetHeight - 4, py - tip.offsetHeight / 2))}px`;
}

function drawMap() {
  if (!canvas || !canvas.clientWidth) return;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  const filtering = filtered.length < run.queries.length;
  const lit = new Set(filtered.map((row) => run.queries[row]));
  const radius = Math.max(2.2, Math.min(7, 2.2 * Math.sqrt(1500 / points.length) * Math.sqrt(view.scale / 0.06)));
  const dot = (point, size) => {
    pen.beginPath();
    pen.arc(view.x + view.scale * point.x, view.y + view.scale * point.y, size, 0, 2 * Math.PI);
  };
  for (const faint of filtering ? [true, false] : [false]) {
    pen.globalAlpha = faint ? 0.13 : 0.78;
    for (const point of points) {
      if (filtering && lit.has(point.image) === faint) continue;
      pen.fillStyle = point.color;
      dot(point, radius);
      pen.fill();
    }
  }
  pen.globalAlpha = 1;
  drawSelected(pen, dot, radius);
}

function drawSelected(pen, dot, radius) {
  const colors = getComputedStyle(document.documentElement);
  const color = (name) => colors.getPropertyValue(`--${name}`);
  const placeOf = new Map(points.map((point) => [point.image, point]));
  const query = placeOf.get(state.image);
  const row = run.rowOf.get(state.image);
  const near = row === undefined ? [] : run.neighbors[row].map((image) => placeOf.get(image)).filter(Boolean);
  for (const point of near) {
    const right = run.labels[point.image] === run.labels[state.image];
    pen.strokeStyle = color(right ? "right" : "wrong");
    pen.lineWidth = 1.4;
    if (query) {
      pen.setLineDash(right ? [] : [4, 3]);
      pen.beginPath();
      pen.moveTo(view.x + view.scale * query.x, view.y + view.scale * query.y);
      pen.lineTo(view.x + view.scale * point.x, view.y + view.scale * point.y);
      pen.stroke();
      pen.setLineDash([]);
    }
    pen.fillStyle = point.color;
    dot(point, radius + 2);
    pen.fill();
    pen.stroke();
  }
  if (!query) return;
  pen.fillStyle = query.color;
  dot(query, radius + 3);
  pen.fill();
  pen.strokeStyle = color("ink");
  pen.lineWidth = 2.5;
  dot(query, radius + 6);
  pen.stroke();
}
