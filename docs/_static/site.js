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
window.addEventListener("load", reachable);
window.addEventListener("resize", reachable);
