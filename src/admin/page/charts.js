// Charts of the last hour: all requests, a route, or a caller.

import { clock, count, el, milliseconds, rate, svg, table } from "./dom.js";

// Of a chart, in units of its own.
const WIDTH = 300;
const HEIGHT = 80;

const times = { format: milliseconds };
/** The charts of a scope: title, format of values, and lines, each with its class and its values. */
const CHARTS = [
  { key: "rate", title: "Requests", format: rate, lines: [["Requests", "plain", (series, minutes) => perSecond(series.requests, minutes)]] },
  {
    key: "errors", title: "Errors", format: rate, lines: [
      ["5xx", "bad", (series, minutes) => perSecond(series.server_errors, minutes)],
      ["4xx", "warn", (series, minutes) => perSecond(series.client_errors, minutes)],
    ],
  },
  { key: "citrix", title: "Latency of Citrix", ...times, lines: [["p50", "plain", (series) => series.citrix_p50_ms], ["p99", "second", (series) => series.citrix_p99_ms]] },
  { key: "gateway", title: "Latency of the gateway", ...times, lines: [["p50", "plain", (series) => series.gateway_p50_ms], ["p99", "second", (series) => series.gateway_p99_ms]] },
  { key: "waited", title: "Time waited", ...times, lines: [["p99", "second", (series) => series.waited_p99_ms]] },
  { key: "queue", title: "Requests in the queue", format: count, lines: [["Requests in the queue", "plain", (series) => series.waiting]] },
];

/** Returns values per second; null for a minute that has just begun. */
function perSecond(values, minutes) {
  return values.map((value, index) => minutes[index].seconds > 0 ? value / minutes[index].seconds : null);
}

/** Returns the options of the selection, each `kind name`. */
export function scopes(history) {
  const option = (kind) => (series) => el("option", { value: scope(kind, series) }, series.name ?? "all others");
  return [
    el("option", { value: "total" }, "All requests"),
    history.routes.length > 0 && el("optgroup", { label: "Routes" }, ...history.routes.map(option("route"))),
    history.callers.length > 0 && el("optgroup", { label: "Callers" }, ...history.callers.map(option("caller"))),
  ].filter(Boolean);
}

function scope(kind, series) {
  return `${kind} ${series.name ?? ""}`;
}

/** Returns the charts and the table of the selected scope. */
export function charts(history, selected) {
  const find = (kind, all) => all.find((series) => scope(kind, series) === selected);
  const caller = find("caller", history.callers);
  const series = caller ?? find("route", history.routes) ?? history.total;
  const shown = CHARTS.filter(({ key }) => key !== "queue" || !caller);
  return [
    el("div", { class: "charts" }, ...shown.map((chart) => figure(chart, series, history.minutes))),
    el("details", {}, el("summary", {}, "The same as a table"), values(shown, series, history.minutes)),
  ];
}

function last(values) {
  return values.findLast((value) => value !== null) ?? null;
}

function figure({ key, title, format, lines }, series, minutes) {
  const drawn = lines.map(([name, kind, of]) => ({ name, kind, values: of(series, minutes) }));
  const known = drawn.flatMap((line) => line.values).filter((value) => value !== null);
  const max = Math.max(0, ...known);
  const words = (value) => value === null ? "–" : format(value);
  const label = (line) => lines.length > 1 || line.name !== title ? `${line.name} ` : "";
  const current = drawn.map((line) => `${label(line)}${words(last(line.values))}`).join(", ");
  const description = known.length === 0 ? "No values in the last hour."
    : drawn.map((line) => describe(line, label(line), words)).join(" ");
  const since = clock(new Date(minutes[0].at), false);
  return el("figure", { class: "card chart", "data-key": key },
    el("figcaption", {}, el("b", {}, title), el("span", { class: "legend" },
      ...drawn.map((line) => el("span", { class: `line ${line.kind}` }, label(line), el("b", {}, words(last(line.values))))))),
    el("div", { class: "plot" },
      el("p", { class: "axis", "aria-hidden": "true" },
        el("span", {}, known.length === 0 ? "no values" : words(max)),
        el("span", {}, "0")),
      svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-labelledby": `${key}-title`, "aria-describedby": `${key}-desc` },
        svg("title", { id: `${key}-title` }, `${title} since ${since}, now ${current}`),
        svg("desc", { id: `${key}-desc` }, description),
        svg("path", { class: "base", d: `M0 ${HEIGHT}H${WIDTH}` }),
        ...drawn.map((line) => svg("path", { class: `line ${line.kind}`, d: path(line.values, max) }))),
      el("p", { class: "axis time", "aria-hidden": "true" }, el("span", {}, since), el("span", {}, "now"))));
}

function describe(line, label, words) {
  const known = line.values.filter((value) => value !== null);
  if (known.length === 0) return `${label}no values.`;
  return `${label}at least ${words(Math.min(...known))}, at most ${words(Math.max(...known))}.`;
}

/** Returns the path of a line; minutes without a value interrupt it. */
function path(values, max) {
  const step = WIDTH / Math.max(1, values.length - 1);
  const y = (value) => Math.round((HEIGHT - (value / (max || 1)) * (HEIGHT - 4)) * 10) / 10;
  let d = "";
  values.forEach((value, index) => {
    if (value === null) return;
    const x = Math.round(index * step * 10) / 10;
    const begins = index === 0 || values[index - 1] === null;
    // A line of no length is a dot.
    d += begins ? `M${x} ${y(value)}h0` : `L${x} ${y(value)}`;
  });
  return d;
}

function values(shown, series, minutes) {
  const columns = shown.flatMap(({ title, format, lines }) => lines.map(([name, , of]) => {
    const all = of(series, minutes);
    return { title: name === title ? title : `${title}, ${name}`, number: true, of: (index) => all[index] === null ? "–" : format(all[index]) };
  }));
  const minute = { title: "Minute", head: true, of: (index) => clock(new Date(minutes[index].at), false) };
  // The newest first.
  const rows = minutes.map((_, index) => index).reverse();
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Values by the minute" },
    table("The last hour by the minute", [minute, ...columns], rows, (index) => minutes[index].at));
}

/** Returns a small chart of a route's or caller's requests and 5xx responses, or null without any. */
export function spark(history, kind, name) {
  const series = (kind === "route" ? history?.routes : history?.callers)?.find((one) => one.name === name);
  if (!series) return null;
  const requests = perSecond(series.requests, history.minutes);
  const errors = perSecond(series.server_errors, history.minutes);
  const max = Math.max(...requests.filter((value) => value !== null));
  const label = `Requests in the last hour: at most ${rate(max)}, now ${rate(last(requests) ?? 0)}; ${count(series.server_errors.reduce((sum, one) => sum + one, 0))} 5xx`;
  return svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("title", {}, label),
    svg("path", { class: "line plain", d: path(requests, max) }),
    errors.some((value) => value > 0) && svg("path", { class: "line bad", d: path(errors, max) }));
}
