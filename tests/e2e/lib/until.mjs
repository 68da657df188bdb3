// Waiting for what a person would wait for.

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Asks `check` again and again until it gives something truthy, and returns that. Fails with what was waited for and
 * with what was there instead: `check` may return `{ ok, ...anything }` to say so.
 */
export async function until(what, check, { within = 10_000, every = 100 } = {}) {
  const started = Date.now();
  let last;
  for (;;) {
    try {
      last = await check();
      if (last && typeof last === 'object' && 'ok' in last ? last.ok : last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() - started > within) break;
    await sleep(every);
  }
  const seen = last instanceof Error ? last.message : JSON.stringify(last);
  throw new Error(`waited ${within} ms in vain: ${what}; last seen: ${seen}`);
}
