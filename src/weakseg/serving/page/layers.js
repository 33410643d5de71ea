"use strict";
// Tiles of one layer of a raster: which are needed, those that are there, and drawing them. A level halves both sides.
// The server says with 503 and Retry-After that it is busy; such a tile is asked for again.

class Tiles {
  // address: (level, column, row) -> URL; decode: blob -> what `paint` makes a picture of; changed: called when one came
  constructor(address, decode, {parallel, kept, changed, failed}) {
    Object.assign(this, {address, decode, parallel, kept, changed, failed});
    this.there = new Map();     // name -> {value, picture, version}, the newest last
    this.wanted = [];           // names that are not there, the most important first
    this.running = new Map();   // name -> AbortController
    this.later = new Map();     // name -> time before which it is not asked for again
  }

  close() {
    this.wanted = [];
    this.running.forEach(controller => controller.abort());
    this.there.clear();
    this.closed = true;
  }

  get pending() { return new Set([...this.wanted, ...this.running.keys()]).size; }

  want(names) {
    this.wanted = names.filter(name => !this.there.has(name));
    const still = new Set(this.wanted);
    this.running.forEach((controller, name) => { if (!still.has(name)) controller.abort(); });
    this.next();
  }

  next() {
    const now = performance.now();
    for (const name of this.wanted) {
      if (this.running.size >= this.parallel) return;
      if (!this.running.has(name) && !((this.later.get(name) ?? 0) > now)) this.fetch(name);
    }
  }

  async fetch(name) {
    const controller = new AbortController();
    this.running.set(name, controller);
    let pause = 0;
    try {
      const answer = await fetch(this.address(...name.split("/").map(Number)), {signal: controller.signal});
      if (answer.ok) this.keep(name, await this.decode(await answer.blob()));
      else if (answer.status === 503) pause = 1000 * Number(answer.headers.get("Retry-After") ?? 2);
      else { pause = 1e9; this.failed(answer); }
    } catch (error) {
      if (error.name !== "AbortError") { pause = 3000; this.failed(null); }
    } finally {
      this.running.delete(name);
      if (pause) {
        this.later.set(name, performance.now() + pause);
        if (pause < 1e8) setTimeout(() => this.next(), pause + 20);
      }
      if (!this.closed) { this.next(); this.changed(); }
    }
  }

  keep(name, value) {
    this.there.set(name, {value, picture: null, version: -1});
    this.wanted = this.wanted.filter(other => other !== name);
    while (this.there.size > this.kept) this.there.delete(this.there.keys().next().value);
  }

  // The tiles of a level that a view shows, from its middle outwards.
  static within(raster, view, width, height, level) {
    const side = raster.tile * 2 ** level, found = [];
    const first = (at, length, scale) => Math.max(0, Math.floor((at - length / 2 / scale) / side));
    const last = (at, length, scale, size) => Math.min(Math.ceil(size / side) - 1, Math.floor((at + length / 2 / scale) / side));
    for (let row = first(view.y, height, view.scale); row <= last(view.y, height, view.scale, raster.height); row++)
      for (let column = first(view.x, width, view.scale); column <= last(view.x, width, view.scale, raster.width); column++)
        found.push([level, column, row]);
    const away = ([, column, row]) => Math.hypot((column + .5) * side - view.x, (row + .5) * side - view.y);
    return found.sort((one, two) => away(one) - away(two));
  }

  // Draws what is there: a tile, else what a coarser or the next finer level has of its place.
  draw(context, raster, places, toScreen, paint, version) {
    for (const [level, column, row] of places) {
      if (this.put(context, raster, level, column, row, null, toScreen, paint, version)) continue;
      for (let up = 1; level + up < raster.levels; up++)
        if (this.put(context, raster, level + up, column >> up, row >> up, [level, column, row], toScreen, paint, version)) break;
      for (const [right, down] of [[0, 0], [1, 0], [0, 1], [1, 1]])
        if (level) this.put(context, raster, level - 1, 2 * column + right, 2 * row + down, null, toScreen, paint, version);
    }
  }

  put(context, raster, level, column, row, only, toScreen, paint, version) {
    const name = `${level}/${column}/${row}`, tile = this.there.get(name);
    if (!tile) return false;
    if (!only) { this.there.delete(name); this.there.set(name, tile); }
    if (tile.version !== version) { tile.picture = paint(tile.value); tile.version = version; }
    const side = raster.tile * 2 ** level;
    let box = [column * side, row * side, Math.min(raster.width, (column + 1) * side), Math.min(raster.height, (row + 1) * side)];
    const origin = box, pixels = (at, from) => (at - from) / 2 ** level;
    if (only) {
      const inner = raster.tile * 2 ** only[0];
      box = [only[1] * inner, only[2] * inner, Math.min(raster.width, (only[1] + 1) * inner), Math.min(raster.height, (only[2] + 1) * inner)];
    }
    const [left, top] = toScreen(box[0], box[1]), [right, bottom] = toScreen(box[2], box[3]);
    context.drawImage(tile.picture, pixels(box[0], origin[0]), pixels(box[1], origin[1]),
      Math.max(pixels(box[2] - box[0], 0), 1e-3), Math.max(pixels(box[3] - box[1], 0), 1e-3), left, top, right - left, bottom - top);
    return true;
  }

  // What the finest tile that is there says of a place (column, row) of the raster; null where none is.
  at(raster, x, y) {
    for (let level = 0; level < raster.levels; level++) {
      const side = raster.tile * 2 ** level, column = Math.floor(x / side), row = Math.floor(y / side);
      const tile = this.there.get(`${level}/${column}/${row}`);
      if (tile) return tile.value.at(Math.floor((x - column * side) / 2 ** level), Math.floor((y - row * side) / 2 ** level));
    }
    return null;
  }
}

// The pixels of a PNG as they are, (x, y) -> [red, green, blue].
class Values {
  constructor(bitmap) {
    this.width = bitmap.width;
    this.height = bitmap.height;
    const context = new OffscreenCanvas(this.width, this.height).getContext("2d", {willReadFrequently: true});
    context.drawImage(bitmap, 0, 0);
    this.data = context.getImageData(0, 0, this.width, this.height).data;
  }

  at(x, y) {
    const place = 4 * (Math.min(y, this.height - 1) * this.width + Math.min(x, this.width - 1));
    return this.data.slice(place, place + 3);
  }
}

const asBitmap = blob => createImageBitmap(blob);
const asValues = async blob => new Values(await createImageBitmap(blob, {colorSpaceConversion: "none", premultiplyAlpha: "none"}));
