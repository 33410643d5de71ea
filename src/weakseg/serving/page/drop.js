"use strict";
// A file dropped anywhere on the page goes to `take`, more than one to `say`; `stage` is .over while one hovers.
function acceptDrop(stage, wanted, take, say) {
  let drags = 0;
  window.addEventListener("dragenter", event => { event.preventDefault(); drags++; stage.classList.add("over"); });
  window.addEventListener("dragleave", () => { if (--drags <= 0) { drags = 0; stage.classList.remove("over"); } });
  window.addEventListener("dragover", event => event.preventDefault());
  window.addEventListener("drop", event => {
    event.preventDefault();
    drags = 0;
    stage.classList.remove("over");
    const dropped = event.dataTransfer.files;
    if (dropped.length === 1) take(dropped[0]);
    else say(`${dropped.length} files; expected one ${wanted}; drop them one by one`);
  });
}
