/** Numbers for messages that are answered: one row for all of them, so that no answer is taken for another's. */

/**
 * Never the same twice, and after a reload not from the same start, so that a late answer to a connection before is
 * not taken for one to this.
 */
let nextId = 1 + Math.floor(Math.random() * 2 ** 31);

/** The number of the next message. */
export function nextMessageId(): number {
  return nextId++;
}
