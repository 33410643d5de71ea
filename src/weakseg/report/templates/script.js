"use strict";
(() => {
  const pixelsOf = new WeakMap();
  const nameOf = (r, g, b) => CLASSES[`${r},${g},${b}`] || "";

  // the pixels of an embedded picture, read once
  function pixels(img) {
    if (!pixelsOf.has(img)) {
      const canvas = document.createElement("canvas");
      canvas.width = img.naturalWidth; canvas.height = img.naturalHeight;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(img, 0, 0);
      pixelsOf.set(img, context.getImageData(0, 0, canvas.width, canvas.height));
    }
    return pixelsOf.get(img);
  }

  // a map whose pixels fade to white where it agrees with the truth, or where the truth says nothing
  function faded(img, truth) {
    const mine = pixels(img), real = pixels(truth);
    const canvas = document.createElement("canvas");
    canvas.width = mine.width; canvas.height = mine.height;
    const context = canvas.getContext("2d"), out = context.createImageData(mine.width, mine.height);
    for (let i = 0; i < mine.data.length; i += 4) {
      const same = [0, 1, 2].every(k => mine.data[i + k] === real.data[i + k]);
      const unknown = !nameOf(real.data[i], real.data[i + 1], real.data[i + 2]);
      for (let k = 0; k < 3; k++) out.data[i + k] = same || unknown ? 255 - (255 - mine.data[i + k]) * 0.12 : mine.data[i + k];
      out.data[i + 3] = 255;
    }
    context.putImageData(out, 0, 0);
    return canvas.toDataURL();
  }

  function options(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, label]) => new Option(label, value, false, value === chosen)));
  }

  function start(viewer) {
    const find = selector => viewer.querySelector(selector);
    const strips = [...document.querySelectorAll(`#scenes-${viewer.dataset.scenes} .strip`)];
    const stage = find(".stage"), over = find(".over"), under = find(".under"), slider = find(".slider");
    const [area, left, right, fade] = [".area", ".left", ".right", ".fade"].map(find);
    const layers = () => [...strips[Number(area.value)].querySelectorAll("img")];
    const layer = key => layers().find(img => img.dataset.key === key);

    function move() {
      over.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
      find(".handle").style.left = `${slider.value}%`;
    }

    function put(target, source, tag) {
      const truth = layer("truth");
      const fades = fade.checked && truth && !["image", "truth"].includes(source.dataset.key);
      target.src = fades ? faded(source, truth) : source.src;
      target.className = `${target === over ? "over" : "under"}${source.dataset.key === "image" ? "" : " map"}`;
      target.alt = source.alt;
      tag.textContent = source.dataset.label;
    }

    function show() {
      const first = layers()[0];
      stage.style.aspectRatio = `${first.getAttribute("width")} / ${first.getAttribute("height")}`;
      put(over, layer(left.value), find(".at-left"));
      put(under, layer(right.value), find(".at-right"));
      move();
    }

    function refill() {
      const entries = layers().map(img => [img.dataset.key, img.dataset.label]);
      const keep = (select, wanted) => options(select, entries, entries.some(e => e[0] === select.value) ? select.value : wanted);
      keep(left, viewer.dataset.left); keep(right, viewer.dataset.right);
      show();
    }

    function read(event) {
      const box = stage.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
      if (x < 0 || y < 0 || x >= 1 || y >= 1) return;
      const said = ["truth", left.value, right.value].filter((key, i, all) => key !== "image" && all.indexOf(key) === i && layer(key)).map(key => {
        const img = layer(key), field = pixels(img);
        const at = 4 * (Math.floor(y * field.height) * field.width + Math.floor(x * field.width));
        return `${img.dataset.label}: ${nameOf(...field.data.slice(at, at + 3)) || "no label"}`;
      });
      find(".readout").textContent = said.join(" · ");
    }

    function drag(event) {
      const box = stage.getBoundingClientRect();
      slider.value = Math.max(0, Math.min(100, 100 * (event.clientX - box.left) / box.width));
      move();
    }

    options(area, strips.map((strip, i) => [String(i), strip.dataset.name]), "0");
    area.addEventListener("change", refill);
    for (const control of [left, right, fade]) control.addEventListener("change", show);
    slider.addEventListener("input", move);
    stage.addEventListener("pointerdown", event => { stage.setPointerCapture(event.pointerId); drag(event); read(event); });
    stage.addEventListener("pointermove", event => { if (event.buttons) drag(event); read(event); });
    strips.forEach((strip, index) => strip.querySelectorAll("img").forEach(img => {
      img.title = "Show on the right of the comparison above";
      img.addEventListener("click", () => {
        area.value = String(index); refill(); right.value = img.dataset.key; show();
        viewer.scrollIntoView({ behavior: "smooth", block: "nearest" });
      });
    }));
    viewer.hidden = false;
    refill();
  }

  window.addEventListener("load", () => document.querySelectorAll(".viewer").forEach(start));
})();
