// Exchanges that are over: the last failures, and what is found by an id.

import { el, facts, milliseconds, moment } from "./dom.js";

const ID_NAMES = [
  ["request_id", "X-Proxy-Request-Id"],
  ["transaction_id", "Citrix-TransactionId, sent"],
  ["citrix_transaction_id", "Citrix-TransactionId, received"],
  ["x_cws_transaction_id", "X-Cws-TransactionId"],
  ["cc_transaction_id", "CC-TransactionId"],
];

/** An id with a button that copies it. */
export function copyable(what, id) {
  return el("li", {}, el("span", { class: "what" }, what), el("code", {}, id), copier(what, id));
}

/** The button alone. */
export function copier(what, id) {
  return el("button", { type: "button", class: "small", "data-copy": id, "aria-label": `Copy ${what} ${id}` }, "Copy");
}

/** Each id once, with all the names it has. */
function ids(exchange) {
  const names = new Map();
  for (const [field, name] of ID_NAMES) {
    const id = exchange[field];
    if (id) names.set(id, [...(names.get(id) ?? []), name]);
  }
  // Citrix gives the id back that it was sent, as a rule.
  const label = (known) => known.join(" · ").replace("Citrix-TransactionId, sent · Citrix-TransactionId, received", "Citrix-TransactionId");
  return el("ul", { class: "ids" }, ...[...names].map(([id, known]) => copyable(label(known), id)));
}

function verdict(exchange) {
  const { status, reason } = exchange;
  const kind = status >= 500 || status === 499 ? "bad" : status >= 400 ? "warn" : exchange.end === "cut_off" ? "bad" : "good";
  const who = reason ? `${status} ${reason}` : status === 499 ? "caller left" : `${status} from Citrix`;
  return el("span", { class: `badge ${kind}` }, exchange.end === "cut_off" ? `${who}, cut off` : who);
}

/** What callers are told begins and ends as it does in JSON. */
function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** What is behind "More": who, where, how long. */
function more(exchange, from) {
  return facts([
    ["Began", new Date(exchange.at).toLocaleString()],
    ["Caller", from],
    ["Customer", exchange.customer],
    ["Route", exchange.route],
    ["Retired address", exchange.retired],
    ["In all", milliseconds(exchange.total_ms)],
    ["Waited here", exchange.waited_ms > 0 ? milliseconds(exchange.waited_ms) : "not at all"],
    ["Citrix", exchange.attempts > 0 ? milliseconds(exchange.upstream_ms) : "was not asked"],
    ["Gateway alone", milliseconds(exchange.ours_ms)],
    ["Attempts", String(exchange.attempts)],
    ["Ended", exchange.end.replace("_", " ")],
  ]);
}

/** One exchange; `open` shows all of it at once. */
export function exchangeCard(exchange, now, open) {
  const who = exchange.caller === "none" ? "unknown caller" : exchange.caller;
  const from = [who, exchange.address && `at ${exchange.address}`].filter(Boolean).join(" ");
  const customer = exchange.customer && `customer ${exchange.customer}`;
  return el("li", { class: "card", "data-key": exchange.request_id },
    el("div", { class: "top" },
      verdict(exchange),
      el("code", {}, `${exchange.method} ${exchange.path ?? ""}`),
      el("span", { class: "quiet end" }, moment(exchange.at, now))),
    exchange.detail && el("p", {}, sentence(exchange.detail)),
    exchange.cause && exchange.cause !== exchange.detail && el("p", { class: "quiet" }, `Cause: ${exchange.cause}`),
    el("p", { class: "quiet" }, [who, customer, milliseconds(exchange.total_ms)].filter(Boolean).join(" · ")),
    ids(exchange),
    el("details", { open },
      el("summary", {}, "More"),
      more(exchange, from)));
}

/** A list of exchanges, the first few unless all are wanted. */
export function exchangeList(exchanges, now, all, action, few, nothing) {
  if (exchanges.length === 0) return [el("p", { class: "quiet" }, nothing)];
  const shown = all ? exchanges : exchanges.slice(0, few);
  return [
    el("ol", { class: "cards" }, ...shown.map((exchange) => exchangeCard(exchange, now, false))),
    exchanges.length > few && el("button", { type: "button", class: "more", "data-toggle": action },
      all ? "Show fewer" : `Show all ${exchanges.length}`),
  ];
}

/** Looks an id up, and tells what was found. */
export async function find(id) {
  const answer = await fetch(`/transactions/${encodeURIComponent(id)}`, { cache: "no-store" });
  const isAnswer = answer.headers.get("content-type")?.startsWith("application/json");
  if (!isAnswer) throw new Error(`the gateway answered ${answer.status}`);
  const { exchanges, detail } = await answer.json();
  const title = (words) => el("h3", { tabindex: "-1" }, words);
  if (exchanges.length === 0) return [title("Nothing was found"), el("p", { class: "card" }, sentence(detail))];
  const [now, one] = [new Date().toISOString(), exchanges.length === 1];
  return [
    title(one ? "One exchange with this id" : `${exchanges.length} exchanges with this id`),
    el("ol", { class: "cards" }, ...exchanges.map((exchange) => exchangeCard(exchange, now, one))),
  ];
}
