// Asking the gateway again and again: not while nobody looks, and less often while it does not answer.

const PACE = 2000;
const PATIENCE = 10000;
const LONGEST_PAUSE = 30000;

/** Asks for `url` until told otherwise. `answered` gets what came, `failed` why nothing came and when it is tried again. */
export class Poll {
  #url;
  #answered;
  #failed;
  #timer = null;
  #failures = 0;
  #paused = false;
  #asking = false;

  constructor(url, answered, failed) {
    this.#url = url;
    this.#answered = answered;
    this.#failed = failed;
    document.addEventListener("visibilitychange", () => this.now());
  }

  /** Asks at once, unless it is asking already. */
  now() {
    clearTimeout(this.#timer);
    if (!document.hidden && !this.#paused && !this.#asking) this.#ask();
  }

  /** Asks no more, or goes on. */
  pause(paused) {
    this.#paused = paused;
    this.now();
  }

  async #ask() {
    this.#asking = true;
    const began = performance.now();
    let wait;
    try {
      const answer = await fetch(this.#url, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(answer.status === 401 ? "it asks for the admin secret; reload the page" : `status ${answer.status}`);
      const text = await answer.text();
      const status = JSON.parse(text);
      this.#failures = 0;
      // A gateway of a thousand customers has much to say: no more than 100 KB a second, and a tenth of the time.
      wait = Math.max(PACE, 10 * (performance.now() - began), text.length / 100);
      this.#answered(status);
    } catch (error) {
      wait = Math.min(PACE * 2 ** this.#failures, LONGEST_PAUSE);
      this.#failures += 1;
      this.#failed(reason(error), wait);
    }
    this.#asking = false;
    if (!document.hidden && !this.#paused) this.#timer = setTimeout(() => this.#ask(), wait);
  }
}

function reason(error) {
  if (error.name === "TimeoutError") return `no answer within ${PATIENCE / 1000} s`;
  // What browsers call it when there is no connection.
  return error instanceof TypeError ? "no connection" : error.message;
}
