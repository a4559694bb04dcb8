// The status page: asks for /status.json every two seconds and shows it.

import { clock, el, lasting, show } from "./dom.js";
import { exchangeList, find } from "./exchanges.js";
import { Poll } from "./poll.js";
import * as sections from "./sections.js";

const by = (id) => document.getElementById(id);
/** The lists of which everything is shown. */
const all = new Set();
let last = null;
let answeredAt = null;

function render(status) {
  const [text, level] = sections.headline(status);
  // Set only when it changed: it is read aloud.
  if (by("headline").textContent !== text) by("headline").textContent = text;
  by("headline").className = `headline ${level}`;
  document.title = level === "good" || level === "notice" ? status.program.name : `(!) ${text}`;
  by("program").textContent = ` · ${status.program.version} · up\u00a0${lasting(status.program.uptime_s)}`;
  show(by("alerts"), ...sections.alerts(status));
  show(by("tokens"), ...sections.tokens(status, all.has("tokens")));
  show(by("routes"), ...sections.routes(status));
  const failures = exchangeList(status.failures, status.now, all.has("failures"), "failures", 5, "None that is remembered.");
  show(by("failures"), ...failures);
  const refusals = exchangeList(status.refusals, status.now, all.has("refusals"), "refusals", 3, "Nobody was refused.");
  show(by("refusals"), ...refusals);
  show(by("load"), ...sections.load(status));
  show(by("callers"), ...sections.callers(status));
  show(by("retired"), ...sections.retired(status));
  show(by("customers"), ...sections.customers(status, all.has("customers")));
  show(by("about"), ...sections.about(status));
}

function answered(status) {
  [last, answeredAt] = [status, new Date()];
  by("stale").hidden = true;
  document.body.classList.remove("is-stale");
  by("as-of").textContent = `as of ${clock(answeredAt)}`;
  render(status);
}

function failed(why, wait) {
  const since = answeredAt ? `Stale since ${clock(answeredAt)}` : "Nothing to show";
  const words = `${since}: the gateway does not answer (${why}). Next try in ${lasting(wait / 1000)}.`;
  by("stale-text").textContent = words;
  by("stale").hidden = false;
  document.body.classList.add("is-stale");
  document.title = "(!) no answer";
  by("headline").className = "headline critical";
  if (by("headline").textContent !== "The gateway does not answer") by("headline").textContent = "The gateway does not answer";
}

const poll = new Poll("/status.json", answered, failed);

by("retry").addEventListener("click", () => poll.now());
by("pause").addEventListener("click", () => {
  const paused = by("pause").getAttribute("aria-pressed") !== "true";
  by("pause").setAttribute("aria-pressed", String(paused));
  poll.pause(paused);
});

async function look(id) {
  const found = by("found");
  found.hidden = false;
  try {
    show(found, ...await find(id));
  } catch (error) {
    show(found, el("p", { class: "card bad" }, `The gateway could not be asked: ${error.message}`));
  }
  (found.querySelector("h3") ?? found).focus();
}

by("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = by("id").value.trim();
  if (id) look(id);
});

// One listener for all buttons, since lists come and go.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copy) {
    const done = await copy(button);
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } else if (button?.dataset.toggle) {
    const name = button.dataset.toggle;
    if (!all.delete(name)) all.add(name);
    if (last) render(last);
  }
});

/** Browsers lend the clipboard only to pages of https and of this machine; elsewhere the old way may do. */
async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    return true;
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling ?? button);
    return document.execCommand("copy");
  }
}

// `/#id=…` looks the id up, so that a note or an alert can link to it.
const wanted = new URLSearchParams(location.hash.slice(1)).get("id");
if (wanted) {
  by("id").value = wanted;
  look(wanted);
}
poll.now();
