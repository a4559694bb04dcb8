// Polls the gateway: paused while the page is hidden, with backoff while the gateway does not respond.

// In milliseconds.
const INTERVAL = 2000;
const REQUEST_TIMEOUT = 10000;
const MAX_BACKOFF = 30000;

/** Polls `url`. Calls `onStatus` with the parsed response, or `onFailure` with the cause and the wait before the next retry. */
export class Poll {
  #url;
  #onStatus;
  #onFailure;
  #timer = null;
  #failures = 0;
  #paused = false;
  #inFlight = false;

  constructor(url, onStatus, onFailure) {
    this.#url = url;
    this.#onStatus = onStatus;
    this.#onFailure = onFailure;
    document.addEventListener("visibilitychange", () => this.now());
  }

  /** Sends a request at once, unless one is in flight. */
  now() {
    clearTimeout(this.#timer);
    if (!document.hidden && !this.#paused && !this.#inFlight) this.#poll();
  }

  /** Pauses or resumes polling. */
  pause(paused) {
    this.#paused = paused;
    this.now();
  }

  async #poll() {
    this.#inFlight = true;
    const started = performance.now();
    let wait;
    try {
      const response = await fetch(this.#url, { cache: "no-store", signal: AbortSignal.timeout(REQUEST_TIMEOUT) });
      if (!response.ok) throw new Error(response.status === 401 ? "the admin secret is required; reload the page" : `status ${response.status}`);
      const text = await response.text();
      const status = JSON.parse(text);
      this.#failures = 0;
      // Large documents (a thousand customers): at most 100 KB per second and a tenth of the time.
      wait = Math.max(INTERVAL, 10 * (performance.now() - started), text.length / 100);
      this.#onStatus(status);
    } catch (error) {
      wait = Math.min(INTERVAL * 2 ** this.#failures, MAX_BACKOFF);
      this.#failures += 1;
      this.#onFailure(cause(error), wait);
    }
    this.#inFlight = false;
    if (!document.hidden && !this.#paused) this.#timer = setTimeout(() => this.#poll(), wait);
  }
}

function cause(error) {
  if (error.name === "TimeoutError") return `no response within ${REQUEST_TIMEOUT / 1000} s`;
  // Browsers report a failed connection as a TypeError.
  return error instanceof TypeError ? "no connection" : error.message;
}
