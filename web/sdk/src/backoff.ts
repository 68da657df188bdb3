/** How long to wait before the next attempt: doubling, bounded, and spread so that clients do not come back in step. */

const FIRST_MS = 250;
const LONGEST_MS = 10_000;

export class Backoff {
  #attempts = 0;
  readonly #random: () => number;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Attempts since the last lasting success. */
  get attempts(): number {
    return this.#attempts;
  }

  /** The wait before the next attempt, in milliseconds: between half and all of the doubled step. */
  next(): number {
    const step = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.#attempts, 16));
    this.#attempts += 1;
    return step * (0.5 + this.#random() / 2);
  }

  /** After a success. */
  reset(): void {
    this.#attempts = 0;
  }
}
