// Drawings of graphs shrink to the page's width, but not so far that their text can't be read.
function readable() {
  for (const drawing of document.querySelectorAll("div.cell_output img[src$='.svg']")) {
    drawing.style.minWidth = `${0.55 * drawing.naturalWidth}px`;
  }
}

// What scrolls can be reached and scrolled with the keyboard.
function reachable() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, div.cell_output")) {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
    } else {
      box.removeAttribute("tabindex");
    }
  }
}
window.addEventListener("load", readable);
window.addEventListener("load", reachable);
window.addEventListener("resize", reachable);
