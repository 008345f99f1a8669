// The live page follows the server: one EventSource, closed while nobody looks. What comes is text, and
// becomes text: nothing here makes HTML of it.
import { draw } from "./chart.js";

const main = document.querySelector("[data-live]");
const at = (id) => document.getElementById(id);
const pulse = at("pulse");
/** @type {EventSource | null} */
let source = null;
let again = 0;

/** Makes an element with a class, a text and children. */
function make(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function link(url, text) {
  const a = make("a", "", text);
  a.href = url;
  return a;
}

function showFresh(fresh) {
  const badge = at("fresh");
  badge.className = `fresh${fresh.late ? " late" : ""}${fresh.known ? "" : " unknown"}`;
  if (!fresh.known) return badge.replaceChildren("completeness not known");
  const time = make("time", "", fresh.clock);
  time.dateTime = fresh.time;
  badge.replaceChildren("complete through ", time, ...(fresh.behind ? [" ", make("span", "behind", fresh.behind)] : []));
}

function showFigures(cells) {
  const list = document.querySelector("#figures dl");
  if (!list || list.children.length !== cells.length) return location.reload(); // there was a problem before
  cells.forEach((cell, i) => {
    list.children[i].className = cell.tone ?? "";
    list.children[i].lastElementChild.replaceChildren(cell.text, ...(cell.suffix ? [" ", make("small", "", cell.suffix)] : []));
  });
}

/** Puts rows that are new, or have changed, into the table of a chart, and draws it. */
function showRows(id, news) {
  const chart = document.querySelector(`#${id} .chart`);
  if (!chart) return location.reload();
  const body = chart.nextElementSibling.querySelector("tbody");
  while (body.rows.length && body.rows[0].querySelector("time").dateTime < news.from) body.rows[0].remove();
  const known = new Map([...body.rows].map((row) => [row.querySelector("time").dateTime, row]));
  for (const [when, label, ...texts] of news.rows) {
    let row = known.get(when);
    if (!row) {
      const time = make("time", "", label);
      time.dateTime = when;
      const head = make("th", "", time);
      head.scope = "row";
      row = make("tr", "", head, ...texts.map((text) => make("td", "n", text)));
      const after = [...known.keys()].find((other) => other > when);
      body.insertBefore(row, after ? known.get(after) : null);
      continue;
    }
    texts.forEach((text, i) => { row.cells[i + 1].textContent = text; });
  }
  draw(chart);
}

const svg = "http://www.w3.org/2000/svg";

function bar(segments) {
  const picture = document.createElementNS(svg, "svg");
  for (const [name, value] of Object.entries({ class: "bar", viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" })) picture.setAttribute(name, value);
  for (const { x, width, place, tone } of segments) {
    const part = document.createElementNS(svg, "rect");
    for (const [name, value] of Object.entries({ class: `s${place} ${tone ?? ""}`, x, width, height: "1" })) part.setAttribute(name, value);
    picture.append(part);
  }
  return picture;
}

function showTop(rows) {
  const body = document.querySelector("#top tbody");
  if (!body) return location.reload();
  const focused = document.activeElement?.closest("#top a")?.textContent;
  body.replaceChildren(...rows.map(({ cells }) => make("tr", "", ...cells.flatMap((cell, i) => {
    const shown = make(i ? "td" : "th", `${cell.number ? "n" : ""}${cell.dim ? " dim" : ""} ${cell.tone ?? ""}`, cell.url ? link(cell.url, cell.text) : cell.text);
    if (!i) shown.scope = "row";
    return cell.bar ? [shown, make("td", "b", bar(cell.bar))] : [shown];
  }))));
  if (focused) [...body.querySelectorAll("a")].find((a) => a.textContent === focused)?.focus();
}

const severities = { 1: "severe", 2: "moderate", 3: "mild" };

function showAlerts(alerts) {
  const feed = at("feed");
  const known = new Set([...feed.children].map((item) => item.dataset.id));
  feed.replaceChildren(...alerts.map((alert) => {
    const time = make("time", "", alert.clock);
    time.dateTime = alert.at;
    const item = make("li", `sev${alert.severity} ${alert.state}${known.has(alert.id) ? "" : " new"}`, time, " ",
      make("span", "sev", alert.state === "resolved" ? "resolved" : severities[alert.severity] ?? String(alert.severity)), " ",
      link(`/alerts?id=${encodeURIComponent(alert.id)}`, alert.rule), " ", make("span", "what", alert.message));
    item.dataset.id = alert.id;
    return item;
  }));
  at("calm").hidden = alerts.length > 0;
}

function show(news) {
  showFresh(news.fresh);
  at("quiet").hidden = !news.quiet;
  if (news.figures) showFigures(news.figures);
  if (news.traffic) showRows("traffic", news.traffic);
  if (news.speed) showRows("percentiles", news.speed);
  if (news.top) showTop(news.top);
  if (news.alerts) showAlerts(news.alerts);
}

function follow() {
  clearTimeout(again);
  if (document.hidden || source) return;
  source = new EventSource(main.dataset.live);
  source.addEventListener("message", (event) => {
    pulse.hidden = false;
    pulse.classList.remove("broken");
    pulse.firstElementChild.textContent = "live";
    show(JSON.parse(event.data));
  });
  source.addEventListener("error", () => {
    pulse.hidden = false;
    pulse.classList.add("broken");
    pulse.firstElementChild.textContent = "connecting";
    if (source?.readyState !== EventSource.CLOSED) return; // it tries again by itself
    source = null;
    again = setTimeout(follow, 5000);
  });
}

function rest() {
  clearTimeout(again);
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? rest() : follow()));
addEventListener("pagehide", rest);
addEventListener("pageshow", follow);
follow();
