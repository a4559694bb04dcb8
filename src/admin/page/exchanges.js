// Completed exchanges: recent failures and rejections, and lookup by id.

import { el, facts, milliseconds, moment } from "./dom.js";

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

/** Returns the card of an exchange; `open` expands its details. */
export function exchangeCard(exchange, now, open) {
  const caller = exchange.caller === "none" ? "unknown caller" : exchange.caller;
  const from = [caller, exchange.address && `at ${exchange.address}`].filter(Boolean).join(" ");
  const customer = exchange.customer && `customer ${exchange.customer}`;
  return el("li", { class: "card", "data-key": exchange.request_id },
    el("div", { class: "top" },
      outcome(exchange),
      el("code", {}, `${exchange.method} ${exchange.path ?? ""}`),
      el("span", { class: "quiet end" }, moment(exchange.at, now))),
    exchange.detail && el("p", {}, sentence(exchange.detail)),
    exchange.cause && exchange.cause !== exchange.detail && el("p", { class: "quiet" }, `Cause: ${exchange.cause}`),
    el("p", { class: "quiet" }, [caller, customer, milliseconds(exchange.total_ms)].filter(Boolean).join(" · ")),
    ids(exchange),
    el("details", { open },
      el("summary", {}, "Details"),
      details(exchange, from)));
}

/** Returns a list of the first `few` exchanges, or of all of them; `empty` is the text for none. */
export function exchangeList(exchanges, now, all, action, few, empty) {
  if (exchanges.length === 0) return [el("p", { class: "quiet" }, empty)];
  const shown = all ? exchanges : exchanges.slice(0, few);
  return [
    el("ol", { class: "cards" }, ...shown.map((exchange) => exchangeCard(exchange, now, false))),
    exchanges.length > few && el("button", { type: "button", class: "more", "data-toggle": action },
      all ? "Show fewer" : `Show all ${exchanges.length}`),
  ];
}

/** Looks up an id and returns the elements of the result. */
export async function find(id) {
  const response = await fetch(`/transactions/${encodeURIComponent(id)}`, { cache: "no-store" });
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  if (!isJson) throw new Error(`the gateway returned ${response.status}`);
  const { exchanges, detail } = await response.json();
  const title = (text) => el("h3", { tabindex: "-1" }, text);
  if (exchanges.length === 0) return [title("Not found"), el("p", { class: "card" }, sentence(detail))];
  const [now, one] = [new Date().toISOString(), exchanges.length === 1];
  return [
    title(one ? "One exchange with this id" : `${exchanges.length} exchanges with this id`),
    el("ol", { class: "cards" }, ...exchanges.map((exchange) => exchangeCard(exchange, now, one))),
  ];
}
