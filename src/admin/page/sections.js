// The sections of the page, each a function of the status.

import { copyable } from "./exchanges.js";
import { spark } from "./charts.js";
import { timeline } from "./timeline.js";
import { count, duration, el, facts, milliseconds, moment, rate, svg, table } from "./dom.js";

const KINDS = { fresh: "good", stale: "warn", unusable: "bad" };
const STATES = { fresh: "fresh", stale: "stale but valid", unusable: "unusable" };
const SECRETS = { first: "client_secret", next: "client_secret_next", remembered: "the last working secret" };
const FEW = 12;

/** Returns whether Citrix rejects the requests of a customer that has a token. */
function isRejected(token) {
  return token.state !== "unusable" && token.rejection !== null;
}

/** Returns whether a token that is not rejected, so far, belongs to another customer. */
function isForeign(token) {
  return token.state !== "unusable" && token.other_customer !== null && !isRejected(token);
}

/** Returns the headline and its level. The text changes only with the state, since screen readers announce it. */
export function headline(status) {
  const worst = status.alerts[0]?.level ?? "good";
  if (status.program.phase !== "running") return [`The gateway is ${status.program.phase}`, "warning"];
  const [all, rejected] = [status.tokens.length, status.tokens.filter(isRejected).length];
  if (!status.ready) {
    const without = status.tokens.filter((token) => token.state === "unusable").length;
    const more = rejected > 0 ? `, Citrix rejects ${rejected} more` : "";
    return [`Not ready: ${without} of ${all} customers without a token${more}`, "critical"];
  }
  if (rejected > 0) return [all === 1 ? "Citrix rejects the customer" : `Citrix rejects ${rejected} of ${all} customers`, "critical"];
  const foreign = status.tokens.filter(isForeign).length;
  if (foreign > 0 && worst === "warning") {
    return [all === 1 ? "The token belongs to another customer" : `The tokens of ${foreign} of ${all} customers belong to others`, worst];
  }
  const number = (level) => status.alerts.filter((alert) => alert.level === level).length;
  const [critical, warnings] = [number("critical"), number("warning")];
  if (critical + warnings === 0) return ["Ready, no problems", worst];
  const parts = [critical && `${critical} critical`, warnings && `${warnings} ${warnings === 1 ? "warning" : "warnings"}`];
  return [`Ready, but ${parts.filter(Boolean).join(" and ")}`, worst];
}

export function alerts(status) {
  const word = { critical: "Critical:", warning: "Warning:", notice: "Notice:" };
  return status.alerts.map((alert) =>
    el("li", { class: alert.level, "data-key": alert.kind + alert.text.slice(0, 20) }, el("b", {}, word[alert.level]), alert.text,
      alert.runbook && el("a", { href: `/${alert.runbook}` }, "Runbook", el("span", { class: "visually-hidden" }, ` for ${alert.kind.replaceAll("_", " ")}`))));
}

/** Returns a bar for `share`, with an optional mark; both are fractions. */
function bar(kind, share, mark, label, text) {
  const percent = Math.round(Math.min(1, Math.max(0, share)) * 1000) / 10;
  const position = mark === null ? null : Math.min(99.4, Math.max(0, mark * 100));
  return el("div", {
    class: "meter", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": Math.round(percent), "aria-valuetext": text,
  }, svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
    svg("rect", { class: "track", width: 100, height: 8 }),
    svg("rect", { class: `fill ${kind}`, width: percent, height: 8 }),
    position !== null && svg("rect", { class: "mark", x: position, width: .6, height: 8 })));
}

function nextLogin(token) {
  if (token.login_in_progress) return "logging in now";
  return token.next_login_in_s > 0 ? `next login in ${duration(token.next_login_in_s)}` : "a login is due";
}

function token(one, now, history) {
  const lifetime = Math.max(1, one.usable_life_s);
  const left = one.state === "unusable" ? "no usable token" : `${duration(one.runway_s)} left`;
  const plan = nextLogin(one);
  const mark = one.login_in_progress || one.runway_s === 0 ? null : (one.runway_s - one.next_login_in_s) / lifetime;
  const failure = one.last_failure;
  const [kind, state] = isRejected(one) ? ["bad", "rejected by Citrix"]
    : isForeign(one) ? ["warn", "of another customer"] : [KINDS[one.state], STATES[one.state]];
  return el("li", { class: "card", "data-key": one.customer },
    el("div", { class: "top" },
      el("h3", {}, one.customer),
      el("span", { class: `badge ${kind}` }, state)),
    bar(kind, one.runway_s / lifetime, mark > 0 ? mark : null, `Remaining token lifetime of ${one.customer}`, `${left}, ${plan}`),
    el("p", { class: "number" }, `${left} · ${plan}`),
    rejection(one, now),
    one.other_customer && el("p", { class: "warn" }, `The token belongs to customer ${one.other_customer}`),
    one.consecutive_failures > 0 && el("p", { class: one.state === "unusable" ? "bad" : "warn" },
      `${one.consecutive_failures} failed ${one.consecutive_failures === 1 ? "login" : "logins"} in a row`),
    failure && failure.lasts && el("p", {}, el("b", {}, failure.outcome), ` – ${failure.advice}, `, moment(failure.at, now)),
    failure && failure.lasts && failure.transaction_id &&
      el("ul", { class: "ids" }, copyable("Transaction id of the failed login", failure.transaction_id)),
    el("p", { class: "quiet" }, [
      one.generation > 0 && `token ${one.generation}`,
      one.secret && `from ${SECRETS[one.secret]}`,
      one.clock_skew_s !== null && Math.abs(one.clock_skew_s) > 5 && `clock skew ${one.clock_skew_s} s`,
      failure && !failure.lasts && `last failure: ${failure.outcome}`,
    ].filter(Boolean).join(" · ")),
    timeline(one.customer, history));
}

function rejection(token, now) {
  if (!isRejected(token)) return null;
  const { code, requests, since } = token.rejection;
  const text = requests === 1 ? `Citrix rejected a request (${code}), ` : `Citrix rejected ${count(requests)} requests in a row (${code}), the first `;
  return el("p", { class: "bad" }, text, moment(since, now));
}

/** Sorted by state, the worst first, then by customer. `histories` are those that were requested, by customer. */
export function tokens(status, all, histories) {
  const order = { unusable: 0, stale: 3, fresh: 4 };
  const rank = (token) => isRejected(token) ? 1 : isForeign(token) ? 2 : order[token.state];
  const sorted = [...status.tokens].sort((a, b) => rank(a) - rank(b) || a.customer.localeCompare(b.customer));
  const shown = all ? sorted : sorted.slice(0, FEW);
  return [
    el("ul", { class: "cards tokens" }, ...shown.map((one) => token(one, status.now, histories.get(one.customer)))),
    sorted.length > FEW && el("button", { type: "button", class: "more", "data-toggle": "tokens" },
      all ? "Show fewer" : `Show all ${sorted.length}`),
  ];
}

function errors(route) {
  const codes = Object.entries(route.codes).filter(([code]) => code >= "400");
  const reasons = Object.entries(route.reasons);
  const words = [...codes, ...reasons].map(([name, number]) => `${name}: ${count(number)}`);
  const last = words.length - 1;
  const list = words.map((word, index) => [el("span", {}, index < last ? `${word},` : word), " "]);
  return words.length > 0 ? el("span", { class: "reasons" }, ...list.flat()) : "–";
}

export function routes(status, history) {
  if (status.routes.length === 0) return [el("p", { class: "quiet" }, "No completed requests yet.")];
  const quantiles = (latency) => latency.p50_ms === null ? "–"
    : `${milliseconds(latency.p50_ms)} / ${milliseconds(latency.p99_ms)}`;
  const server = (recent) => recent.server_errors === 0 ? "0"
    : el("span", { class: "bad" }, `${count(recent.server_errors)} of ${count(recent.requests)}`);
  return [table("Routes", [
    { title: "Route", head: true, of: (route) => route.name === "none" ? "no route" : el("code", {}, route.name) },
    { title: "Last hour", of: (route) => spark(history, "route", route.name) ?? "–" },
    { title: "Last minute", number: true, of: (route) => rate(route.rate_1m) },
    { title: "Last 5 min", number: true, of: (route) => rate(route.rate_5m) },
    { title: "p50 / p99", number: true, of: (route) => quantiles(route.last_5m.latency) },
    { title: "Citrix p50 / p99", number: true, of: (route) => quantiles(route.last_5m.upstream) },
    { title: "5xx, 5 min", number: true, of: (route) => server(route.last_5m) },
    { title: "Requests", number: true, of: (route) => count(route.requests) },
    { title: "Errors since start", wide: true, of: errors },
  ], status.routes, (route) => route.name)];
}

function usage(label, used, limit) {
  const share = used / Math.max(1, limit);
  const kind = share >= 1 ? "bad" : share >= .9 ? "warn" : "good";
  const text = `${count(used)} of ${count(limit)}`;
  return el("li", { class: "card" }, el("div", { class: "top" }, el("h3", {}, label), el("span", { class: "number end" }, text)),
    bar(kind, share, null, label, text));
}

export function load(status) {
  const { load, queues } = status;
  return [
    el("ul", { class: "cards tokens" },
      usage("Requests in flight", load.in_flight, load.max_in_flight),
      usage("Connections of callers", load.connections, load.max_connections)),
    queues.length > 0 && el("div", { class: "more" }, table("Queues", [
      { title: "Queue of route", head: true, of: (queue) => el("code", {}, queue.route) },
      { title: "Waiting now", number: true, of: (queue) => count(queue.waiting) },
      { title: "Waited, 5 min", number: true, of: (queue) => count(queue.waited) },
      { title: "Wait p50 / p99", number: true, of: (queue) => queue.p50_ms === null ? "–" : `${milliseconds(queue.p50_ms)} / ${milliseconds(queue.p99_ms)}` },
    ], queues, (queue) => queue.route)),
  ];
}

/** The last use of each secret of a caller that has several. */
function secretsOf(caller, now) {
  const uses = caller.secrets.map((secret) => `${secret.sha256}…: ${moment(secret.last_used_at, now) ?? "never"}`);
  return uses.length > 1 ? uses.join(", ") : "–";
}

/** The requests in progress, and their limit if there is one. */
function inFlight(caller) {
  if (caller.in_flight === null) return "–";
  if (caller.max_concurrent === null) return count(caller.in_flight);
  const isFull = caller.in_flight >= caller.max_concurrent;
  return el("span", { class: isFull && "warn" }, `${count(caller.in_flight)} of ${count(caller.max_concurrent)}`);
}

function lastError(caller, now) {
  const error = caller.last_error;
  if (!error) return "–";
  const label = [error.status, error.reason].filter(Boolean).join(" ");
  return [el("a", { href: `#id=${encodeURIComponent(error.request_id)}` }, label), ", ", moment(error.at, now)];
}

export function callers(status, history) {
  if (status.callers.length === 0) return [el("p", { class: "quiet" }, "No requests yet.")];
  const names = { anonymous: "anonymous (no callers configured)", none: "unknown" };
  const isObserved = status.callers.some((caller) => caller.mode === "observe");
  const isRotating = status.callers.some((caller) => caller.secrets.length > 1);
  const wouldDeny = (caller) => caller.mode !== "observe" ? "–" : caller.would_deny === 0 ? "0"
    : el("span", { class: "warn" }, count(caller.would_deny));
  return [table("Callers", [
    { title: "Caller", head: true, of: (caller) => caller.configured ? caller.name : names[caller.name] ?? caller.name },
    { title: "Last seen", of: (caller) => moment(caller.last_seen_at, status.now) ?? "never" },
    { title: "Last hour", of: (caller) => spark(history, "caller", caller.name) ?? "–" },
    { title: "Last minute", number: true, of: (caller) => rate(caller.rate_1m) },
    { title: "In flight", number: true, of: inFlight },
    { title: "Requests", number: true, of: (caller) => count(caller.requests) },
    { title: "Rejected", number: true, of: (caller) => caller.refused === 0 ? "0" : el("span", { class: "warn" }, count(caller.refused)) },
    { title: "Last error", of: (caller) => lastError(caller, status.now) },
    ...(isRotating ? [{ title: "Last use of each secret", of: (caller) => secretsOf(caller, status.now) }] : []),
    ...(isObserved ? [{ title: "Observed: would be rejected", number: true, of: wouldDeny }] : []),
  ], status.callers, (caller) => caller.name)];
}

export function retired(status) {
  if (status.retired.length === 0) return [el("p", { class: "quiet" }, "None used since start.")];
  return [table("Retired addresses in use", [
    { title: "Address", head: true, of: (use) => el("code", {}, use.retired) },
    { title: "Current address", of: (use) => el("code", {}, use.route) },
    { title: "Caller", of: (use) => [use.caller, use.address && ` at ${use.address}`] },
    { title: "Requests", number: true, of: (use) => count(use.count) },
    { title: "Last", of: (use) => moment(use.last_at, status.now) },
  ], status.retired, (use) => [use.retired, use.route, use.caller, use.address].join(" "))];
}

export function customers(status, all) {
  const shown = all ? status.customers : status.customers.slice(0, FEW);
  const site = (customer) => customer.instance_id ? el("code", {}, customer.instance_id)
    : customer.instance_id_from === "auto" ? "not looked up yet" : "–";
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

const FLEET_STATES = { joined: "good", away: "warn", alone: "warn" };

/** Returns the state of the fleet, its replicas and the holders of permits. `members` is the response of /fleet, or null. */
export function fleet(status, members) {
  if (!status.fleet) return [];
  const { state, replica, replicas, store } = status.fleet;
  const summary = el("div", { class: "card" },
    el("div", { class: "top" }, el("h3", {}, replica || "This replica"), el("span", { class: `badge ${FLEET_STATES[state]}` }, state)),
    facts([
      ["Replicas", String(replicas)],
      ["Store", store ? el("code", {}, store) : "none"],
      ["Differ in", members?.differ.length ? el("span", { class: "warn" }, members.differ.join(", ")) : null],
    ]));
  if (!members?.replicas) return [summary];
  return [summary, replicaTable(members), permitTable(members)];
}

function replicaTable(members) {
  const key = (one) => one.key === "differs" ? el("span", { class: "bad" }, "differs") : one.key ?? "–";
  return el("div", { class: "more" }, table("Replicas", [
    { title: "Replica", head: true, of: (one) => `${one.name || one.id}${one.this ? " (this one)" : ""}` },
    { title: "Version", of: (one) => one.version ?? "–" },
    { title: "Configuration", of: (one) => one.configuration ? el("code", {}, one.configuration) : "–" },
    { title: "Phase", of: (one) => one.phase ?? "–" },
    { title: "Started", of: (one) => moment(one.started_at, members.now) ?? "–" },
    { title: "Last heartbeat", number: true, of: (one) => `${duration(one.last_heartbeat_s)} ago` },
    { title: "Key", of: key },
  ], members.replicas, (one) => one.id));
}

function permitTable(members) {
  if (members.queues.length === 0) return el("p", { class: "quiet" }, "No permit is in use.");
  const holders = (queue) => queue.holders.map((holder) => holder.name || holder.id).join(", ") || "–";
  return el("div", { class: "more" }, table("Permits", [
    { title: "Service", head: true, of: (queue) => el("code", {}, queue.service) },
    { title: "Customer", of: (queue) => queue.customer },
    { title: "Held by", of: holders },
    { title: "Permits", number: true, of: (queue) => count(queue.at_once) },
    { title: "Waiting", number: true, of: (queue) => count(queue.waiting) },
  ], members.queues, (queue) => `${queue.customer} ${queue.service}`));
}

/** What is in effect: egress, roots, versions, connections and the last reload. */
function inEffect(status) {
  const { in_effect: effect, now } = status;
  const { roots, last_reload: reload } = effect;
  const first = roots.certificates[0];
  return [
    ["Egress", effect.egress_proxy ? el("code", {}, `proxy ${effect.egress_proxy}`) : "direct"],
    ["Trusted roots", `${count(roots.system)} of the system${roots.ca_file ? `, ${roots.certificates.length} in upstream.ca_file` : ""}`],
    ["upstream.ca_file", roots.ca_file && [el("code", {}, roots.ca_file), first && ", first expiry ", first && moment(first.expires_at, now)]],
    ["HTTP/2 to Citrix", effect.http2 === "auto" ? "if the server chooses it" : "never"],
    ["Connections in use", count(effect.connections_active)],
    ["Last reload", reload ? [el("span", { class: reload.outcome === "refused" ? "bad" : null }, RELOADS[reload.outcome]), ", ", moment(reload.at, now)] : "none since the start"],
  ];
}

const RELOADS = { applied: "applied", unchanged: "nothing changed", refused: "rejected, the previous configuration stays in effect" };

function connections({ in_effect: effect }) {
  if (effect.connections.length === 0) return null;
  return el("div", { class: "more" }, table("Connections to Citrix", [
    { title: "Host", head: true, of: (one) => el("code", {}, one.origin) },
    { title: "Version", of: (one) => one.version },
    { title: "Idle, HTTP/1.1", number: true, of: (one) => count(one.http1_idle) },
    { title: "HTTP/2", number: true, of: (one) => count(one.http2) },
  ], effect.connections, (one) => one.origin));
}

export function about(status) {
  const { program } = status;
  const certificates = status.certificates.map((one) => [`Certificate of ${one.of}`, moment(one.expires_at, status.now)]);
  return [el("div", { class: "card" }, facts([
    ["Version", `${program.version} (${program.commit})`],
    ["Phase", program.phase],
    ["Started", moment(program.started_at, status.now)],
    ["Configuration loaded", moment(program.config_loaded_at, status.now)],
    ...inEffect(status),
    ["Workers", String(program.workers)],
    ["Public URL", program.public_url],
    ["Log level", program.log_level],
    ["Log lines lost", program.log_lines_lost > 0 ? count(program.log_lines_lost) : null],
    ...certificates,
  ])), connections(status)].filter(Boolean);
}
