// The page of bmp serve: a queue of photos, and a canvas on which people are put right.
//
// `people` are rows as in people.json by their names (`person`); each edit replaces rows, never changes them, so that
// undo is to put the earlier ones back. `base` is what the server has. What differs is sent at once, and is in the
// browser's storage until the server has confirmed it: for each tab by itself, so that tabs do not overwrite each other.
import { maskOf } from "./masks.js";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), context = canvas.getContext("2d");
const show = { masks: true, boxes: true, skeletons: true, parts: false };
let model = { photos: [], keypoints: [], skeleton: [], takes_points: true, limits: {} };
let doc = null, picture = null, people = new Map(), base = new Map(), revision = 0;
let selected = [], keypoint = null, mode = "select", placing = null;
let past = [], future = [], conflicts = new Map();
let view = { scale: 1, x: 0, y: 0 }, whole = true;
let rounds = null, stage = null, opening = 0;
const tab = unique(), masks = new WeakMap(), moved = new Map();
const pointers = new Map();
let drag = null;

// --- requests

class Refused extends Error {
  constructor(status, answer) { super(answer.error ?? `error ${status}`); this.status = status; this.answer = answer; }
}

async function ask(path, method = "GET", body = undefined, options = {}) {
  const json = body !== undefined && !(body instanceof FormData);
  for (let attempt = 0; ; attempt++) {
    const response = await fetch(path, {
      method, body: json ? JSON.stringify(body) : body, headers: json ? { "content-type": "application/json" } : {}, ...options,
    });
    if (response.ok) return response.json();
    if (response.status === 429 && attempt < 5) {
      const wait = Number(response.headers.get("retry-after") ?? 1);
      say(`the server is busy, trying again in ${wait} s`);
      await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
      continue;
    }
    throw new Refused(response.status, await response.json().catch(() => ({})));
  }
}

// Browsers have it at this machine and over TLS only.
function unique() { return crypto.randomUUID?.() ?? `${Date.now()}-${Math.floor(1e9 * Math.random())}`; }
const place = (rest = "") => `bmp:${model.file}:${doc.key}:${rest}`;
const api = (rest = "") => `/api/photos/${doc.key}${rest}`;
function say(text) { $("said").textContent = text; }
function saved(text) { $("saved").textContent = text; }

// --- the queue

async function loadQueue() {
  const fresh = await ask("/api/queue");
  const first = !model.keypoints.length;
  model = fresh;
  $("note").hidden = model.takes_points;
  $("note").textContent = `The segmenter of this preset (${model.preset}) takes no points: masks follow keypoints and boxes.`;
  for (const name of ["positive", "negative"]) document.querySelector(`[data-mode=${name}]`).disabled = !model.takes_points;
  const waiting = model.photos.filter((photo) => photo.state === "waiting").length;
  $("measure").textContent = `${model.photos.length} photo${model.photos.length === 1 ? "" : "s"}, the least sure first` + (waiting ? `; people are being found in ${waiting}` : "");
  $("photos").replaceChildren(...model.photos.map((photo) => {
    const item = document.createElement("li"), button = document.createElement("button"), small = document.createElement("small");
    button.textContent = photo.name;
    small.textContent = photo.state === "found"
      ? `${photo.people} people${photo.edited ? `, ${photo.edited} edited` : ""}${photo.sure === null ? "" : `, sure ${photo.sure.toFixed(2)}`}${photo.reviewed ? ", done" : ""}`
      : photo.reason ?? "waiting";
    button.append(small);
    button.onclick = () => open(photo.key);
    item.setAttribute("aria-current", String(doc?.key === photo.key));
    item.append(button);
    return item;
  }));
  const named = location.hash.slice(1), known = model.photos.some((photo) => photo.key === named);
  if (first && !doc && model.photos.length) open(known ? named : model.photos[0].key);
  if (waiting) setTimeout(() => loadQueue().catch(() => {}), 3000);
}

async function open(key) {
  await flush();
  const number = ++opening;
  say("finding people ...");
  let fresh, bitmap;
  try {
    fresh = await ask(`/api/photos/${key}/find`, "POST");
    const response = await fetch(`/api/photos/${key}/picture`);
    if (!response.ok) throw new Refused(response.status, await response.json());
    bitmap = await createImageBitmap(await response.blob());
  } catch (error) {
    if (number === opening) say(error.message);
    return;
  }
  if (number !== opening) return;
  doc = fresh; picture = bitmap;
  past = []; future = []; selected = []; keypoint = null; rounds = null; stage = null; conflicts.clear(); moved.clear();
  $("round").hidden = true;
  location.hash = key;
  $("name").textContent = doc.name;
  accept(doc, true);
  say(doc.state === "found" ? doc.notices.join("; ") : doc.notices[0] ?? "");
  saved("saved");
  fit();
  restore();
  refresh();
  loadQueue().catch(() => {});
}

// What tabs that were closed had not sent yet, the newest last.
function restore() {
  const kept = [];
  try {
    for (const name of Object.keys(localStorage)) if (name.startsWith(place())) kept.push([name, JSON.parse(localStorage.getItem(name))]);
  } catch { /* none can be read: there are none */ }
  if (!kept.length || doc.state !== "found") return;
  kept.sort(([, one], [, other]) => one.time - other.time);
  for (const [, { changes }] of kept) for (const [name, person] of Object.entries(changes)) person ? people.set(name, person) : people.delete(name);
  revision = Math.min(...kept.map(([, each]) => each.revision));
  stash();
  for (const [name] of kept) if (name !== place(tab)) localStorage.removeItem(name);
  say("edits of an earlier visit were restored");
  save();
}

function accept(fresh, everybody) {
  revision = fresh.revision;
  const now = new Map(fresh.people.map((person) => [person.person, person]));
  if (everybody) people = new Map(now);
  base = new Map([...now].map(([name, person]) => [name, JSON.stringify(person)]));
}

function neighbour(step) {
  const place = model.photos.findIndex((photo) => photo.key === doc?.key);
  const next = model.photos[place + step];
  if (next) open(next.key);
}

// --- edits

function edit(changes, kind, amend = false) {
  const before = {};
  for (const name of Object.keys(changes)) before[name] = people.get(name) ?? null;
  if (amend && past.length && Object.keys(changes).every((name) => name in past.at(-1).after)) Object.assign(past.at(-1).after, changes);
  else { past.push({ before, after: { ...changes }, kind }); future = []; }
  put(changes);
}

function put(changes) {
  for (const [name, person] of Object.entries(changes)) person ? people.set(name, person) : people.delete(name);
  selected = selected.filter((name) => people.has(name));
  stash();
  refresh();
}

function step(from, to, which) {
  const entry = from.pop();
  if (!entry) return;
  to.push(entry);
  // A mask that is on its way belongs to what is being taken back.
  for (const name of Object.keys(entry.after)) questions.set(name, (questions.get(name) ?? 0) + 1);
  put(entry[which]);
  say(`${which === "before" ? "undone" : "done again"}: ${entry.kind}`);
  save();
}

const marked = (person, kind) => ({ ...person, edited: [...new Set([...(person.edited ?? []), kind])].sort() });

// v: 0 absent, 1 hidden, 2 visible; null leaves it, and makes an absent one visible.
function withKeypoint(person, number, x, y, v = null) {
  const clone = marked(person, "keypoints");
  const flag = v ?? (person.keypoints[3 * number + 2] || 2);
  const put = (name, place, ...values) => { clone[name] = [...person[name]]; clone[name].splice(place, values.length, ...values); };
  put("keypoints", 3 * number, clamp(x, picture.width - 1), clamp(y, picture.height - 1), flag);
  put("keypoint_scores", number, flag ? 1 : 0);
  put("keypoint_visibility", number, flag === 2 ? 1 : 0);
  put("keypoint_presence", number, flag ? 1 : 0);
  clone.num_keypoints = clone.keypoints.filter((value, place) => place % 3 === 2 && value > 0).length;
  return clone;
}

const clamp = (value, most) => Math.round(100 * Math.min(Math.max(value, 0), most)) / 100;
const others = (...names) => [...people.values()].filter((person) => !names.includes(person.person)).map(bare);
const bare = ({ keypoints, keypoint_scores, keypoint_visibility, keypoint_presence }) => ({ keypoints, keypoint_scores, keypoint_visibility, keypoint_presence });

function editKeypoint(name, number, x, y, v, kind) {
  if (!moved.has(name)) moved.set(name, new Set());
  moved.get(name).add(number);
  edit({ [name]: withKeypoint(people.get(name), number, x, y, v) }, kind);
  askMask(name);
}

// Only the newest question about a person counts; the answer belongs to the edit that asked. While one is under way,
// as when an arrow key is held down, the next waits for it, and those between are never asked.
const questions = new Map(), underway = new Map();
async function askMask(name) {
  const number = (questions.get(name) ?? 0) + 1, key = doc.key, started = performance.now();
  questions.set(name, number);
  try {
    while (underway.has(name)) await underway.get(name);
    if (doc.key !== key || questions.get(name) !== number || !people.has(name)) return;
    const { parts, ...person } = people.get(name);
    const question = ask(api("/mask"), "POST", { person, others: others(name), moved: [...(moved.get(name) ?? [])] });
    underway.set(name, question.catch(() => {}).finally(() => underway.delete(name)));
    const answer = await question;
    if (doc.key !== key || questions.get(name) !== number || !people.has(name)) return;
    edit({ [name]: { ...marked(people.get(name), "mask"), ...answer } }, "mask", true);
    onceDrawn.push(() => {
      canvas.dataset.milliseconds = (performance.now() - started).toFixed(1);
      canvas.dataset.masks = String(Number(canvas.dataset.masks ?? 0) + 1);
      say(`mask after ${Math.round(performance.now() - started)} ms`);
    });
  } catch (error) {
    say(`no new mask: ${error.message}`);
  }
  save();
}

async function addPerson(box) {
  const key = doc.key;
  say("looking at the box ...");
  try {
    const row = await ask(api("/add"), "POST", { box, others: others() });
    if (doc.key !== key) return;
    const name = unique();
    edit({ [name]: { ...row, person: name } }, "added person");
    select([name]);
    say("added");
    save();
  } catch (error) { say(error.message); }
}

async function merge() {
  if (selected.length === 1) { mode = "merge"; say("click the other person"); refresh(); return; }
  if (selected.length !== 2) { say("select a person to merge with another"); return; }
  const [first, second] = selected, key = doc.key;
  try {
    const row = await ask(api("/merge"), "POST", { people: [people.get(first), people.get(second)] });
    if (doc.key !== key) return;
    edit({ [first]: { ...people.get(first), ...row, person: first, edited: [...new Set([...(people.get(first).edited ?? []), "merged"])].sort() }, [second]: null }, "merged");
    select([first]);
    save();
  } catch (error) { say(error.message); }
}

function toggle() {
  if (selected.length !== 1 || keypoint === null) return;
  const [x, y, v] = people.get(selected[0]).keypoints.slice(3 * keypoint);
  editKeypoint(selected[0], keypoint, x, y, v === 2 ? 1 : 2, "visibility");
}

function remove() {
  if (selected.length === 1 && keypoint !== null) {
    const [x, y] = people.get(selected[0]).keypoints.slice(3 * keypoint);
    editKeypoint(selected[0], keypoint, x, y, 0, "removed keypoint");
    keypoint = null;
  } else if (selected.length) {
    edit(Object.fromEntries(selected.map((name) => [name, null])), "deleted person");
    save();
  }
  refresh();
}

// --- saving

function changes() {
  const different = {};
  for (const [name, person] of people) if (JSON.stringify(person) !== base.get(name)) different[name] = person;
  for (const name of base.keys()) if (!people.has(name)) different[name] = null;
  for (const name of conflicts.keys()) delete different[name];
  return different;
}

function stash() {
  if (!doc || doc.state !== "found") return;
  const different = changes();
  for (const name of conflicts.keys()) different[name] = people.get(name) ?? null;
  const some = Object.keys(different).length > 0;
  if (some) saved("saving ...");
  try {
    some ? localStorage.setItem(place(tab), JSON.stringify({ revision, time: Date.now(), changes: different })) : localStorage.removeItem(place(tab));
  } catch { /* full, or forbidden: edits are sent all the same */ }
}

let saving = Promise.resolve();
const save = (reviewed = null) => (saving = saving.then(() => send(reviewed)));
const flush = () => (doc ? saving : Promise.resolve());

async function send(reviewed) {
  const key = doc?.key, sent = changes();
  if (!key || doc.state !== "found" || (!Object.keys(sent).length && reviewed === null)) return;
  try {
    const fresh = await ask(`/api/photos/${key}`, "PUT", { revision, changes: Object.fromEntries(Object.entries(sent).map(([name, person]) => [name, person && { ...person, edited: person.edited ?? [] }])), reviewed }, { keepalive: JSON.stringify(sent).length < 60000 });
    if (doc.key !== key) return;
    merged(fresh, sent, []);
  } catch (error) {
    if (doc.key !== key) return;
    if (error.status === 409) { merged(error.answer.document, {}, error.answer.people); await send(reviewed); return; }
    saved(`not saved: ${error.message}`);
    if (!(error instanceof Refused)) setTimeout(() => save(reviewed), 3000);
  }
}

// Takes from the server whom this tab has not changed; keeps whom it has; asks about people that both have.
function merged(fresh, sent, disputed) {
  const mine = { ...changes() };
  for (const person of fresh.people) {
    const own = people.get(person.person)?.segmentation;
    if (own && own.counts === person.segmentation?.counts) person.segmentation = own;
  }
  const theirs = new Map(fresh.people.map((person) => [person.person, person]));
  for (const name of new Set([...people.keys(), ...theirs.keys()])) {
    if (name in sent && JSON.stringify(people.get(name) ?? null) === JSON.stringify(sent[name])) delete mine[name];
    if (conflicts.has(name)) { conflicts.set(name, theirs.get(name) ?? null); continue; }
    if (disputed.includes(name)) { conflicts.set(name, theirs.get(name) ?? null); continue; }
    if (name in mine) continue;
    theirs.has(name) ? people.set(name, theirs.get(name)) : people.delete(name);
  }
  accept(fresh, false);
  selected = selected.filter((name) => people.has(name));
  stash();
  refresh();
  if (!Object.keys(changes()).length) saved(conflicts.size ? "waiting for your choice" : `saved, revision ${revision}`);
}

function settle(name, keep) {
  const theirs = conflicts.get(name);
  conflicts.delete(name);
  if (!keep) theirs ? people.set(name, theirs) : people.delete(name);
  stash();
  refresh();
  save();
}

// --- drawing

const colour = (name) => {
  let hash = 7;
  for (const letter of name) hash = (hash * 131 + letter.charCodeAt(0)) >>> 0;
  const number = /^\d+$/.test(name) ? Number(name) : hash;
  const hue = (number * 137.508) % 360, f = (n) => { const k = (n + hue / 30) % 12; return Math.round(255 * (0.6 - 0.38 * Math.max(-1, Math.min(k - 3, 9 - k, 1)))); };
  return [f(0), f(8), f(4)];
};
const css = (rgb) => `rgb(${rgb.join(" ")})`;

// Drawn once for each segmentation: rows are copied with every move of a keypoint, their masks are not.
function maskFor({ segmentation }, name) {
  if (!segmentation) return null;
  const known = masks.get(segmentation);
  if (known?.name === name) return known.mask;
  const mask = maskOf(segmentation, colour(name));
  masks.set(segmentation, { name, mask });
  return mask;
}

const shown = () => {
  if (!rounds || !stage) return [...people.entries()];
  return stage.people.map((person, number) => [String(number), person]);
};

// The lists beside the photo come after it: the mask is what somebody waits for.
let asked = false, listing = false;
const onceDrawn = [];
function refresh() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
    for (const task of onceDrawn.splice(0)) task();
    if (listing) return;
    listing = true;
    setTimeout(() => { listing = false; list(); });
  });
}

function draw() {
  const rect = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(rect.width * ratio) || canvas.height !== Math.round(rect.height * ratio)) {
    canvas.width = Math.round(rect.width * ratio); canvas.height = Math.round(rect.height * ratio);
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!picture) return;
  context.setTransform(view.scale, 0, 0, view.scale, view.x, view.y);
  context.imageSmoothingEnabled = view.scale < 4;
  context.drawImage(picture, 0, 0);
  for (const person of stage?.black ?? []) {
    const mask = maskOf(person.segmentation, [0, 0, 0]);
    for (let times = 0; mask && times < 4; times++) context.drawImage(mask.canvas, mask.x, mask.y);
  }
  const pixel = ratio / view.scale;
  const rows = shown();
  // Who was edited last lies on top, as in people.json.
  const order = [...rows].sort(([, one], [, other]) => (one.edited?.length ? one.revision ?? 1e9 : 0) - (other.edited?.length ? other.revision ?? 1e9 : 0));
  for (const [name, person] of order) {
    if (show.parts && person.parts) for (const part of person.parts) { const mask = maskFor(part, String(part.id)); if (mask) context.drawImage(mask.canvas, mask.x, mask.y); }
    else if (show.masks) { const mask = maskFor(person, name); if (mask) context.drawImage(mask.canvas, mask.x, mask.y); }
  }
  for (const [name, person] of rows) {
    const chosen = !stage && selected.includes(name);
    context.strokeStyle = context.fillStyle = css(colour(name));
    context.setLineDash(person.kept === false ? [4 * pixel, 4 * pixel] : []);
    context.lineWidth = (chosen ? 2.5 : 1.2) * pixel;
    if (show.boxes) {
      context.strokeRect(...person.bbox);
      if (chosen) for (const [x, y] of corners(person)) context.fillRect(x - 4 * pixel, y - 4 * pixel, 8 * pixel, 8 * pixel);
    }
    if (show.skeletons) skeleton(person, chosen, pixel);
    for (const [x, y, label] of person.points ?? []) cross(x, y, label, pixel);
  }
  context.setLineDash([]);
  if (drag?.kind === "new") { context.strokeStyle = "#fff"; context.lineWidth = 2 * pixel; context.strokeRect(...rectangle(drag.from, drag.to)); }
}

function skeleton(person, chosen, pixel) {
  const points = person.keypoints ?? [];
  context.lineWidth = (chosen ? 2.5 : 1.5) * pixel;
  for (const [from, to] of model.skeleton) {
    if (!points[3 * from + 2] || !points[3 * to + 2]) continue;
    context.beginPath(); context.moveTo(points[3 * from], points[3 * from + 1]); context.lineTo(points[3 * to], points[3 * to + 1]); context.stroke();
  }
  for (let number = 0; number < points.length / 3; number++) {
    const [x, y, v] = points.slice(3 * number, 3 * number + 3);
    if (!v) continue;
    context.beginPath(); context.arc(x, y, (chosen ? 5 : 2.5) * pixel, 0, 7);
    v === 2 ? context.fill() : context.stroke();
    if (chosen) { context.save(); context.strokeStyle = number === keypoint ? "#fff" : "#000"; context.lineWidth = (number === keypoint ? 2.5 : 1) * pixel; context.stroke(); context.restore(); }
  }
}

function cross(x, y, label, pixel) {
  context.save();
  context.setLineDash([]); context.lineWidth = 2.5 * pixel; context.strokeStyle = label ? "#3f6" : "#f44";
  context.beginPath(); context.moveTo(x - 6 * pixel, y); context.lineTo(x + 6 * pixel, y);
  if (label) { context.moveTo(x, y - 6 * pixel); context.lineTo(x, y + 6 * pixel); }
  context.stroke(); context.restore();
}

const corners = ({ bbox: [x, y, w, h] }) => [[x, y], [x + w, y], [x + w, y + h], [x, y + h]];
const rectangle = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.abs(a - c), Math.abs(b - d)];

function list() {
  $("people").replaceChildren(...[...people].map(([name, person], number) => {
    const item = document.createElement("li"), button = document.createElement("button"), swatch = document.createElement("span"), small = document.createElement("small");
    swatch.className = "swatch"; swatch.style.background = css(colour(name));
    small.textContent = [`score ${Number(person.score ?? 1).toFixed(2)}`, person.agreement === undefined ? "" : `agreement ${person.agreement.toFixed(2)}`, person.edited?.length ? `edited: ${person.edited.join(", ")}` : ""].filter(Boolean).join("; ");
    button.append(swatch, `person ${number + 1}`, small);
    button.onclick = (event) => choose(name, event.shiftKey);
    item.setAttribute("aria-current", String(selected.includes(name)));
    item.append(button);
    return item;
  }));
  const person = selected.length === 1 ? people.get(selected[0]) : null;
  $("keypoints").replaceChildren(...(person ? model.keypoints : []).map((name, number) => {
    const item = document.createElement("li"), button = document.createElement("button"), v = person.keypoints[3 * number + 2];
    button.textContent = `${name}: ${["absent, click to place", "hidden", "visible"][v]}`;
    button.className = v ? "" : "absent";
    button.onclick = () => {
      if (v && keypoint === number) { toggle(); return; }
      keypoint = number;
      if (!v) { placing = number; say(`click where the ${name} is`); }
      refresh();
    };
    item.setAttribute("aria-current", String(number === keypoint));
    item.append(button);
    return item;
  }));
  $("parts").replaceChildren(...((show.parts && person?.parts) || []).map((part) => {
    const item = document.createElement("li"), swatch = document.createElement("span");
    swatch.className = "swatch"; swatch.style.background = css(colour(String(part.id)));
    item.append(swatch, part.name);
    return item;
  }));
  $("conflicts").replaceChildren(...[...conflicts.keys()].map((name) => {
    const line = document.createElement("div"), mine = document.createElement("button"), theirs = document.createElement("button");
    line.append(`Person ${[...people.keys()].indexOf(name) + 1 || name} was changed elsewhere, too. `, mine, " ", theirs);
    mine.textContent = "Keep mine"; theirs.textContent = "Take theirs";
    mine.onclick = () => settle(name, true); theirs.onclick = () => settle(name, false);
    return line;
  }));
  $("undo").disabled = !past.length; $("redo").disabled = !future.length;
  $("delete").disabled = !selected.length; $("merge").disabled = !selected.length;
  for (const button of document.querySelectorAll("[data-mode]")) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
}

// Of those who are to be merged, this is the second one.
function choose(name, further) {
  const second = mode === "merge" && name && !selected.includes(name);
  if (mode === "merge") mode = "select";
  select(!name ? [] : second || further ? [...selected, name] : [name]);
  if (second) merge();
}

function select(names) { selected = [...new Set(names)].slice(-2); keypoint = placing = null; refresh(); }
function setMode(name) { if (document.querySelector(`[data-mode=${name}]`).disabled) return; mode = name; placing = null; if (name !== "select" && name !== "box" && selected.length !== 1) say("select a person first"); refresh(); }

// --- zoom

function fit() {
  const rect = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
  view.scale = Math.min(rect.width * ratio / picture.width, rect.height * ratio / picture.height) * 0.98;
  view.x = (rect.width * ratio - picture.width * view.scale) / 2;
  view.y = (rect.height * ratio - picture.height * view.scale) / 2;
  whole = true;
  refresh();
}

function zoom(factor, at) {
  const next = Math.min(Math.max(view.scale * factor, 0.02), 40);
  view.x = at[0] - (at[0] - view.x) * next / view.scale;
  view.y = at[1] - (at[1] - view.y) * next / view.scale;
  view.scale = next;
  whole = false;
  refresh();
}

// Right under CSS zoom and transforms, too.
function onCanvas(event) {
  const rect = canvas.getBoundingClientRect();
  return [(event.clientX - rect.left) * canvas.width / rect.width, (event.clientY - rect.top) * canvas.height / rect.height];
}
const inPicture = ([x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];

// --- pointers

function hit([x, y], reach) {
  let best = null;
  for (const [name, person] of people) {
    for (let number = 0; number < person.keypoints.length / 3; number++) {
      if (!person.keypoints[3 * number + 2] || !show.skeletons) continue;
      const distance = Math.hypot(person.keypoints[3 * number] - x, person.keypoints[3 * number + 1] - y) - (selected.includes(name) ? reach / 2 : 0);
      if (distance < reach && (!best || distance < best.distance)) best = { kind: "keypoint", name, number, distance };
    }
  }
  if (best) return best;
  if (selected.length === 1 && show.boxes) {
    const place = corners(people.get(selected[0])).findIndex(([a, b]) => Math.hypot(a - x, b - y) < reach);
    if (place >= 0) return { kind: "corner", name: selected[0], place };
  }
  const inside = [...people].filter(([name, person]) => {
    const mask = maskFor(person, name), column = Math.floor(x), row = Math.floor(y);
    const [left, top, width, height] = person.bbox;
    return mask ? mask.has(column, row) : x >= left && y >= top && x <= left + width && y <= top + height;
  }).sort(([, one], [, other]) => one.bbox[2] * one.bbox[3] - other.bbox[2] * other.bbox[3]);
  return inside.length ? { kind: "person", name: inside[0][0] } : null;
}

canvas.addEventListener("pointerdown", (event) => {
  if (!picture) return;
  canvas.focus();
  canvas.setPointerCapture(event.pointerId);
  const at = onCanvas(event);
  pointers.set(event.pointerId, at);
  if (pointers.size === 2) { putBack(); drag = { kind: "pinch" }; return; }
  if (pointers.size > 2) return;
  const point = inPicture(at), reach = (event.pointerType === "touch" ? 24 : 11) * (devicePixelRatio || 1) / view.scale;
  const name = selected.length === 1 ? selected[0] : null;
  const inner = point[0] >= 0 && point[1] >= 0 && point[0] < picture.width && point[1] < picture.height;
  if (event.button === 1 || stage || doc.state !== "found") { drag = { kind: "pan", at }; return; }
  if (mode === "box") { drag = { kind: "new", from: point, to: point }; return; }
  if (placing !== null && name && inner) { editKeypoint(name, placing, ...point, 2, "added keypoint"); placing = null; return; }
  if ((mode === "positive" || mode === "negative") && name && inner) {
    const person = people.get(name), clicks = person.points ?? [];
    if (clicks.length >= 64) { say("a person has at most 64 clicks"); return; }
    edit({ [name]: { ...marked(person, "mask"), points: [...clicks, [clamp(point[0], picture.width - 1), clamp(point[1], picture.height - 1), mode === "positive" ? 1 : 0]] } }, "click");
    askMask(name);
    return;
  }
  const found = hit(point, reach);
  if (found?.kind === "keypoint") {
    if (event.shiftKey || mode === "merge") { choose(found.name, event.shiftKey); return; }
    selected = [found.name]; keypoint = found.number;
    drag = { ...found, before: people.get(found.name), from: at, moving: false };
  } else if (found?.kind === "corner") drag = { ...found, before: people.get(found.name), moving: false, from: at };
  else drag = { kind: "pan", at, from: at, name: found?.name ?? null, shift: event.shiftKey };
  refresh();
});

canvas.addEventListener("pointermove", (event) => {
  if (!pointers.has(event.pointerId) || !drag) return;
  const at = onCanvas(event), before = [...pointers.values()];
  pointers.set(event.pointerId, at);
  if (drag.kind === "pinch") {
    const after = [...pointers.values()];
    if (before.length < 2 || after.length < 2) return;
    const middle = ([a, b]) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], span = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    view.x += middle(after)[0] - middle(before)[0]; view.y += middle(after)[1] - middle(before)[1];
    zoom(span(after) / Math.max(span(before), 1), middle(after));
    return;
  }
  const point = inPicture(at).map((value, axis) => clamp(value, (axis ? picture.height : picture.width) - 1));
  if (drag.kind === "pan") { view.x += at[0] - drag.at[0]; view.y += at[1] - drag.at[1]; drag.at = at; whole = false; }
  else if (drag.kind === "new") drag.to = point;
  else {
    drag.moving ||= Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > 3;
    if (!drag.moving) return;
    if (drag.kind === "keypoint") people.set(drag.name, withKeypoint(drag.before, drag.number, ...point));
    else {
      const far = corners(drag.before)[(drag.place + 2) % 4], [x, y, w, h] = rectangle(point, far);
      people.set(drag.name, { ...marked(drag.before, "box"), bbox: [x, y, Math.max(w, 1), Math.max(h, 1)].map((v) => clamp(v, 1e6)) });
    }
  }
  refresh();
});

function putBack() {
  if (drag?.before) people.set(drag.name, drag.before);
  drag = null;
}

canvas.addEventListener("pointerup", (event) => {
  pointers.delete(event.pointerId);
  const done = drag;
  drag = null;
  if (!done || pointers.size) { refresh(); return; }
  if (done.kind === "keypoint" && done.moving) {
    const [x, y] = people.get(done.name).keypoints.slice(3 * done.number);
    people.set(done.name, done.before);
    editKeypoint(done.name, done.number, x, y, null, "moved keypoint");
  } else if (done.kind === "corner" && done.moving) {
    const after = people.get(done.name);
    people.set(done.name, done.before);
    edit({ [done.name]: after }, "box");
    model.takes_points ? save() : askMask(done.name);
  } else if (done.kind === "new") {
    const [x, y, w, h] = rectangle(done.from, done.to);
    mode = "select";
    if (w > 2 && h > 2) addPerson([x, y, x + w, y + h]);
  } else if (done.kind === "pan" && done.from && Math.hypot(done.at[0] - done.from[0], done.at[1] - done.from[1]) < 4) {
    choose(done.name, done.shift);
  }
  refresh();
});
canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); putBack(); refresh(); });
canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), onCanvas(event)); }, { passive: false });
// A photo that is shown whole stays so in a window of another size, and on a phone that is turned.
new ResizeObserver(() => (picture && whole ? fit() : refresh())).observe(canvas);

// --- rounds of the loop

async function trace() {
  if (rounds) { rounds = stage = null; $("round").hidden = true; refresh(); return; }
  if (!doc) return;
  say("running the loop ...");
  try { rounds = await ask(api("/trace"), "POST"); } catch (error) { say(error.message); return; }
  const stages = rounds.flatMap((round, number) => ["detected", "segmented", "accepted"].map((name) => ({
    label: `round ${round.round}: ${name}`, people: round[name], black: name === "detected" && number ? rounds[number - 1].accepted : [],
  })));
  $("round").replaceChildren(...stages.map((each, number) => new Option(`${each.label} (${each.people.length})`, number)));
  $("round").hidden = false;
  $("round").onchange = () => { stage = stages[Number($("round").value)]; refresh(); };
  stage = stages[0];
  say("the loop, run anew, without edits; dashed: found twice. Rounds ends it");
  refresh();
}

// --- files, buttons, keys

async function send_files(files) {
  const keys = [];
  for (const file of files) {
    if (file.size > model.limits.body) { say(`${file.name} is longer than ${model.limits.body / 2 ** 20} MB`); continue; }
    const form = new FormData();
    form.append("files", file);
    say(`sending ${file.name} ...`);
    try { keys.push(...(await ask("/api/uploads", "POST", form)).keys); } catch (error) { say(error.message); }
  }
  await loadQueue();
  if (keys.length) open(keys[0]);
}

$("files").onchange = () => { send_files([...$("files").files]); $("files").value = ""; };
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("dropping"); send_files([...event.dataTransfer.files]); });
for (const button of document.querySelectorAll("[data-mode]")) button.onclick = () => setMode(button.dataset.mode);
for (const box of document.querySelectorAll("[data-show]")) box.onchange = () => { show[box.dataset.show] = box.checked; refresh(); };
$("undo").onclick = () => step(past, future, "before");
$("redo").onclick = () => step(future, past, "after");
$("delete").onclick = remove;
$("merge").onclick = merge;
$("fit").onclick = () => picture && fit();
$("trace").onclick = trace;
$("help").onclick = () => $("keys").showModal();
$("done").onclick = async () => { await save(true); const key = doc?.key; neighbour(1); if (doc?.key === key) loadQueue(); };

const KEYS = {
  p: () => setMode("positive"), n: () => setMode("negative"), a: () => setMode("box"), m: merge, t: trace,
  escape: () => { putBack(); placing = null; keypoint === null && mode === "select" ? select([]) : (keypoint = null); mode = "select"; refresh(); },
  delete: remove, backspace: remove, pageup: () => neighbour(-1), pagedown: () => neighbour(1), enter: () => $("done").click(),
  h: () => { show.masks = !show.masks; document.querySelector("[data-show=masks]").checked = show.masks; refresh(); },
  0: () => picture && fit(), "+": () => zoom(1.25, [canvas.width / 2, canvas.height / 2]), "-": () => zoom(0.8, [canvas.width / 2, canvas.height / 2]),
  "?": () => $("keys").showModal(),
  v: toggle,
};
addEventListener("keydown", (event) => {
  if ($("keys").open || event.altKey || event.target.matches("select, input")) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
    key === "y" || event.shiftKey ? step(future, past, "after") : step(past, future, "before");
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey) return;
  if ((key === "enter" || key === " ") && event.target.matches("button")) return;
  const arrow = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] }[key];
  if (arrow && selected.length === 1 && keypoint !== null) {
    const [x, y] = people.get(selected[0]).keypoints.slice(3 * keypoint), far = event.shiftKey ? 10 : 1;
    editKeypoint(selected[0], keypoint, x + far * arrow[0], y + far * arrow[1], null, "moved keypoint");
  } else if (key === "tab" && event.target === canvas && people.size) {
    const names = [...people.keys()], place = names.indexOf(selected[0]) + (event.shiftKey ? -1 : 1);
    if (place < 0 || place >= names.length) { select([]); return; }
    select([names[place]]);
  } else if (KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
});

// Another tab may have saved meanwhile.
addEventListener("focus", async () => {
  if (!doc || doc.state !== "found" || Object.keys(changes()).length) return;
  try { const fresh = await ask(api()); if (fresh.key === doc.key && fresh.revision !== revision) merged(fresh, {}, []); } catch { /* the next saving says so */ }
});

loadQueue().then(() => { if (!model.photos.length) say("drop photos or a video here"); }).catch((error) => say(error.message));
