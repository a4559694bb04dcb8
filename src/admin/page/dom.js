// Creates elements and merges them into the document. All text becomes text nodes: text from callers or Citrix is never
// parsed as HTML.

/** Returns an element. Attributes and children that are null, undefined or false are omitted. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Returns an SVG element. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Replaces the children of `target`, but modifies only what differs: focus, selection and open details are kept. Children
 * with the same `data-key` are the same element at any position.
 */
export function show(target, ...children) {
  const fresh = el("div", {}, ...children);
  merge(target, fresh);
}

function merge(target, fresh) {
  const keyed = new Map();
  for (const child of target.children) {
    if (child.dataset?.key) keyed.set(child.dataset.key, child);
  }
  let at = target.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.dataset?.key;
    const known = key ? keyed.get(key) : at;
    if (known && isAlike(known, child)) {
      if (known === at) at = at.nextSibling;
      else target.insertBefore(known, at);
      update(known, child);
    } else {
      target.insertBefore(child, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function isAlike(known, child) {
  return known.nodeName === child.nodeName && (known.dataset?.key ?? null) === (child.dataset?.key ?? null);
}

function update(known, child) {
  if (known.nodeType === Node.TEXT_NODE) {
    if (known.nodeValue !== child.nodeValue) known.nodeValue = child.nodeValue;
    return;
  }
  for (const { name } of [...known.attributes]) {
    // Set by the user.
    if (!child.hasAttribute(name) && name !== "open") known.removeAttribute(name);
  }
  for (const { name, value } of child.attributes) {
    if (known.getAttribute(name) !== value) known.setAttribute(name, value);
  }
  merge(known, child);
}

/** Returns a table. A column is `{ title, of, number, wide, head }`; `key` identifies rows. Empty cells are hidden on phones. */
export function table(label, columns, rows, key) {
  // Explicit roles: the style sheet for phones sets `display: block`, which removes the implicit ones.
  const heads = columns.map((column) =>
    el("th", { scope: "col", role: "columnheader", class: column.number && "number" }, column.title));
  const cell = (column, row) => {
    const content = [column.of(row)].flat();
    if (column.head) return el("th", { scope: "row", role: "rowheader" }, ...content);
    const isEmpty = content.every((part) => part === null || part === "" || part === "–");
    const classes = [column.number && "number", column.wide && "wide", isEmpty && "empty"].filter(Boolean).join(" ");
    return el("td", { role: "cell", "data-label": column.title, class: classes || null }, el("span", {}, ...content));
  };
  const body = rows.map((row) =>
    el("tr", { role: "row", "data-key": key(row) }, ...columns.map((column) => cell(column, row))));
  return el("table", { role: "table", "aria-label": label },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads)),
    el("tbody", { role: "rowgroup" }, ...body));
}

/** Returns a list of terms and values; pairs without a value are omitted. */
export function facts(pairs) {
  const present = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "facts" }, ...present.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, ...[value].flat())]));
}

/** Formats a duration in seconds: `44 min`. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole}\u00a0s`;
  if (whole < 7200) return `${Math.floor(whole / 60)}\u00a0min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)}\u00a0h`;
  return `${Math.floor(whole / 86400)}\u00a0days`;
}

/** Returns a `time` element with the distance of `at` from `now`, both in RFC 3339. */
export function moment(at, now) {
  if (!at) return null;
  const away = (Date.parse(now) - Date.parse(at)) / 1000;
  const words = away < -1 ? `in ${duration(-away)}` : `${duration(away)} ago`;
  return el("time", { datetime: at, title: new Date(at).toLocaleString() }, words);
}

/** Formats the local time of day. */
export function clock(date, seconds = true) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined, hourCycle: "h23" });
}

/** Formats a count with thin spaces between thousands. */
export function count(number) {
  return number.toLocaleString("en").replaceAll(",", "\u202f");
}

/** Formats a duration in milliseconds. */
export function milliseconds(time) {
  if (time === null || time === undefined) return "–";
  if (time >= 10000) return `${(time / 1000).toFixed(1)} s`;
  return time >= 10 ? `${Math.round(time)} ms` : `${time.toFixed(1)} ms`;
}

/** Formats a rate per second, or per minute when it is low. */
export function rate(perSecond) {
  if (perSecond === 0) return "0";
  if (perSecond >= 10) return `${Math.round(perSecond)}/s`;
  if (perSecond >= 0.5) return `${perSecond.toFixed(1)}/s`;
  return `${(perSecond * 60).toFixed(1)}/min`;
}
