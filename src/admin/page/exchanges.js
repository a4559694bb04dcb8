// Completed exchanges: recent failures and rejections, and lookup by id.

import { clock, count, el, facts, milliseconds, moment, table } from "./dom.js";

const ID_NAMES = [
  ["request_id", "X-Proxy-Request-Id"],
  ["transaction_id", "Citrix-TransactionId, sent"],
  ["citrix_transaction_id", "Citrix-TransactionId, received"],
  ["x_cws_transaction_id", "X-Cws-TransactionId"],
  ["cc_transaction_id", "CC-TransactionId"],
];

/** Returns a list item with an id and its copy button. */
export function copyable(label, id) {
  return el("li", {}, el("span", { class: "label" }, label), el("code", {}, id), copyButton(label, id));
}

/** Returns the copy button of an id. */
function copyButton(label, id) {
  return el("button", { type: "button", class: "small", "data-copy": id, "aria-label": `Copy ${label} ${id}` }, "Copy");
}

/** Returns the distinct ids of an exchange, each with all its names. */
function ids(exchange) {
  const names = new Map();
  for (const [field, name] of ID_NAMES) {
    const id = exchange[field];
    if (id) names.set(id, [...(names.get(id) ?? []), name]);
  }
  // Citrix usually returns the id that it was sent.
  const label = (known) => known.join(" · ").replace("Citrix-TransactionId, sent · Citrix-TransactionId, received", "Citrix-TransactionId");
  return el("ul", { class: "ids" }, ...[...names].map(([id, known]) => copyable(label(known), id)));
}

function outcome(exchange) {
  const { status, reason } = exchange;
  const kind = status >= 500 || status === 499 ? "bad" : status >= 400 ? "warn" : exchange.end === "cut_off" ? "bad" : "good";
  const label = reason ? `${status} ${reason}` : status === 499 ? "caller disconnected" : `${status} from Citrix`;
  return el("span", { class: `badge ${kind}` }, exchange.end === "cut_off" ? `${label}, truncated` : label);
}

/** Formats the `detail` of an error as a sentence. */
function sentence(text) {
  const capitalized = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capitalized) ? capitalized : `${capitalized}.`;
}

/** Returns the content of "Details". */
function details(exchange, from) {
  return facts([
    ["Started", new Date(exchange.at).toLocaleString()],
    ["Caller", from],
    ["Customer", exchange.customer],
    ["Route", exchange.route],
    ["Retired address", exchange.retired],
    ["Total", milliseconds(exchange.total_ms)],
    ["Queued", exchange.waited_ms > 0 ? milliseconds(exchange.waited_ms) : "no"],
    ["Citrix", exchange.attempts > 0 ? milliseconds(exchange.upstream_ms) : "no request sent"],
    ["Gateway", milliseconds(exchange.ours_ms)],
    ["Attempts", String(exchange.attempts)],
    ["End", exchange.end.replace("_", " ")],
  ]);
}

function callerName(exchange) {
  return exchange.caller === "none" ? "unknown caller" : exchange.caller;
}

/** Returns the card of an exchange; `open` expands its details. `repeats` are those of its kind, or null. */
function exchangeCard(exchange, now, open, repeats) {
  const caller = callerName(exchange);
  const from = [caller, exchange.address && `at ${exchange.address}`].filter(Boolean).join(" ");
  const customer = exchange.customer && `customer ${exchange.customer}`;
  return el("li", { class: "card", "data-key": repeats ? kind(exchange) : exchange.request_id },
    el("div", { class: "top" },
      outcome(exchange),
      repeats?.count > 1 && el("b", {}, `${count(repeats.count)} times`),
      el("code", {}, `${exchange.method} ${exchange.path ?? ""}`),
      el("span", { class: "quiet end" }, repeats?.count > 1 && "last ", moment(exchange.at, now))),
    repeats?.count > 1 && el("p", { class: "quiet" }, "first ", moment(repeats.first_at, now), ", the last one below. ",
      el("a", { href: `#${sameKind(exchange)}` }, "Find all")),
    exchange.detail && el("p", {}, sentence(exchange.detail)),
    exchange.cause && exchange.cause !== exchange.detail && el("p", { class: "quiet" }, `Cause: ${exchange.cause}`),
    el("p", { class: "quiet" }, [caller, customer, milliseconds(exchange.total_ms)].filter(Boolean).join(" · ")),
    ids(exchange),
    el("details", { open },
      el("summary", {}, "Details"),
      details(exchange, from)));
}

/** Identifies the kind of a failure. */
function kind(exchange) {
  const { status, reason, end, route, caller, customer } = exchange;
  return [status, reason, end, route, caller, customer].join(" ");
}

/** Returns the search for exchanges of the same kind. */
function sameKind(exchange) {
  const { status, route, caller, customer } = exchange;
  return new URLSearchParams(Object.entries({ caller, customer, route, status }).filter(([, value]) => value));
}

/** Returns a list of the first `few` kinds of failures with their repeats, or of all; `empty` is the text for none. */
export function repeatList(kinds, now, all, action, few, empty) {
  if (kinds.length === 0) return [el("p", { class: "quiet" }, empty)];
  const shown = all ? kinds : kinds.slice(0, few);
  return [
    el("ol", { class: "cards" }, ...shown.map((repeats) => exchangeCard(repeats.last, now, false, repeats))),
    kinds.length > few && el("button", { type: "button", class: "more", "data-toggle": action },
      all ? "Show fewer" : `Show all ${kinds.length}`),
  ];
}

/** Searches for exchanges by `wanted`, URLSearchParams, and returns the elements of the result. */
export async function find(wanted) {
  const id = wanted.size === 1 && wanted.get("id");
  const response = await fetch(id ? `/transactions/${encodeURIComponent(id)}` : `/transactions?${wanted}`, { cache: "no-store" });
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  if (!isJson) throw new Error(response.status === 400 ? await response.text() : `the gateway returned ${response.status}`);
  const result = await response.json();
  const { exchanges } = result;
  const title = (text) => el("h3", { tabindex: "-1" }, text);
  if (exchanges.length === 0) return [title("Not found"), el("p", { class: "card" }, sentence(result.detail ?? searched(result)))];
  const now = new Date().toISOString();
  if (exchanges.length === 1) return [title("One exchange found"), el("ol", { class: "cards" }, exchangeCard(exchanges[0], now, true, null))];
  const number = result.more ? `The last ${exchanges.length}` : String(exchanges.length);
  return [
    title(`${number} exchanges found`),
    exchangeTable(exchanges),
    result.since && el("p", { class: "quiet" }, sentence(searched(result))),
  ];
}

function searched({ searched, since }) {
  if (since === null) return "no exchange has ended yet";
  return `searched the last ${count(searched)} exchanges, since ${new Date(since).toLocaleString()}, and the last failures and rejections before`;
}

function exchangeTable(exchanges) {
  const request = (one) => el("a", { href: `#id=${encodeURIComponent(one.request_id)}` }, el("code", {}, `${one.method} ${one.path ?? ""}`));
  return table("Exchanges found", [
    { title: "Request", head: true, of: request },
    { title: "Started", of: (one) => el("time", { datetime: one.at, title: new Date(one.at).toLocaleString() }, clock(new Date(one.at))) },
    { title: "Result", of: outcome },
    { title: "Caller", of: callerName },
    { title: "Customer", of: (one) => one.customer ?? "–" },
    { title: "Total", number: true, of: (one) => milliseconds(one.total_ms) },
  ], exchanges, (one) => one.request_id);
}
