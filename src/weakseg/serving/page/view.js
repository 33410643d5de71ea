"use strict";
const NODATA = 255, DRAG = 4, POLL = 700;
const LAYERS = ["classes", "confidence", "applicability"];
const $ = id => document.getElementById(id);
const stage = $("stage"), picture = $("picture"), overlay = $("overlay");
let about = null;          // the model: classes with colours, limits
let raster = null;         // what is open, as the server describes it
let images = null, maps = null;
let view = {x: 0, y: 0, scale: 1};  // column and row of the raster in the middle, screen px per px of the raster
let hidden = new Set(), shown = 0, version = 0;
let outline = {corners: [], closed: false}, drawing = false;
let opening = 0, polling = null;

const spoken = name => name.replaceAll("_", " ");
const count = number => number.toLocaleString("en");
const numbers = text => text.split(/[\s,]+/).filter(Boolean).map(Number);
const short = (number, digits = 3) => Number(number.toPrecision(digits)).toLocaleString("en", {maximumFractionDigits: 6});
const say = text => { $("message").textContent = text; };

function make(tag, properties = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}

async function ask(address, options) {
  const answer = await fetch(address, options), found = await answer.json();
  if (!answer.ok) throw new Error(typeof found.message === "string" ? found.message : "the server does not take this");
  return found;
}

const post = (address, body) => ask(address, body === undefined ? {method: "POST"} :
  {method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json"}});
const failed = error => say(error.name === "TypeError"
  ? "no answer from weakseg serve; expected it to run in its terminal; start it again" : error.message);

// ---- start ----------------------------------------------------------------------------------------------------------

async function start() {
  about = await ask("about");
  const gsd = about.gsd ? `, trained at ${short(about.gsd)} m per pixel` : "";
  $("model").textContent = `weakseg, model ${about.model}, ${about.classes.length} classes${gsd}`;
  $("accepts").textContent = `Of any size by its path; uploads up to ${short(about.max_upload / 2 ** 20)} MiB`;
  about.classes.forEach((item, index) => $("legend").append(legendRow(item, index)));
  $("show-applicability").disabled = !about.applicable;
  if (!about.applicable) $("show-applicability").nextElementSibling.title = "This model does not know what it was trained on";
  const {paths} = await ask("rasters");
  $("paths").append(...paths.map(path => make("option", {value: path})));
  const named = decodeURIComponent(location.hash.slice(1));
  if (named) { $("path").value = named; await openPath(); }
  document.body.dataset.ready = "yes";
}

function legendRow(item, index) {
  const colour = make("span", {className: "colour"});
  colour.style.background = `rgb(${item.colour.join(",")})`;
  const button = make("button", {type: "button"}, colour, make("span", {textContent: spoken(item.name)}));
  button.setAttribute("aria-pressed", "true");
  button.onclick = () => {
    hidden.has(index) ? hidden.delete(index) : hidden.add(index);
    button.setAttribute("aria-pressed", String(!hidden.has(index)));
    repaint();
  };
  const row = make("li", {}, button);
  row.dataset.name = item.name;
  return row;
}

// ---- opening --------------------------------------------------------------------------------------------------------

const reading = () => ({bands: numbers($("bands").value), stretch: numbers($("stretch").value)});

async function openPath() {
  const path = $("path").value.trim();
  if (!path) return;
  await open(() => post("rasters", {path, ...reading()}), path);
  if (raster && raster.name === path) history.replaceState(null, "", "#" + encodeURIComponent(path));
}

async function upload(file) {
  if (file.size > about.max_upload) {
    const size = bytes => `${short(bytes / 2 ** 20)} MiB`;
    say(`${file.name}: ${size(file.size)}; expected at most ${size(about.max_upload)}; put it into the workspace and open its path`);
    return;
  }
  const {bands, stretch} = reading();
  const query = new URLSearchParams([...bands.map(band => ["bands", band]), ...stretch.map(value => ["stretch", value])]);
  const headers = {"Content-Type": "application/octet-stream", "X-File-Name": encodeURIComponent(file.name)};
  await open(() => ask(`rasters/upload?${query}`, {method: "POST", body: file, headers}), file.name);
  if (raster && raster.name === file.name) history.replaceState(null, "", location.pathname);
}

async function open(get, name) {
  const mine = ++opening;
  say("");
  $("busy").textContent = `Opening ${name} …`;
  try {
    const found = await get();
    if (mine === opening) show(found);
  } catch (error) {
    if (mine === opening) failed(error);
  } finally {
    if (mine === opening) draw();
  }
}

function show(found) {
  images?.close();
  maps?.close();
  raster = found;
  const options = {changed: draw, failed: refused};
  images = new Tiles((...place) => `rasters/${found.key}/image/${place.join("/")}`, asBitmap, {...options, parallel: 3, kept: 300});
  newMaps();
  outline = {corners: [], closed: false};
  $("measured").replaceChildren();
  setDrawing(false);
  stage.classList.add("loaded");
  const ground = found.gsd ? `${short(found.gsd)} m per pixel, ${found.crs}` : "no place on Earth";
  $("facts").textContent = `${found.name}: ${count(found.width)} × ${count(found.height)} px, ${ground}`;
  for (const name of ["measure", "make"]) $(name).disabled = false;
  tellWork();
  fit();
  stage.focus({preventScroll: true});
}

// Whole maps are other tiles than those made where somebody looks: they are there from afar too.
function newMaps() {
  maps?.close();
  const made = raster.map.state === "done" ? "?whole" : "", key = raster.key;
  maps = new Tiles((...place) => `rasters/${key}/map/${place.join("/")}.png${made}`, asValues,
    {changed: draw, failed: refused, parallel: 2, kept: 500});
}

async function refused(answer) {
  if (!answer) { failed(new TypeError()); return; }
  const found = await answer.json().catch(() => ({}));
  say(found.message ?? `status ${answer.status}`);
}

// ---- work that goes on ----------------------------------------------------------------------------------------------

const active = work => ["waiting", "running"].includes(work.state);

function tellWork() {
  const {map, polygons, preview} = raster, bar = $("progress"), whole = map.state === "done";
  const running = active(map) ? map : active(polygons) ? polygons : null;
  $("make").hidden = active(map) || whole;
  $("stop").hidden = !active(map);
  bar.hidden = !running;
  if (running) running.total ? Object.assign(bar, {max: running.total, value: running.done}) : bar.removeAttribute("value");
  const said = map.state === "running" && map.total ? `${Math.floor(100 * map.done / map.total)} %, row ${count(map.done)} of ${count(map.total)}` : "";
  $("state").textContent = map.state === "failed" ? map.message : polygons.state === "failed" ? polygons.message
    : said || (map.state === "waiting" ? "Waits for another map" : active(map) ? "Begins" : active(polygons) ? "Making polygons …"
    : whole && raster.unlike >= 0.005 ? `${Math.round(100 * raster.unlike)} % of this raster is unlike anything the model has seen` : "");
  const files = whole ? [["map", "Map", "COG"], ["confidence", "Confidence", "COG"],
    ...(about.applicable ? [["applicability", "Unlike", "COG"]] : []), ["style", "Style", "QGIS"]] : [];
  const links = files.map(([kind, name, format]) => saved(kind, name, format));
  if (whole) links.push(polygons.state === "done" ? saved("polygons", "Polygons", "GeoPackage") : polygonButton(polygons));
  $("files").replaceChildren(...links.map(link => make("li", {}, link)));
  clearTimeout(polling);
  if ([map, polygons, preview].some(active)) polling = setTimeout(poll, POLL);
}

const saved = (kind, name, format) => make("a", {href: `rasters/${raster.key}/files/${kind}`, download: "", id: `save-${kind}`},
  `Save ${name.toLowerCase()}`, make("small", {textContent: format}));

function polygonButton(polygons) {
  const button = make("button", {type: "button", id: "make-polygons", disabled: active(polygons), textContent: "Make polygons"});
  button.onclick = () => act("polygons/make");
  return button;
}

async function poll() {
  const mine = raster;
  try {
    update(mine, await ask(`rasters/${mine.key}`));
  } catch (error) {
    if (mine === raster) { failed(error); polling = setTimeout(poll, 5 * POLL); }
  }
}

function update(before, found) {
  if (before !== raster) return;
  const arrived = found.map.state === "done" && before.map.state !== "done";
  raster = found;
  if (arrived) {
    newMaps();
    if (outline.closed) measure();
  }
  tellWork();
  draw();
}

async function act(what) {
  const mine = raster;
  say("");
  try { update(mine, await post(`rasters/${mine.key}/${what}`)); } catch (error) { failed(error); }
}

// ---- drawing --------------------------------------------------------------------------------------------------------

const size = () => ({width: stage.clientWidth, height: stage.clientHeight});
const toScreen = (x, y) => {
  const {width, height} = size();
  return [(x - view.x) * view.scale + width / 2, (y - view.y) * view.scale + height / 2];
};
const toRaster = (left, top) => {
  const {width, height} = size();
  return [(left - width / 2) / view.scale + view.x, (top - height / 2) / view.scale + view.y];
};
const levelOf = scale => Math.min(raster.levels - 1, Math.max(0, Math.round(Math.log2(1 / scale))));

let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; paintAll(); });
}

function paintAll() {
  if (!raster) { $("busy").textContent = ""; return; }
  const {width, height} = size(), ratio = window.devicePixelRatio || 1;
  const level = levelOf(view.scale * ratio), whole = raster.map.state === "done";
  const places = Tiles.within(raster, view, width, height, level);
  const mapped = whole || level <= raster.live_level ? places : [];
  const seen = Number($("opacity").value) > 0;
  const early = active(raster.preview) && level > raster.near;
  images.want(early ? [] : places.map(place => place.join("/")));
  maps.want(seen ? mapped.map(place => place.join("/")) : []);
  const rounded = (x, y) => toScreen(x, y).map(at => Math.round(at * ratio));
  paint(picture, width, height, ratio, context => {
    context.imageSmoothingEnabled = view.scale * ratio < 2;
    images.draw(context, raster, places, rounded, bitmap => bitmap, 0);
  });
  paint(overlay, width, height, ratio, context => {
    context.imageSmoothingEnabled = false;
    maps.draw(context, raster, places, rounded, coloured, version);
  });
  drawOutline();
  drawBar();
  const afar = seen && !mapped.length ? "Zoom in to see the map, or map the whole raster" : "";
  const {done, total} = raster.preview;
  const preview = early ? `Reading the raster for the look from afar: ${Math.floor(100 * done / (total || 1))} %` : "";
  $("busy").textContent = preview || (maps.pending ? `Mapping: ${maps.pending} tile${maps.pending > 1 ? "s" : ""} to go` : afar);
}

function paint(canvas, width, height, ratio, act) {
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, {width: wide, height: high});
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, wide, high);
  act(context);
}

// viridis at five places, and blue over white at the limit to red, linear between them
const RAMPS = [null, [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]],
  [[33, 102, 172], [247, 247, 247], [178, 24, 43]]];
function ramp(places, share) {
  const at = Math.min(share, 0.9999) * (places.length - 1), low = Math.floor(at), part = at - low;
  return places[low].map((value, band) => Math.round(value + part * (places[low + 1][band] - value)));
}

let colours = null;
function coloured(values) {
  colours ??= shown ? Array.from({length: NODATA}, (_, value) => ramp(RAMPS[shown], value / (shown === 1 ? about.full : 2 * about.limit)))
    : about.classes.map(item => item.colour);
  const canvas = new OffscreenCanvas(values.width, values.height), context = canvas.getContext("2d");
  const pixels = context.createImageData(values.width, values.height), into = pixels.data, from = values.data;
  for (let at = 0; at < from.length; at += 4) {
    if (from[at] === NODATA || hidden.has(from[at]) || from[at + shown] === NODATA) continue;
    const colour = colours[from[at + shown]];
    into[at] = colour[0]; into[at + 1] = colour[1]; into[at + 2] = colour[2]; into[at + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function repaint() {
  version++;
  colours = null;
  draw();
}

function choose(layer) {
  const button = $(`show-${LAYERS[layer]}`);
  if (button.disabled) return;
  button.checked = true;
  shown = layer;
  LAYERS.forEach((name, index) => document.body.classList.toggle(name, index === layer));
  const ends = [["", "", ""], ["0 %", "50 %", "100 %"], ["known", "limit", "unlike"]][layer];
  [...$("ends").children].forEach((end, index) => { end.textContent = ends[index]; });
  $("explained").textContent = ["", "How sure the network is of the class, calibrated.",
    "Red: nothing like it was in the training."][layer];
  repaint();
}

// ---- moving ---------------------------------------------------------------------------------------------------------

function fit() {
  const {width, height} = size();
  view = {x: raster.width / 2, y: raster.height / 2, scale: 0.95 * Math.min(width / raster.width, height / raster.height)};
  draw();
}

function move(right, down) {
  const within = (at, most) => Math.min(most, Math.max(0, at));
  view.x = within(view.x + right / view.scale, raster.width);
  view.y = within(view.y + down / view.scale, raster.height);
  draw();
}

function zoom(factor, left = size().width / 2, top = size().height / 2) {
  const {width, height} = size(), [x, y] = toRaster(left, top);
  const least = 0.5 * Math.min(1, Math.min(width / raster.width, height / raster.height));
  view.scale = Math.min(64, Math.max(least, view.scale * factor));
  view.x = x - (left - width / 2) / view.scale;
  view.y = y - (top - height / 2) / view.scale;
  move(0, 0);
}

function describe(left, top) {
  const [x, y] = toRaster(left, top);
  if (!raster || x < 0 || y < 0 || x >= raster.width || y >= raster.height) { $("here").textContent = ""; return; }
  const found = maps.at(raster, x, y), parts = [`column ${Math.floor(x)}, row ${Math.floor(y)}`];
  if (raster.transform) {
    const [a, b, c, d, e, f] = raster.transform, digits = raster.crs === "EPSG:4326" ? 6 : 1;
    parts.push(`${(a * x + b * y + c).toFixed(digits)}, ${(d * x + e * y + f).toFixed(digits)}`);
  }
  if (found && found[0] !== NODATA) {
    const unlike = found[2] === NODATA ? "" : `, ${found[2] > about.limit ? "unlike" : "known"} (${(found[2] / about.limit).toFixed(2)})`;
    parts.push(`${spoken(about.classes[found[0]].name)}, ${Math.round(100 * found[1] / about.full)} % sure${unlike}`);
  }
  $("here").textContent = parts.join("; ");
}

function drawBar() {
  const metre = raster.gsd, ideal = 120 / view.scale * (metre ?? 1), power = 10 ** Math.floor(Math.log10(ideal));
  const step = [5, 2, 1].find(one => one * power <= ideal) * power;
  $("bar").lastChild.style.width = `${step / (metre ?? 1) * view.scale}px`;
  $("bar").firstChild.textContent = !metre ? `${short(step)} px` : step >= 1000 ? `${count(step / 1000)} km` : `${short(step)} m`;
}

// ---- measuring ------------------------------------------------------------------------------------------------------

function setDrawing(on) {
  drawing = on;
  if (on && outline.closed) clear();
  stage.classList.toggle("drawing", on);
  $("measure").setAttribute("aria-pressed", String(on));
  $("hint").textContent = on ? "Click the corners and double click the last, or move with the arrows and press Enter; Enter twice ends it." : "";
  draw();
}

function clear() {
  outline = {corners: [], closed: false};
  $("measured").replaceChildren();
  $("clear").disabled = true;
  draw();
}

function corner(x, y) {
  const inside = [Math.min(raster.width, Math.max(0, x)), Math.min(raster.height, Math.max(0, y))];
  const near = other => Math.hypot(inside[0] - other[0], inside[1] - other[1]) * view.scale < 6;
  const {corners} = outline;
  if (corners.length && (near(corners.at(-1)) || near(corners[0]))) { if (corners.length > 2) close(); return; }
  corners.push(inside);
  $("clear").disabled = false;
  draw();
}

function close() {
  outline.closed = true;
  setDrawing(false);
  measure();
}

function drawOutline() {
  const places = outline.corners.map(([x, y]) => toScreen(x, y));
  const text = places.map(place => place.map(at => at.toFixed(1)).join(",")).join(" ");
  $("area").setAttribute("points", outline.closed ? text : "");
  $("line").setAttribute("points", outline.closed ? `${text} ${text.split(" ")[0]}` : text);
  $("corners").replaceChildren(...places.map(([x, y]) => {
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [key, value] of Object.entries({cx: x, cy: y, r: 4.5})) dot.setAttribute(key, value);
    return dot;
  }));
}

const areaText = metres => metres == null ? null : metres < 10000 ? `${short(metres, 4)} m²` : `${short(metres / 10000, 4)} ha`;

async function measure() {
  const mine = raster, drawn = outline;
  $("measured").textContent = "Measuring …";
  try {
    const found = await post(`rasters/${mine.key}/measure`, {corners: drawn.corners});
    if (drawn === outline) tellArea(found);
  } catch (error) {
    if (drawn !== outline) return;
    $("measured").replaceChildren();
    failed(error);
  }
}

function tellArea({pixels, square_metres: metres, classes}) {
  const pixelText = `${count(Math.round(pixels))} px`;
  const both = metres == null ? pixelText : metres < 10000 ? areaText(metres) : `${areaText(metres)} (${count(Math.round(metres))} m²)`;
  const parts = [make("strong", {textContent: both})];
  if (!classes) parts.push(make("p", {className: "note", textContent: "Map the whole raster for the classes of so large an area."}));
  else {
    const total = classes.reduce((sum, one) => sum + one, 0) || 1;
    const rows = classes.map((number, index) => [number, about.classes[index] ?? {name: "no data", colour: null}]);
    const cells = rows.filter(([number]) => number).sort((one, two) => two[0] - one[0]).map(([number, item]) => {
      const colour = make("span", {className: "colour"});
      colour.style.background = item.colour ? `rgb(${item.colour.join(",")})` : "none";
      const area = metres == null ? `${count(number)} px` : areaText(metres * number / total);
      const texts = [spoken(item.name), area, `${(100 * number / total).toFixed(1)} %`];
      return make("tr", {}, make("td", {}, colour), ...texts.map(text => make("td", {textContent: text})));
    });
    parts.push(make("table", {}, make("tbody", {}, ...cells)));
  }
  $("measured").replaceChildren(...parts);
}

// ---- mouse, touch, keyboard -----------------------------------------------------------------------------------------

const pointers = new Map();
let moved = 0;
const place = event => {
  const box = stage.getBoundingClientRect();
  return {left: event.clientX - box.left, top: event.clientY - box.top};
};

stage.addEventListener("pointerdown", event => {
  if (!raster || event.button || event.target.closest("#buttons")) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  if (pointers.size === 1) moved = 0;
});
stage.addEventListener("pointermove", event => {
  const now = place(event), before = pointers.get(event.pointerId);
  if (raster) describe(now.left, now.top);
  if (!before) return;
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  moved += Math.hypot(now.left - before.left, now.top - before.top);
  pointers.set(event.pointerId, now);
  if (other) {
    const apart = one => Math.hypot(one.left - other.left, one.top - other.top);
    move((before.left - now.left) / 2, (before.top - now.top) / 2);
    zoom(apart(now) / Math.max(1, apart(before)), (now.left + other.left) / 2, (now.top + other.top) / 2);
    moved = Infinity;
  } else if (moved > DRAG) move(before.left - now.left, before.top - now.top);
});
const lift = event => {
  const here = pointers.get(event.pointerId);
  pointers.delete(event.pointerId);
  if (!here || event.type !== "pointerup" || moved > DRAG || !drawing) return;
  corner(...toRaster(here.left, here.top));
};
stage.addEventListener("pointerup", lift);
stage.addEventListener("pointercancel", lift);
stage.addEventListener("pointerleave", () => { $("here").textContent = ""; });
stage.addEventListener("wheel", event => {
  if (!raster) return;
  event.preventDefault();
  const {left, top} = place(event), lines = event.deltaMode ? 30 : 1;
  zoom(Math.exp(-event.deltaY * lines / (event.ctrlKey ? 100 : 400)), left, top);
}, {passive: false});

const STEP = 80;
const KEYS = {
  ArrowLeft: () => move(-STEP, 0), ArrowRight: () => move(STEP, 0), ArrowUp: () => move(0, -STEP), ArrowDown: () => move(0, STEP),
  "+": () => zoom(Math.SQRT2), "=": () => zoom(Math.SQRT2), "-": () => zoom(Math.SQRT1_2), 0: fit,
  1: () => choose(0), 2: () => choose(1), 3: () => choose(2), m: () => setDrawing(!drawing),
  Enter: () => { if (drawing) corner(view.x, view.y); },
  Backspace: () => { if (drawing) { outline.corners.pop(); draw(); } },
  Escape: () => { if (drawing) { clear(); setDrawing(false); } },
};
stage.addEventListener("keydown", event => {
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!raster || !act || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("#buttons")) return;
  event.preventDefault();
  act();
  describe(size().width / 2, size().height / 2);
});

$("opening").onsubmit = event => { event.preventDefault(); openPath(); };
$("choose").onclick = () => $("file").click();
$("file").onchange = event => { if (event.target.files.length) upload(event.target.files[0]); event.target.value = ""; };
$("opacity").oninput = () => {
  overlay.style.opacity = $("opacity").value / 100;
  $("percent").textContent = `${$("opacity").value} %`;
  draw();
};
LAYERS.forEach((name, index) => { $(`show-${name}`).onchange = () => choose(index); });
$("closer").onclick = () => zoom(2);
$("farther").onclick = () => zoom(0.5);
$("fit").onclick = fit;
$("measure").onclick = () => { setDrawing(!drawing); stage.focus({preventScroll: true}); };
$("clear").onclick = clear;
$("make").onclick = () => act("map/make");
$("stop").onclick = () => act("map/stop");
new ResizeObserver(draw).observe(stage);

acceptDrop(stage, "raster", upload, say);

$("opacity").oninput();
choose(0);
start().catch(failed);
