// What the page tells of, section by section: each a function of the status.

import { copyable } from "./exchanges.js";
import { count, drawn, el, facts, lasting, milliseconds, moment, rate, table } from "./dom.js";

const KIND = { fresh: "good", stale: "warn", unusable: "bad" };
const WORDS = { fresh: "fresh", stale: "stale but valid", unusable: "unusable" };
const SECRETS = { first: "client_secret", next: "client_secret_next", remembered: "the one that worked last" };
const FEW = 12;

/** The sentence on top and how bad it is. It changes only when there is something new to tell. */
export function headline(status) {
  const worst = status.alerts[0]?.level ?? "good";
  if (status.program.phase !== "running") return [`The gateway is ${status.program.phase}`, "warning"];
  if (!status.ready) {
    const without = status.tokens.filter((token) => token.state === "unusable").length;
    return [`Not ready: ${without} of ${status.tokens.length} customers without a token`, "critical"];
  }
  const number = (level) => status.alerts.filter((alert) => alert.level === level).length;
  const [critical, warnings] = [number("critical"), number("warning")];
  if (critical + warnings === 0) return ["Ready, all is well", worst];
  const words = [critical && `${critical} critical`, warnings && `${warnings} ${warnings === 1 ? "warning" : "warnings"}`];
  return [`Ready, but ${words.filter(Boolean).join(" and ")}`, worst];
}

export function alerts(status) {
  const word = { critical: "Critical:", warning: "Warning:", notice: "Notice:" };
  return status.alerts.map((alert) =>
    el("li", { class: alert.level, "data-key": alert.kind + alert.text.slice(0, 20) }, el("b", {}, word[alert.level]), alert.text));
}

/** A bar of a share, with a mark at another. */
function bar(kind, share, mark, label, words) {
  const percent = Math.round(Math.min(1, Math.max(0, share)) * 1000) / 10;
  const place = mark === null ? null : Math.min(99.4, Math.max(0, mark * 100));
  return el("div", {
    class: "meter", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": Math.round(percent), "aria-valuetext": words,
  }, drawn("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
    drawn("rect", { class: "track", width: 100, height: 8 }),
    drawn("rect", { class: `fill ${kind}`, width: percent, height: 8 }),
    place !== null && drawn("rect", { class: "mark", x: place, width: .6, height: 8 })));
}

function nextLogin(token) {
  if (token.login_in_progress) return "logging in now";
  return token.next_login_in_s > 0 ? `next login in ${lasting(token.next_login_in_s)}` : "a login is due";
}

function token(one, now) {
  const life = Math.max(1, one.usable_life_s);
  const left = one.state === "unusable" ? "no token that can be sent" : `${lasting(one.runway_s)} left`;
  const plan = nextLogin(one);
  const mark = one.login_in_progress || one.runway_s === 0 ? null : (one.runway_s - one.next_login_in_s) / life;
  const failure = one.last_failure;
  return el("li", { class: "card", "data-key": one.customer },
    el("div", { class: "top" },
      el("h3", {}, one.customer),
      el("span", { class: `badge ${KIND[one.state]}` }, WORDS[one.state])),
    bar(KIND[one.state], one.runway_s / life, mark > 0 ? mark : null, `Runway of ${one.customer}`, `${left}, ${plan}`),
    el("p", { class: "number" }, `${left} · ${plan}`),
    one.consecutive_failures > 0 && el("p", { class: one.state === "unusable" ? "bad" : "warn" },
      `${one.consecutive_failures} failed ${one.consecutive_failures === 1 ? "login" : "logins"} in a row`),
    failure && failure.lasts && el("p", {}, el("b", {}, failure.outcome), ` – ${failure.advice}, `, moment(failure.at, now)),
    failure && failure.lasts && failure.transaction_id &&
      el("ul", { class: "ids" }, copyable("Citrix's id of the failed login", failure.transaction_id)),
    el("p", { class: "quiet" }, [
      one.generation > 0 && `token ${one.generation}`,
      one.secret && `from ${SECRETS[one.secret]}`,
      one.clock_skew_s !== null && Math.abs(one.clock_skew_s) > 5 && `our clock is ${one.clock_skew_s} s off`,
      failure && !failure.lasts && `last failure: ${failure.outcome}`,
    ].filter(Boolean).join(" · ")));
}

/** The worst first, then by what is left. */
export function tokens(status, all) {
  const order = { unusable: 0, stale: 1, fresh: 2 };
  const sorted = [...status.tokens].sort((a, b) => order[a.state] - order[b.state] || a.customer.localeCompare(b.customer));
  const shown = all ? sorted : sorted.slice(0, FEW);
  return [
    el("ul", { class: "cards tokens" }, ...shown.map((one) => token(one, status.now))),
    sorted.length > FEW && el("button", { type: "button", class: "more", "data-toggle": "tokens" },
      all ? "Show fewer" : `Show all ${sorted.length}`),
  ];
}

function troubles(route) {
  const codes = Object.entries(route.codes).filter(([code]) => code >= "400");
  const reasons = Object.entries(route.reasons);
  const words = [...codes, ...reasons].map(([name, number]) => `${name}: ${count(number)}`);
  const last = words.length - 1;
  const list = words.map((word, index) => [el("span", {}, index < last ? `${word},` : word), " "]);
  return words.length > 0 ? el("span", { class: "reasons" }, ...list.flat()) : "–";
}

export function routes(status) {
  if (status.routes.length === 0) return [el("p", { class: "quiet" }, "No request is over yet.")];
  const quantiles = (latency) => latency.p50_ms === null ? "–"
    : `${milliseconds(latency.p50_ms)} / ${milliseconds(latency.p99_ms)}`;
  const server = (lately) => lately.server_errors === 0 ? "0"
    : el("span", { class: "bad" }, `${count(lately.server_errors)} of ${count(lately.requests)}`);
  return [table("Routes", [
    { title: "Route", head: true, of: (route) => route.name === "none" ? "no route" : el("code", {}, route.name) },
    { title: "Last minute", number: true, of: (route) => rate(route.rate_1m) },
    { title: "Last 5 min", number: true, of: (route) => rate(route.rate_5m) },
    { title: "Half / 99 % within", number: true, of: (route) => quantiles(route.last_5m.latency) },
    { title: "Citrix alone", number: true, of: (route) => quantiles(route.last_5m.upstream) },
    { title: "5xx, 5 min", number: true, of: (route) => server(route.last_5m) },
    { title: "Requests", number: true, of: (route) => count(route.requests) },
    { title: "Errors since the start", wide: true, of: troubles },
  ], status.routes, (route) => route.name)];
}

function used(label, now, most) {
  const share = now / Math.max(1, most);
  const kind = share >= 1 ? "bad" : share >= .9 ? "warn" : "good";
  const words = `${count(now)} of ${count(most)}`;
  return el("li", { class: "card" }, el("div", { class: "top" }, el("h3", {}, label), el("span", { class: "number end" }, words)),
    bar(kind, share, null, label, words));
}

export function load(status) {
  const { load, queues } = status;
  return [
    el("ul", { class: "cards tokens" },
      used("Requests in flight", load.in_flight, load.max_in_flight),
      used("Connections of callers", load.connections, load.max_connections)),
    queues.length > 0 && el("div", { class: "more" }, table("Queues", [
      { title: "Queue of route", head: true, of: (queue) => el("code", {}, queue.route) },
      { title: "Waiting now", number: true, of: (queue) => count(queue.waiting) },
      { title: "Waited, 5 min", number: true, of: (queue) => count(queue.waited) },
      { title: "Half / 99 % up to", number: true, of: (queue) => queue.p50_ms === null ? "–" : `${milliseconds(queue.p50_ms)} / ${milliseconds(queue.p99_ms)}` },
    ], queues, (queue) => queue.route)),
  ];
}

export function callers(status) {
  if (status.callers.length === 0) return [el("p", { class: "quiet" }, "Nobody came yet.")];
  const names = { anonymous: "anonymous (nobody is configured)", none: "unknown" };
  const isObserved = status.callers.some((caller) => caller.mode === "observe");
  const wouldDeny = (caller) => caller.mode !== "observe" ? "–" : caller.would_deny === 0 ? "0"
    : el("span", { class: "warn" }, count(caller.would_deny));
  return [table("Callers", [
    { title: "Caller", head: true, of: (caller) => caller.configured ? caller.name : names[caller.name] ?? caller.name },
    { title: "Last seen", of: (caller) => moment(caller.last_seen_at, status.now) ?? "never" },
    { title: "Requests", number: true, of: (caller) => count(caller.requests) },
    { title: "Refused", number: true, of: (caller) => caller.refused === 0 ? "0" : el("span", { class: "warn" }, count(caller.refused)) },
    ...(isObserved ? [{ title: "Observed: would be refused", number: true, of: wouldDeny }] : []),
  ], status.callers, (caller) => caller.name)];
}

export function retired(status) {
  if (status.retired.length === 0) return [el("p", { class: "quiet" }, "None was used since the start.")];
  return [table("Retired addresses in use", [
    { title: "Address", head: true, of: (use) => el("code", {}, use.retired) },
    { title: "Leads to", of: (use) => el("code", {}, use.route) },
    { title: "Caller", of: (use) => [use.caller, use.address && ` at ${use.address}`] },
    { title: "Requests", number: true, of: (use) => count(use.count) },
    { title: "Last", of: (use) => moment(use.last_at, status.now) },
  ], status.retired, (use) => [use.retired, use.route, use.caller, use.address].join(" "))];
}

export function customers(status, all) {
  const shown = all ? status.customers : status.customers.slice(0, FEW);
  const site = (customer) => customer.instance_id ? el("code", {}, customer.instance_id)
    : customer.instance_id_from === "auto" ? "not asked yet" : "–";
  return [table("Customers", [
    { title: "Customer", head: true, of: (customer) => customer.default && status.customers.length > 1 ? `${customer.id} (default)` : customer.id },
    { title: "Cloud", of: (customer) => customer.cloud },
    { title: "API gateway", of: (customer) => el("code", {}, customer.api) },
    { title: "Site", of: site },
    { title: "Moved services", number: true, of: (customer) => customer.moves === 0 ? "–" : String(customer.moves) },
  ], shown, (customer) => customer.id),
  status.customers.length > FEW && el("button", { type: "button", class: "more", "data-toggle": "customers" },
    all ? "Show fewer" : `Show all ${status.customers.length}`)];
}

export function about(status) {
  const { program } = status;
  const certificates = status.certificates.map((one) => [`Certificate of ${one.of}`, moment(one.expires_at, status.now)]);
  return [el("div", { class: "card" }, facts([
    ["Version", `${program.version} (${program.commit})`],
    ["Phase", program.phase],
    ["Started", moment(program.started_at, status.now)],
    ["Configuration loaded", moment(program.config_loaded_at, status.now)],
    ["Workers", String(program.workers)],
    ["Public address", program.public_url],
    ["Log level", program.log_level],
    ["Log lines lost", program.log_lines_lost > 0 ? count(program.log_lines_lost) : null],
    ...certificates,
  ]))];
}
