"use strict";
// The page of `weakseg tag`. Nothing that people or files say is ever read as HTML: texts go through textContent.

const KEYS = "1234567890qwertyiopasdfhjklxcvb"; // of the classes, in order; u, z, g, m and n are commands
const AHEAD = 3;       // crops that are loaded before they are shown
const SURE = 0.5;      // from here on a guess marks its class
const PATIENCE = 700;  // ms that a crop waits for its guess; one that comes later is not shown at all
const IDLE = 60000;    // ms without a sign of life that still count as looking

const $ = id => document.getElementById(id);
const spoken = name => name.replaceAll("_", " ");
const fresh = () => crypto.randomUUID();
const sleep = ms => new Promise(done => setTimeout(done, ms));

let about = null;      // classes, model, where the crops are from
let who = "";
let mode = "crop";     // or "grid"
let asked = 0;         // the class of the grid
let queue = [];        // crops that are loaded
let current = null;    // {crops, states, guessed, id, clock, given}
let last = null;       // class of this crop that was touched last
let armed = false;     // the next class, or cell, is "not sure"
let nothingMarked = false;
let close = false;     // without surroundings
let busy = false;
let round = 0;         // rises with every change of mode or annotator: what was asked before is dropped

const page = sessionStorage.getItem("weakseg-page") || fresh();
sessionStorage.setItem("weakseg-page", page);

// ---- time that somebody looked -------------------------------------------------------------------------------------

/** Seconds in front of the page: pauses (hidden page, no sign of life for long) do not count. */
function makeClock(now, away) {
  let spent = 0, since = away() ? null : now();
  const touch = () => {
    const at = now();
    if (since !== null) spent += Math.min(at - since, IDLE);
    since = away() ? null : at;
  };
  return {touch, seconds: () => { touch(); return spent / 1000; }};
}
const away = () => document.hidden;
const startClock = () => makeClock(() => performance.now(), away);
for (const sign of ["visibilitychange", "pointermove", "pointerdown", "keydown", "scroll"])
  document.addEventListener(sign, () => { if (current) current.clock.touch(); }, {passive: true});

// ---- asking the server ---------------------------------------------------------------------------------------------

async function get(address) {
  const answer = await fetch(address);
  const value = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(value.message), {said: true});
  return value;
}

/** Post until the server has answered: a request with the same id twice is the same request. */
async function post(address, body) {
  for (let tries = 0; ; tries++) {
    try {
      const headers = {"Content-Type": "application/json"};
      const text = JSON.stringify({annotator: who, page, ...body});
      const answer = await fetch(address, {method: "POST", headers, body: text});
      const value = await answer.json();
      if (!answer.ok) throw Object.assign(new Error(value.message), {said: true});
      if (tries) say("");
      return value;
    } catch (error) {
      if (error.said) throw error;
      say("not kept yet: weakseg tag does not answer. Start it again in its terminal; this page then goes on by itself.", true);
      await sleep(1000);
    }
  }
}

function say(text, fault = false) {
  $("message").textContent = text;
  $("message").classList.toggle("fault", fault);
}

function progress(told) {
  const share = told.all ? 100 * told.done / told.all : 100;
  document.querySelector(".bar i").style.width = `${share}%`;
  const what = mode === "grid" ? ` for ${spoken(about.classes[asked].name)}` : "";
  document.querySelector("#progress span").textContent = `${told.mine} by you, ${told.done} of ${told.all} done${what}`;
}

// ---- crops ahead of their time -------------------------------------------------------------------------------------

const picture = crop => `picture?key=${encodeURIComponent(crop.key)}`;

async function refill() {
  const mine = round, want = mode === "grid" ? cellCount() : AHEAD;
  if (queue.length >= want) return;
  const held = [...queue, ...(current ? current.crops : [])].map(crop => crop.key);
  const told = await post("next", {count: want, held, name: mode === "grid" ? about.classes[asked].name : null});
  if (mine !== round) return;
  progress(told);
  for (const crop of told.crops) {
    if (queue.some(other => other.key === crop.key)) continue;
    load(crop);
    queue.push(crop);
  }
  guessAhead(told.crops);
}

function load(crop) {
  const image = new Image();
  image.src = picture(crop);
  crop.loaded = image.decode().then(() => true, () => false);
}

function guessAhead(crops) {
  if (!about.model || !crops.length) return;
  const asking = get(`guess?keys=${encodeURIComponent(crops.map(crop => crop.key).join("\t"))}`).catch(() => null);
  for (const crop of crops) crop.guess = asking.then(told => {
    if (told && told.fault) $("guess-note").textContent = `no guesses: ${told.fault}`;
    return told ? told.guesses[crop.key] : null;
  });
}

let filling = Promise.resolve();
function fill() {
  filling = filling.then(refill).catch(error => say(error.message, true));
  return filling;
}

const cellCount = () => {
  const width = $("stage").clientWidth, height = $("stage").clientHeight;
  const side = Math.max(innerWidth <= 820 ? 96 : 126, 0.15 * width + 8); // as tag.css has it
  return Math.min(60, Math.max(6, Math.floor((width - 34) / side) * Math.max(1, Math.floor((height - 34) / side))));
};

// ---- showing -------------------------------------------------------------------------------------------------------

async function showNext() {
  const mine = round;
  current = null;
  document.body.classList.remove("done");
  $("stage").classList.add("waiting");
  const want = mode === "grid" ? cellCount() : 1;
  if (queue.length < want) await fill();
  if (mine !== round) return;
  const crops = queue.splice(0, want);
  if (crops.length) await show(crops, mine);
  else nothingLeft();
  if (mine === round) fill();
}

function nothingLeft() {
  $("stage").classList.remove("waiting");
  document.body.classList.add("done");
  $("overview").classList.remove("there");
  $("nothing-said").textContent = "Other pages may still hold some crops. In the terminal, `weakseg tag --merge` writes the answers "
    + "into data/tags/tags.csv.";
  paint();
}

async function show(crops, mine, given = null) {
  const guesses = crops.map(crop => given ? null : Promise.race([crop.guess || null, sleep(PATIENCE).then(() => null)]));
  const [seen, found] = await Promise.all([Promise.all(crops.map(crop => crop.loaded)), Promise.all(guesses)]);
  if (mine !== round) return;
  last = null;
  armed = nothingMarked = false;
  current = {crops, states: [], guessed: [], guess: found.map(guess => guess || {}), id: fresh(), clock: startClock()};
  if (mode === "grid") startGrid(crops, given);
  else startCrop(crops[0], given);
  $("stage").classList.remove("waiting");
  paint();
  if (!seen.every(Boolean)) say("A picture could not be loaded: its reason is in the terminal of weakseg tag.", true);
}

/** The states before anybody has touched anything: what was said before, what the table knows, what the model guesses. */
function startCrop(crop, given) {
  about.classes.forEach(({name}, index) => {
    const guess = current.guess[0][name];
    const told = given ? given[0][name] : crop.known[name];
    if (!crop.asks.includes(name) && !(given && told !== undefined)) return; // undefined: nothing is said about it
    current.states[index] = told === undefined ? !given && guess >= SURE : told;
    current.guessed[index] = told === undefined && !given && guess !== undefined;
  });
  $("picture").src = picture(crop);
  $("picture").alt = `Crop of ${crop.area}`;
  place(crop);
  overview(crop);
  $("where").textContent = `${crop.area}, row ${crop.window[0]}, column ${crop.window[1]}, ${crop.window[2]} × ${crop.window[3]} px`;
}

/** The crop in its frame: with dimmed surroundings, or alone. */
function place(crop) {
  const [top, left, high, wide] = crop.frame, [row, column, height, width] = crop.window;
  $("stage").classList.toggle("close", close);
  if (close) {
    $("crop").style.setProperty("--ratio", width / height);
    box($("picture"), (left - column) / width, (top - row) / height, wide / width, high / height);
    return;
  }
  $("crop").style.setProperty("--ratio", wide / high);
  box($("picture"), 0, 0, 1, 1);
  box($("window"), (column - left) / wide, (row - top) / high, width / wide, height / high);
}

function zoom() {
  close = !close;
  if (current && mode === "crop") place(current.crops[0]);
}

function box(element, left, top, width, height) {
  for (const [side, share] of Object.entries({left, top, width, height})) element.style[side] = `${100 * share}%`;
}

function overview(crop) {
  const holder = $("overview"), image = holder.querySelector("img"), address = `overview?area=${encodeURIComponent(crop.area)}`;
  if (image.getAttribute("src") !== address) {
    holder.classList.remove("there");
    image.onload = () => holder.classList.add("there");
    image.src = address;
  } else if (image.complete) holder.classList.add("there");
  const [height, width] = crop.raster, [row, column, tall, broad] = crop.window, [top, left, high, wide] = crop.frame;
  holder.classList.toggle("left", left + wide - column - broad < column - left); // on a telephone: not over the crop
  holder.classList.toggle("low", row - top < top + high - row - tall);
  box(holder.querySelector("b"), column / width, row / height, broad / width, tall / height);
}

function startGrid(crops, given) {
  const name = about.classes[asked].name;
  $("overview").classList.remove("there");
  $("cells").replaceChildren(...crops.map((crop, index) => {
    const guess = current.guess[index][name], told = given ? given[index][name] : crop.known[name];
    current.states[index] = told === undefined ? !given && guess >= SURE : told;
    current.guessed[index] = told === undefined && !given && guess !== undefined;
    return cell(crop, index);
  }));
  $("cells").scrollTop = 0;
}

function cell(crop, index) {
  const button = document.createElement("button"), inside = document.createElement("span"), image = document.createElement("img");
  button.type = "button";
  button.className = "cell";
  button.setAttribute("role", "checkbox");
  button.setAttribute("aria-label", `${crop.area}, row ${crop.window[0]}, column ${crop.window[1]}`);
  button.dataset.key = crop.key;
  image.alt = "";
  image.src = picture(crop);
  const [top, left, high, wide] = crop.frame, [row, column, height, width] = crop.window, side = Math.max(height, width);
  const right = (side - width) / 2, down = (side - height) / 2; // a crop that is not square stands in the middle
  box(image, (left - column + right) / side, (top - row + down) / side, wide / side, high / side);
  inside.style.clipPath = `inset(${100 * down / side}% ${100 * right / side}%)`;
  inside.append(image);
  button.append(inside);
  button.onclick = () => touchCell(index);
  return button;
}

/** What is asked of the crop that is shown: all classes, or some that would tell most. */
function question() {
  const all = about.classes.map(item => item.name), asks = current ? current.crops[0].asks : all;
  if (asks.length === all.length) return "What is in the bright crop?";
  if (asks.length === 1) return `Is there ${spoken(asks[0])} in the bright crop?`;
  return `Which are in the bright crop: ${asks.map(spoken).join(", ")}?`;
}

const asksAll = () => current.crops[0].asks.length === about.classes.length;

function checked(state) { return state === null ? "mixed" : String(Boolean(state)); }

function paint() {
  const grid = mode === "grid", name = spoken(about.classes[asked].name);
  document.body.dataset.mode = mode;
  $("mode-crop").setAttribute("aria-checked", String(!grid));
  $("mode-grid").setAttribute("aria-checked", String(grid));
  $("unsure").setAttribute("aria-pressed", String(armed));
  $("task").textContent = grid ? `Mark every crop with ${name} in it` : question();
  [...$("classes").children].forEach((button, index) => {
    const state = grid ? index === asked : current ? current.states[index] : false;
    button.setAttribute("role", grid ? "radio" : "checkbox");
    button.setAttribute("aria-checked", checked(state));
    button.classList.toggle("guessed", !grid && Boolean(current && current.guessed[index]));
    button.classList.toggle("unasked", !grid && Boolean(current) && state === undefined);
    button.classList.toggle("last", !grid && index === last);
    const guess = !grid && current ? current.guess[0][about.classes[index].name] : undefined;
    button.querySelector(".share").textContent = guess === undefined ? "" : `guess ${Math.round(100 * guess)} %`;
  });
  if (grid && current) [...$("cells").children].forEach((button, index) => {
    button.setAttribute("aria-checked", checked(current.states[index]));
    button.classList.toggle("guessed", current.guessed[index]);
  });
  const guessing = current && current.guess.some(guess => Object.keys(guess).length);
  if (about.model && !$("guess-note").textContent.startsWith("no guesses"))
    $("guess-note").textContent = guessing ? `Dashed: a guess of ${about.model}. Mend it; space confirms what is marked.`
      : current ? `No guess of ${about.model} yet: it is being loaded, or slow.` : "";
}

// ---- what people do ------------------------------------------------------------------------------------------------

function touchClass(index) {
  if (busy || index >= about.classes.length) return;
  if (mode === "grid") { change("grid", index); return; }
  if (!current) return;
  const state = current.states[index];
  current.states[index] = armed ? null : state !== true;
  current.guessed[index] = false;
  last = index;
  armed = nothingMarked = false;
  say("");
  paint();
}

function touchCell(index) {
  if (busy || !current) return;
  current.states[index] = armed ? null : current.states[index] !== true;
  current.guessed[index] = false;
  armed = false;
  say("");
  paint();
}

/** "Not sure": of the class touched last, or of the one that is touched next; a second time of all classes. */
function notSure() {
  if (busy || !current) return;
  const focused = mode === "grid" ? [...$("cells").children].indexOf(document.activeElement) : last;
  if (focused !== null && focused >= 0) {
    current.states[focused] = null;
    current.guessed[focused] = false;
    last = null;
  } else if (armed && mode === "crop") {
    current.states = current.states.map(state => state === undefined ? undefined : null);
    current.guessed.fill(false);
    armed = false;
    say("Not sure about the whole crop: space keeps that.");
  } else {
    armed = !armed;
    say(!armed ? "" : mode === "grid" ? "Not sure: of which crop? Click it." : "Not sure: of which class? Press it, or u again for the whole crop.");
  }
  nothingMarked = false;
  paint();
}

function sorted(states, names) {
  const of = wanted => names.filter((_, index) => states[index] === wanted);
  return {present: of(true), absent: of(false), unsure: of(null)};
}

async function next() {
  if (busy || !current) return;
  if (mode === "crop" && !nothingMarked && asksAll() && current.states.every(state => state === false)) {
    nothingMarked = true;
    say("Nothing is marked. Space again if none of the classes is in it; u u if you cannot tell.");
    return;
  }
  busy = true;
  const seconds = current.clock.seconds() / current.crops.length;
  const answers = current.crops.map((crop, index) => ({
    id: `${current.id}-${index}`, area: crop.area, window: crop.window, seconds, guess: current.guess[index],
    ...(mode === "grid" ? sorted([current.states[index]], [about.classes[asked].name])
      : sorted(current.states, about.classes.map(item => item.name))),
  }));
  try {
    progress(await post("answers", {answers, mode, batch: mode === "grid" ? current.id : ""}));
    say("");
    await showNext();
  } catch (error) {
    say(error.message, true);
  }
  busy = false;
}

async function undo() {
  if (busy) return;
  busy = true;
  try {
    const told = await post("undo", {id: fresh()});
    if (!told.crops.length) {
      say("There is nothing to take back.");
    } else {
      await showAgain(told);
      say("Taken back: mend it, then space.");
    }
  } catch (error) {
    say(error.message, true);
  }
  busy = false;
}

/** Crops that were answered before, with what was said; what was on the page comes after them. */
async function showAgain(told) {
  const index = told.name === null ? asked : about.classes.findIndex(item => item.name === told.name);
  if (told.mode !== mode || index !== asked) {
    queue = [];
    round++;
    [mode, asked] = [told.mode, index];
  } else if (current) {
    queue.unshift(...current.crops);
  }
  const keys = new Set(told.crops.map(crop => crop.key));
  queue = queue.filter(crop => !keys.has(crop.key));
  document.body.classList.remove("done");
  progress(told);
  told.crops.forEach(load);
  await show(told.crops, round, told.crops.map(crop => crop.answer));
}

async function change(newMode, index) {
  if (busy || (newMode === mode && (newMode === "crop" || index === asked))) return;
  busy = true;
  round++;
  [mode, asked, queue, current] = [newMode, index, [], null];
  say("");
  paint();
  try {
    await post("release", {});
    await showNext();
  } catch (error) {
    say(error.message, true);
  }
  busy = false;
}

function moveFocus(key) {
  const cells = [...$("cells").children], at = cells.indexOf(document.activeElement);
  const columns = getComputedStyle($("cells")).gridTemplateColumns.split(" ").length;
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns}[key];
  const to = at < 0 ? 0 : at + step;
  if (cells[to]) cells[to].focus();
}

function showHelp(open) {
  $("help").hidden = !open;
  $("help-button").setAttribute("aria-expanded", String(open));
  if (open) $("help-close").focus();
}

document.addEventListener("keydown", event => {
  if (!$("door").hidden) { if (event.key === "Enter") enter(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  if (event.key === "Escape") { showHelp(false); return; }
  const digit = /^(Digit|Numpad)(\d)$/.exec(event.code);  // whatever the layout: French keyboards have digits on shift
  const key = digit ? digit[2] : event.key.toLowerCase();
  if (key.startsWith("arrow") && mode === "grid") moveFocus(event.key);
  else if (event.repeat) { if (key === " ") event.preventDefault(); return; } // a key held down confirms nothing unseen
  else if (key === " ") next();
  else if (key === "z") undo();
  else if (key === "u") notSure();
  else if (key === "g") change(mode === "grid" ? "crop" : "grid", asked);
  else if (key === "m") zoom();
  else if (key === "?") showHelp($("help").hidden);
  else if (key.length === 1 && KEYS.includes(key)) touchClass(KEYS.indexOf(key));
  else return;
  event.preventDefault();
});

document.addEventListener("keyup", event => { // some browsers click a button when space comes up
  if (event.key === " " && event.target.tagName !== "INPUT") event.preventDefault();
});

// ---- start ---------------------------------------------------------------------------------------------------------

function classButton(item, index) {
  const button = document.createElement("button");
  const part = (tag, kind, text) => {
    const element = document.createElement(tag);
    element.className = kind;
    element.textContent = text;
    button.append(element);
    return element;
  };
  button.type = "button";
  button.className = "class";
  button.dataset.name = item.name;
  part("kbd", "", KEYS[index]);
  part("span", "colour", "").style.background = `rgb(${item.colour.join(",")})`;
  part("span", "name", spoken(item.name));
  part("span", "share", "");
  part("span", "mark", "").setAttribute("aria-hidden", "true");
  button.onclick = () => { touchClass(index); button.blur(); };
  return button;
}

function listKeys() {
  const shown = KEYS.slice(0, about.classes.length);
  const rows = [[shown.length > 9 ? "1-9, letters" : `1-${shown.length}`, "class is in it; again: it is not"], ["space", "keep the answer, next crop"],
    ["z", "take the last answer back"], ["u", "not sure: of the class pressed last, or pressed next; twice: of all"],
    ["g", "grid for one class, and back"], ["arrows, enter", "in the grid: choose and mark a crop"],
    ["m", "without surroundings, and back"], ["?", "these keys"]];
  for (const [key, what] of rows) {
    const term = document.createElement("dt"), means = document.createElement("dd"), cap = document.createElement("kbd");
    cap.textContent = key;
    term.append(cap);
    means.textContent = what;
    $("keys").append(term, means);
  }
}

function openDoor() {
  $("door").hidden = false;
  $("door-said").textContent = about.said;
  $("name").value = who || about.suggested;
  $("name").focus();
}

async function enter() {
  const name = $("name").value.trim();
  if (!name) return;
  $("door").hidden = true;
  $("name").blur();
  const before = who;
  if (before && before !== name && current) await post("release", {}).catch(() => null);
  who = name;
  localStorage.setItem("weakseg-annotator", who);
  $("who").textContent = who;
  if (before === who && current) return;
  round++;
  [queue, current] = [[], null];
  try {
    await showNext();
    document.body.dataset.ready = "yes";
  } catch (error) {
    say(error.message, true);
  }
}

async function start() {
  about = await get("about");
  who = localStorage.getItem("weakseg-annotator") || "";
  $("classes").append(...about.classes.map(classButton));
  $("classes").classList.toggle("many", about.classes.length > 7);
  listKeys();
  paint();
  openDoor();
}

$("mode-crop").onclick = event => { event.currentTarget.blur(); change("crop", asked); };
$("mode-grid").onclick = event => { event.currentTarget.blur(); change("grid", asked); };
$("next").onclick = event => { event.currentTarget.blur(); next(); };
$("undo").onclick = event => { event.currentTarget.blur(); undo(); };
$("unsure").onclick = event => { event.currentTarget.blur(); notSure(); };
$("crop").onclick = zoom;
$("who").onclick = openDoor;
$("enter").onclick = enter;
$("help-button").onclick = () => showHelp($("help").hidden);
$("help-close").onclick = () => showHelp(false);
window.addEventListener("pagehide", () => {
  if (!who) return;
  navigator.sendBeacon("release", new Blob([JSON.stringify({annotator: who, page})], {type: "application/json"}));
});

start();
