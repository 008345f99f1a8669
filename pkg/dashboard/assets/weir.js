// What every page has: charts from the tables beside them, the theme, shortcuts.
import { drawAll } from "./chart.js";

const root = document.documentElement;
const at = (id) => document.getElementById(id);

drawAll();

document.querySelector('nav a[aria-current]')?.scrollIntoView({ block: "nearest", inline: "center" });

const theme = at("theme");
theme.hidden = false;
theme.addEventListener("click", toggleTheme);

/** Changes between light and dark; the server reads the cookie, so that no page flashes. */
function toggleTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.cookie = `weir_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  drawAll();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());

const shortcuts = at("shortcuts");
const keys = at("keys");
keys.hidden = false;
keys.addEventListener("click", () => shortcuts.showModal());

/** A form sends only what is filled in, so that addresses stay short. */
at("scope")?.addEventListener("submit", (event) => {
  for (const field of event.target.elements) {
    if (field.name && field.value === "") field.disabled = true;
  }
});
addEventListener("pageshow", () => {
  for (const field of at("scope")?.elements ?? []) field.disabled = false;
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || shortcuts.open) return;
  if (event.target instanceof Element && event.target.closest("input, select, textarea, [contenteditable]")) return;
  const follow = (link) => { if (link) { event.preventDefault(); link.click(); } };
  const scrolls = event.target instanceof Element && event.target.closest(".scroll");
  switch (event.key) {
    case "?": event.preventDefault(); shortcuts.showModal(); break;
    case "t": toggleTheme(); break;
    case "/": {
      const more = document.querySelector(".more");
      if (!more) break;
      event.preventDefault();
      more.open = true;
      more.querySelector("input").focus();
      break;
    }
    case "ArrowLeft": if (!scrolls) follow(at("earlier")); break;
    case "ArrowRight": if (!scrolls) follow(at("later")); break;
    case "-": follow(at("wider")); break;
    default:
      if (/^[1-9]$/.test(event.key)) follow(document.querySelector(`nav a[data-key="${event.key}"]`));
  }
});
