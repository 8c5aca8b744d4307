// ---- theme.js: light and dark, and what all pages use to write.

const $ = (id) => document.getElementById(id);
function element(name, attributes, parent, text) {
  const e = document.createElement(name);
  for (const key in attributes) e.setAttribute(key, attributes[key]);
  if (text !== undefined) e.textContent = text;
  if (parent) parent.append(e);
  return e;
}
// Writes only what differs: writing costs a layout.
function put(node, text) { if (node.textContent !== text) node.textContent = text; }
function mark(e, name, on) { if (e.classList.contains(name) !== Boolean(on)) e.classList.toggle(name, Boolean(on)); }

function theme() {
  const set = (name) => {
    document.documentElement.dataset.theme = name;
    put($("theme"), name === "dark" ? "Light theme" : "Dark theme");
  };
  set(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  $("theme").onclick = () => set(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
}
