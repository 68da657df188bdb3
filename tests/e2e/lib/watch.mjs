// What people saw and heard for a while, in figures: sizes, pauses, delays, gaps in the sound.

import assert from 'node:assert/strict';
import { sleep } from './until.mjs';

const LOOK_EVERY_MS = 500;

/** Watches everybody's pictures and voices of all others. Gives a `View` for each pair. */
export async function watch(people, { during }) {
  const pairs = people.flatMap((one) => people.filter((other) => other !== one).map((other) => ({ one, other })));
  await Promise.all(people.map((one) => one.evaluate(() => window.__e2e.restart())));
  const before = await Promise.all(pairs.map(look));
  const paused = pairs.map(() => 0);
  for (const end = Date.now() + during; Date.now() < end; ) {
    await sleep(LOOK_EVERY_MS);
    const tiles = await Promise.all(people.map((one) => one.tiles()));
    pairs.forEach(({ one, other }, index) => {
      const tile = tiles[people.indexOf(one)].find(({ name, kind }) => name === other.name && kind === 'camera');
      if (tile?.paused) paused[index] += 1;
    });
  }
  const after = await Promise.all(pairs.map(look));
  return pairs.map((pair, index) => new View(pair, before[index], after[index], paused[index] > 0));
}

/** What one person saw and heard of another. */
class View {
  constructor({ one, other }, before, after, paused) {
    const change = (kind, field) => (after[kind]?.[field] ?? 0) - (before[kind]?.[field] ?? 0);
    /** Who looks at whom. */
    this.viewer = one.name;
    this.shown = other.name;
    this.width = after.video?.frameWidth ?? 0;
    /** Whether the app said at any time that the network does not carry the picture; `words`: what it says now. */
    this.paused = paused;
    this.words = after.tile?.paused ? after.tile.text : '';
    this.frames = change('video', 'framesDecoded');
    /** Milliseconds. */
    this.longestStill = Math.round(after.tile?.longest ?? Infinity);
    this.pictureDelay = perUnit(change('video', 'jitterBufferDelay'), change('video', 'jitterBufferEmittedCount'));
    this.voiceDelay = perUnit(change('audio', 'jitterBufferDelay'), change('audio', 'jitterBufferEmittedCount'));
    this.roundTrip = Math.round((after.pair?.currentRoundTripTime ?? 0) * 1000);
    this.voice = change('audio', 'totalAudioEnergy');
    /** The share of the sound that was invented because the real one did not come in time. */
    const concealed = change('audio', 'concealedSamples') - change('audio', 'silentConcealedSamples');
    this.concealed = concealed / Math.max(1, change('audio', 'totalSamplesReceived'));
  }

  toString() {
    const picture = this.paused ? `paused (${this.width})` : `${this.width} wide, still ${this.longestStill} ms`;
    const delay = `picture +${this.pictureDelay} ms, voice +${this.voiceDelay} ms, round trip ${this.roundTrip} ms`;
    return `${this.viewer} -> ${this.shown}: ${picture}, ${delay}, ${(this.concealed * 100).toFixed(1)} % of sound invented`;
  }

  /** The voice goes on, without gaps that are heard. */
  isHeard({ concealed = 0.05 } = {}) {
    assert.ok(this.voice > 0, `no voice: ${this}`);
    assert.ok(this.concealed <= concealed, `the sound breaks: ${this}`);
  }

  /** The picture moves all the time; `longest`: milliseconds that it may stand still. */
  isMoving({ longest = 1_000 } = {}) {
    assert.ok(!this.paused && this.longestStill <= longest, `the picture stands still: ${this}`);
  }

  /** The picture moves, or the app says in words that it is paused. */
  isMovingOrExplained({ longest = 1_000 } = {}) {
    if (!this.paused) this.isMoving({ longest });
    else assert.ok(this.words === '' || /slow/.test(this.words), `nothing explains the pause: ${this}: ${this.words}`);
  }

  /** What is seen and heard is not from long ago. */
  isTimely(most = 1_000) {
    const worst = Math.max(this.pictureDelay, this.roundTrip);
    assert.ok(worst < most, `too late: ${this}`);
  }
}

async function look({ one, other }) {
  const [video, audio, tile, pairs] = await Promise.all([
    one.received(other.name, 'camera'),
    one.received(other.name, 'microphone'),
    one.tile(other.name),
    one.reports('candidate-pair'),
  ]);
  return { video, audio, tile, pair: pairs.find((pair) => pair.nominated) };
}

function perUnit(seconds, count) {
  return count > 0 ? Math.round((seconds / count) * 1000) : 0;
}
