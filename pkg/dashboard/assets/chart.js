// Charts over time, drawn with uPlot from the tables that the server has made.
// A chart is a .chart element followed by its table:
//   <div class="chart" data-chart="lines|stack" data-unit="n|ms|%|bytes">, <details class="twin"><table>…
// with a <time datetime> in the first cell of each row and a number in each other one.

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (head) => (head.tone && style(`--${head.tone}`)) || style(`--s${((head.place - 1) % 8) + 1}`);

/** Reads a table: heads, and columns of numbers, the first of them times in seconds. */
export function read(table) {
  const heads = [...table.tHead.rows[0].cells].slice(1).map((cell) => ({
    title: cell.firstChild.textContent.trim(), place: Number(cell.dataset.place), tone: cell.dataset.tone,
  }));
  const columns = [[], ...heads.map(() => [])];
  for (const row of table.tBodies[0].rows) {
    columns[0].push(Date.parse(row.querySelector("time").dateTime) / 1000);
    for (let i = 0; i < heads.length; i++) {
      const number = Number(row.cells[i + 1].textContent.replaceAll(",", ""));
      columns[i + 1].push(Number.isNaN(number) ? null : number);
    }
  }
  return { heads, columns };
}

/** Adds each column to those before it. */
function stacked(columns) {
  const sums = columns[0].map(() => 0);
  return [columns[0], ...columns.slice(1).map((column) => column.map((n, i) => (sums[i] += n ?? 0)))];
}

/** Writes a number for an axis or a legend. */
export function figure(n, unit) {
  if (n === null || n === undefined) return "–";
  const short = unit === "ms" || unit === "%" ? { maximumFractionDigits: n < 10 ? 2 : n < 100 ? 1 : 0 } : { maximumFractionDigits: 0 };
  return n.toLocaleString("en-US", short) + (unit === "%" ? " %" : unit === "ms" ? " ms" : "");
}

function axisFigure(n, unit) {
  if (unit === "ms" && n >= 1000) return `${n / 1000} s`;
  if (unit === "ms" || unit === "%") return figure(n, unit);
  return n.toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 1 });
}

/** Goes to the same page over what was dragged. */
function zoom(from, until, step) {
  const stamp = (s) => new Date(s * 1000).toISOString().replace(".000Z", "Z");
  const address = new URL(location.href);
  for (const name of ["last", "per"]) address.searchParams.delete(name);
  address.searchParams.set("from", stamp(Math.floor(from / step) * step));
  address.searchParams.set("to", stamp(Math.ceil(until / step) * step));
  location.assign(address);
}

/** Draws one chart. @param {HTMLElement} element */
export function draw(element) {
  const { heads, columns } = read(element.nextElementSibling.querySelector("table"));
  const unit = element.dataset.unit;
  const stack = element.dataset.chart === "stack";
  const shown = stack ? stacked(columns) : columns;
  const step = columns[0].length > 1 ? columns[0][1] - columns[0][0] : 60;
  const grid = { stroke: style("--line"), width: 1 };
  const axis = { stroke: style("--dim"), grid, ticks: { ...grid, size: 4 }, font: "11px system-ui, sans-serif" };
  const last = columns[0].length - 1;
  const series = heads.map((head, i) => ({
    label: head.title,
    stroke: colour(head),
    width: stack ? 0 : 1.75,
    fill: stack ? colour(head) : undefined,
    paths: stack ? window.uPlot.paths.bars({ size: [0.9, 240], align: 1 }) : undefined,
    points: { show: columns[0].length < 2 },
    value: (_, __, ___, at) => figure(columns[i + 1][at ?? last], unit),
  }));
  const inOrder = stack ? heads.toReversed() : heads;
  element.uplot?.destroy();
  element.classList.add("drawn");
  element.uplot = new window.uPlot({
    width: element.clientWidth, height: 220, tzDate: (s) => window.uPlot.tzDate(new Date(s * 1000), "UTC"),
    cursor: { sync: { key: "weir" }, drag: { x: true, y: false, setScale: false }, points: { show: !stack } },
    legend: { live: true, markers: { width: 0, fill: (_, i) => colour(inOrder[i - 1]) } },
    scales: { x: { time: true, range: (_, min, max) => [min, max + (stack ? step : 0)] }, y: { range: (_, __, max) => [0, (max || 1) * 1.08] } },
    axes: [
      { ...axis, values: times },
      { ...axis, size: 56, values: (_, ticks) => ticks.map((n) => axisFigure(n, unit)) },
    ],
    // Of what is stacked the highest is drawn first, so that the others lie over it.
    series: [{ label: "Time", value: (_, s) => (s === null ? "–" : clock(s)) }, ...(stack ? series.toReversed() : series)],
    hooks: {
      setSelect: [(u) => {
        if (u.select.width < 4) return;
        zoom(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"), step);
      }],
    },
  }, stack ? [shown[0], ...shown.slice(1).toReversed()] : shown, element);
}

const clock = (s) => new Date(s * 1000).toISOString().slice(0, 19).replace("T", " ");
const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Names the ticks of the time axis, with the day where it changes. */
function times(_, ticks, __, ___, step) {
  let before = "";
  return ticks.map((s) => {
    const t = new Date(s * 1000);
    const day = `${t.getUTCDate()} ${months[t.getUTCMonth()]}`;
    if (step >= 28 * 86400) return `${months[t.getUTCMonth()]} ${t.getUTCFullYear()}`;
    if (step >= 86400) return day;
    const time = t.toISOString().slice(11, step < 60 ? 19 : 16);
    const text = day === before ? time : `${time}\n${day}`;
    before = day;
    return text;
  });
}

/** Draws all charts of the page, and again where its width changes. */
export function drawAll() {
  for (const element of document.querySelectorAll(".chart[data-chart]")) {
    draw(element);
    sizes.observe(element);
  }
}

const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    if (target.uplot && Math.abs(target.uplot.width - contentRect.width) > 1) target.uplot.setSize({ width: contentRect.width, height: 220 });
  }
});
