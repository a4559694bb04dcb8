// The status page: polls /status.json every two seconds and renders it.

import { charts, scopes } from "./charts.js";
import { clock, duration, el, show } from "./dom.js";
import { find, repeatList } from "./exchanges.js";
import { Poll } from "./poll.js";
import * as sections from "./sections.js";

const byId = (id) => document.getElementById(id);
/** Names of the lists that are shown completely. */
const expanded = new Set();
let last = null;
let updatedAt = null;
/** The response of /history.json; null before the first. */
let history = null;
let historyAt = -Infinity;
/** Responses of /tokens/{customer}/events by customer, of those whose details were opened. */
const tokenHistories = new Map();
/** The response of /fleet; null without a store, or if it failed. */
let members = null;

function render(status) {
  const [text, level] = sections.headline(status);
  // Set only on change: screen readers announce it.
  if (byId("headline").textContent !== text) byId("headline").textContent = text;
  byId("headline").className = `headline ${level}`;
  document.title = level === "good" || level === "notice" ? status.program.name : `(!) ${text}`;
  byId("program").textContent = ` · ${status.program.version} · up\u00a0${duration(status.program.uptime_s)}`;
  show(byId("alerts"), ...sections.alerts(status));
  show(byId("tokens"), ...sections.tokens(status, expanded.has("tokens"), tokenHistories));
  show(byId("routes"), ...sections.routes(status, history));
  const failures = repeatList(status.repeated_failures, status.now, expanded.has("failures"), "failures", 5, "No recent failures.");
  show(byId("failures"), ...failures);
  const refusals = repeatList(status.repeated_refusals, status.now, expanded.has("refusals"), "refusals", 3, "No recent rejections.");
  show(byId("refusals"), ...refusals);
  show(byId("load"), ...sections.load(status));
  show(byId("callers"), ...sections.callers(status, history));
  show(byId("retired"), ...sections.retired(status));
  show(byId("customers"), ...sections.customers(status, expanded.has("customers")));
  for (const id of ["fleet-section", "fleet-link"]) byId(id).hidden = !status.fleet;
  show(byId("fleet"), ...sections.fleet(status, members));
  show(byId("about"), ...sections.about(status));
}

/** Requests the replicas of a fleet that shares a store. */
async function updateMembers(status) {
  let found = null;
  if (status.fleet?.store) {
    try {
      const response = await fetch("/fleet", { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (response.ok) found = await response.json();
    } catch {
      // The section states that they are unknown.
    }
  }
  if (found === null && members === null) return;
  members = found;
  if (last) render(last);
}

function renderHistory() {
  if (history === null) return;
  const selected = byId("scope");
  show(selected, ...scopes(history));
  show(byId("hour"), ...charts(history, selected.value));
}

/** Requests the last hour, which changes every ten seconds. */
async function updateHistory() {
  if (performance.now() - historyAt < 10000) return;
  historyAt = performance.now();
  try {
    const response = await fetch("/history.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!response.ok) return;
    history = await response.json();
  } catch {
    // The next poll reports that the gateway does not respond.
    return;
  }
  renderHistory();
  for (const open of document.querySelectorAll("details[open][data-events]")) updateTokenHistory(open.dataset.events);
  if (last) render(last);
}

/** Requests the history of a token whose details are open. */
async function updateTokenHistory(customer) {
  try {
    const response = await fetch(`/tokens/${encodeURIComponent(customer)}/events`, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (response.ok) tokenHistories.set(customer, await response.json());
  } catch {
    // The next poll reports that the gateway does not respond.
  }
  if (last) render(last);
}

// The event does not bubble.
document.addEventListener("toggle", ({ target }) => {
  if (target.open && target.dataset?.events) updateTokenHistory(target.dataset.events);
}, true);

byId("scope").addEventListener("change", renderHistory);

function updated(status) {
  [last, updatedAt] = [status, new Date()];
  byId("stale").hidden = true;
  document.body.classList.remove("is-stale");
  byId("as-of").textContent = `as of ${clock(updatedAt)}`;
  render(status);
  updateMembers(status);
  updateHistory();
}

function failed(cause, wait) {
  const since = updatedAt ? `Stale since ${clock(updatedAt)}` : "No data";
  const text = `${since}: the gateway does not respond (${cause}). Next retry in ${duration(wait / 1000)}.`;
  byId("stale-text").textContent = text;
  byId("stale").hidden = false;
  document.body.classList.add("is-stale");
  document.title = "(!) no response";
  byId("headline").className = "headline critical";
  if (byId("headline").textContent !== "The gateway does not respond") byId("headline").textContent = "The gateway does not respond";
}

const poll = new Poll("/status.json", updated, failed);

byId("retry").addEventListener("click", () => poll.now());
byId("pause").addEventListener("click", () => {
  const paused = byId("pause").getAttribute("aria-pressed") !== "true";
  byId("pause").setAttribute("aria-pressed", String(paused));
  poll.pause(paused);
});

/** Searches for what the form asks for, and names it in the address of the page. */
async function search() {
  const fields = [...new FormData(byId("find"))].map(([name, value]) => [name, value.trim()]);
  const wanted = new URLSearchParams(fields.filter(([, value]) => value !== ""));
  window.history.replaceState(null, "", `#${wanted}`);
  const found = byId("found");
  found.hidden = false;
  try {
    show(found, ...await find(wanted));
  } catch (error) {
    show(found, el("p", { class: "card bad" }, `Lookup failed: ${error.message}`));
  }
  (found.querySelector("h3") ?? found).focus();
}

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});

// One listener for all buttons, since lists are replaced.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copy) {
    const done = await copy(button);
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } else if (button?.dataset.toggle) {
    const name = button.dataset.toggle;
    if (!expanded.delete(name)) expanded.add(name);
    if (last) render(last);
  }
});

/** Copies an id. The Clipboard API requires https or localhost; elsewhere `execCommand` may work. */
async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    return true;
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling ?? button);
    return document.execCommand("copy");
  }
}

/** `/#id=…` looks up the id, so that alerts and tickets can link to it; likewise the other fields of the form. */
function followHash() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const fields = [...byId("find").querySelectorAll("input")];
  if (!fields.some((field) => wanted.get(field.name))) return;
  for (const field of fields) field.value = wanted.get(field.name) ?? "";
  search();
}

addEventListener("hashchange", followHash);
followHash();
poll.now();
