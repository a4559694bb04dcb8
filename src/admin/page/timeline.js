// The history of a token: logins, failures and 401s.

import { clock, count, el, moment, svg } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 24;

const KINDS = { login: "good", adopted: "good", login_failed: "bad", unauthorized: "warn" };
const NUMBERS = { login: "logins", adopted: "adopted tokens", login_failed: "failed logins", unauthorized: "times 401" };
const UNAUTHORIZED = {
  accepted: "replay accepted",
  refused_again: "replay rejected again",
  not_replayable: "not replayable",
  suppressed: "refresh suppressed",
  deferred: "refresh deferred",
  refresh_failed: "refresh failed",
};

function text({ kind, outcome, generation, secret }) {
  switch (kind) {
    case "login": return `Login: token ${generation}${secret === "next" ? " from client_secret_next" : secret === "remembered" ? " from the last working secret" : ""}`;
    case "adopted": return `Token ${generation} from the cache or another replica`;
    case "login_failed": return `Failed login: ${outcome}`;
    default: return `401 from Citrix: ${UNAUTHORIZED[outcome] ?? outcome}`;
  }
}

/** Returns the details of a token's card. `history` is the response of /tokens/{customer}/events, or undefined. */
export function timeline(customer, history) {
  return el("details", { "data-events": customer },
    el("summary", {}, "History"),
    history === undefined ? el("p", { class: "quiet" }, "Loading…") : content(history));
}

function content({ events, now }) {
  if (events.length === 0) return el("p", { class: "quiet" }, "Nothing since the start.");
  return el("div", {},
    strip(events, now),
    el("ol", { class: "events" }, ...events.map((event) => el("li", {},
      moment(event.at, now),
      el("span", { class: KINDS[event.kind] }, text(event)),
      event.count > 1 && el("span", { class: "quiet" }, `${count(event.count)} times since `, moment(event.first_at, now))))));
}

/** Returns a mark for each event, and a bar for one with repetitions, from the oldest to now. */
function strip(events, now) {
  const start = Math.min(...events.map((event) => Date.parse(event.first_at)));
  const length = Math.max(1000, Date.parse(now) - start);
  const x = (at) => Math.round((Date.parse(at) - start) / length * WIDTH * 10) / 10;
  const numbers = Object.entries(NUMBERS).map(([kind, words]) => {
    const number = events.filter((event) => event.kind === kind).reduce((sum, event) => sum + event.count, 0);
    return number > 0 ? `${count(number)} ${words}` : null;
  });
  const label = `Since ${new Date(start).toLocaleString()}: ${numbers.filter(Boolean).join(", ")}`;
  const mark = ({ kind, first_at, at }) =>
    svg("rect", { class: `event ${KINDS[kind]}`, x: Math.min(x(first_at), WIDTH - 2), y: kind === "login" || kind === "adopted" ? 10 : 2, width: Math.max(2, x(at) - x(first_at)), height: kind === "login" || kind === "adopted" ? 12 : 20 });
  return el("div", {},
    svg("svg", { class: "strip", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
      svg("title", {}, label),
      svg("path", { class: "base", d: `M0 22H${WIDTH}` }),
      ...events.map(mark)),
    el("p", { class: "axis time", "aria-hidden": "true" }, el("span", {}, clock(new Date(start), false)), el("span", {}, "now")));
}
