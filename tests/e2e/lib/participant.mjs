// Somebody in a call: a page in a browser, what they do in it, and what they see.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { until, sleep } from './until.mjs';

const probe = await readFile(new URL('./probe.js', import.meta.url), 'utf8');

/** What the fake camera gives unless a test asks for more: the largest size at which Chromium still makes two layers. */
const CAMERA = { width: 640, height: 360, frameRate: 15 };

/** Black or grey has none; the plainest fake camera, that of Firefox, has some. */
const LEAST_CONTRAST = 1;

/** The script that prepares a page. `mediaPort`, `mediaHost`: the UDP proxy's, where media shall take that way. */
export function preparation({ camera = CAMERA, mediaPort, mediaHost = '127.0.0.1' } = {}) {
  return `window.__e2eSettings = ${JSON.stringify({ camera, mediaPort, mediaHost })};\n${probe}`;
}

export class Participant {
  /** `page`: of playwright or of puppeteer; what is used of them here is the same in both. */
  constructor({ name, page, close, browser }) {
    this.name = name;
    this.page = page;
    this.browser = browser;
    this.closePage = close;
    this.messages = [];
    page.on('console', (message) => this.messages.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => this.messages.push(`page error: ${error}`));
  }

  /** Opens a room's page and goes straight in. */
  async join(url, room, options = {}) {
    this.url = url;
    const query = new URLSearchParams({ autojoin: '1', name: this.name, ...options });
    await this.page.goto(`${url}/r/${room}?${query}`);
    await this.isInCall();
    return this;
  }

  /** Opens a room's page, ready for a click on “Join”. */
  async opens(url, room, options = {}) {
    await this.page.goto(`${url}/r/${room}?${new URLSearchParams({ name: this.name, ...options })}`);
    await until(`${this.name} sees the mirror`, () => this.exists('[data-testid=preview] video[data-shown=true]'));
  }

  async isInCall(within = 15_000) {
    await until(`${this.name} is in the call`, () => this.exists('[data-testid=call]'), { within });
  }

  /** Waits until media has found its way to the server. */
  async isConnected(within = 30_000) {
    await until(`${this.name} has found a way`, () => this.evaluate(() => window.veche.media === 'connected'), { within });
  }

  evaluate(work, argument) {
    return this.page.evaluate(work, argument);
  }

  exists(selector) {
    return this.evaluate((wanted) => document.querySelector(wanted) !== null, selector);
  }

  text(selector = 'body') {
    return this.evaluate((wanted) => document.querySelector(wanted)?.innerText ?? '', selector);
  }

  /** Clicks what carries this `data-testid`. */
  async click(testid) {
    await this.page.click(`[data-testid=${testid}]`);
  }

  /** Clicks, and tells when that was, by the page's clock. */
  async clickAt(testid) {
    return this.evaluate((testid) => {
      const at = performance.now();
      document.querySelector(`[data-testid=${testid}]`).click();
      return at;
    }, testid);
  }

  tiles() {
    return this.evaluate(() => window.__e2e.tiles());
  }

  async tile(name, kind = 'camera') {
    return (await this.tiles()).find((tile) => tile.name === name && tile.kind === kind);
  }

  /** When the first picture of each of the others came, by the page's clock. */
  async firstPictures() {
    return (await this.tiles()).filter((tile) => !tile.local);
  }

  /** Our own name in messages. */
  peerId() {
    return this.evaluate(() => window.veche.peerId);
  }

  /** Notes the room's events from now on. */
  listen() {
    return this.evaluate(() => {
      window.__heard = [];
      for (const name of ['state', 'participant-left', 'participant-joined']) {
        window.veche.on(name, (value) => window.__heard.push([name, value]));
      }
    });
  }

  /** What `listen` noted of an event. */
  heard(name) {
    return this.evaluate((name) => window.__heard.filter((one) => one[0] === name).map((one) => one[1]), name);
  }

  /** Keeps the media connection in mind, for `hasSameConnection`. */
  keepConnection() {
    return this.evaluate(() => {
      window.__connection = window.veche.connection;
    });
  }

  hasSameConnection() {
    return this.evaluate(() => window.__connection === window.veche.connection);
  }

  /** The names that both sides of the connection have for ICE, and whether they are agreed on. */
  iceCredentials() {
    return this.evaluate(() => {
      const { localDescription, remoteDescription, signalingState } = window.veche.connection;
      const name = (description) => /a=ice-ufrag:(.*)/.exec(description?.sdp ?? '')?.[1];
      return { local: name(localDescription), remote: name(remoteDescription), stable: signalingState === 'stable' };
    });
  }

  /** What the connection receives of somebody, as `getStats` reports it. */
  received(name, source = 'camera') {
    return this.evaluate(({ name, source }) => window.__e2e.received(name, source), { name, source });
  }

  /** What the server decided about what this person gets. */
  async timeline() {
    const address = `${this.url}/realtime/webrtc/connections/${await this.peerId()}/timeline`;
    return (await fetch(address)).json();
  }

  /** Makes somebody large, or no longer. */
  async pins(name) {
    await this.page.click(`[data-testid=tile][data-name=${name}] [data-testid=pin-button]`);
  }

  reports(type) {
    return this.evaluate((type) => window.__e2e.reports(type), type);
  }

  /** How media reaches the server: the kind of candidate, and by what protocol it, or its TURN server, is reached. */
  async way() {
    const types = ['transport', 'candidate-pair', 'local-candidate'];
    const [[transport], pairs, candidates] = await Promise.all(types.map((type) => this.reports(type)));
    // Firefox marks the pair; several may have been nominated.
    const chosen = pairs.find((pair) => (transport ? pair.id === transport.selectedCandidatePairId : pair.selected));
    const local = candidates.find((candidate) => candidate.id === chosen?.localCandidateId);
    return local && { type: local.candidateType, protocol: local.relayProtocol ?? local.protocol };
  }

  /** Waits until these people (no others) have tiles. */
  async seesExactly(names, { within = 10_000 } = {}) {
    const wanted = [...names].sort().join();
    await until(
      `${this.name} sees exactly ${wanted || 'nobody'}`,
      async () => {
        const tiles = (await this.tiles()).filter((tile) => !tile.local && tile.kind === 'camera');
        const seen = tiles.map((tile) => tile.name).sort().join();
        return { ok: seen === wanted, seen };
      },
      { within },
    );
  }

  /** Waits until somebody's picture moves and is a picture. */
  async seesMoving(name, { kind = 'camera', within = 10_000 } = {}) {
    const before = (await this.tile(name, kind))?.frames ?? 0;
    await until(
      `${this.name} sees ${name} (${kind}) move`,
      async () => {
        const tile = await this.tile(name, kind);
        return { ok: tile?.hasVideo && tile.shown && tile.frames >= before + 5, tile };
      },
      { within },
    );
    const contrast = await this.evaluate(({ name, kind }) => window.__e2e.contrast(name, kind), { name, kind });
    assert.ok(contrast > LEAST_CONTRAST, `${this.name} sees ${name} (${kind}), but the picture is plain (contrast ${contrast})`);
  }

  /** Waits until a picture that may stand still is there. */
  async sees(name, kind, { within = 10_000 } = {}) {
    await until(
      `${this.name} sees ${name} (${kind})`,
      async () => {
        const tile = await this.tile(name, kind);
        return { ok: tile?.hasVideo && tile.shown && tile.videoWidth > 0, tile };
      },
      { within },
    );
    const contrast = await this.evaluate(({ name, kind }) => window.__e2e.contrast(name, kind), { name, kind });
    assert.ok(contrast > LEAST_CONTRAST, `${this.name} sees ${name} (${kind}), but the picture is plain (contrast ${contrast})`);
  }

  /** Waits until the voice of somebody comes: energy, not only packets. */
  async hears(name, { source = 'microphone', within = 10_000 } = {}) {
    const before = (await this.received(name, source))?.totalAudioEnergy ?? 0;
    await until(
      `${this.name} hears ${name}`,
      async () => {
        const energy = (await this.received(name, source))?.totalAudioEnergy;
        return { ok: energy > before, energy };
      },
      { within },
    );
  }

  /** Reloads the page, as by F5. */
  async reload() {
    await this.page.reload();
    await this.isInCall();
  }

  /** Ends the page as by closing its window. */
  async close() {
    await this.closePage().catch(() => {});
  }
}

/** Waits until all of these see and hear each other. */
export async function allMeet(people, { within = 15_000 } = {}) {
  await Promise.all(
    people.map(async (one) => {
      const others = people.filter((other) => other !== one);
      await one.seesExactly(others.map((other) => other.name), { within });
      for (const other of others) {
        await one.seesMoving(other.name, { within });
        await one.hears(other.name, { within });
      }
    }),
  );
}

/**
 * Watches the call for a while: for everybody the pictures and the voices of all others go on, and no picture stands
 * still for longer than `longest` milliseconds.
 */
export async function callGoesOn(people, { during = 5_000, longest = 1_000, voices = true } = {}) {
  const pairs = people.flatMap((one) => people.filter((other) => other !== one).map((other) => ({ one, other })));
  const look = () =>
    Promise.all(
      pairs.map(async ({ one, other }) => {
        const [video, audio, tile] = await Promise.all([
          one.received(other.name, 'camera'),
          voices ? one.received(other.name, 'microphone') : undefined,
          one.tile(other.name),
        ]);
        return { video, audio, tile };
      }),
    );
  await Promise.all(people.map((one) => one.evaluate(() => window.__e2e.restart())));
  const before = await look();
  await sleep(during);
  const after = await look();
  pairs.forEach(({ one, other }, index) => {
    const [was, is] = [before[index], after[index]];
    const who = `${one.name}, looking at ${other.name}`;
    const decoded = is.video?.framesDecoded - was.video?.framesDecoded;
    const expected = (during / 1000) * 3;
    assert.ok(decoded >= expected, `${who}: ${decoded} frames decoded in ${during} ms`);
    assert.ok(is.tile.frames >= expected, `${who}: ${is.tile.frames} frames shown in ${during} ms`);
    assert.ok(is.tile.longest <= longest, `${who}: the picture stood still for ${Math.round(is.tile.longest)} ms`);
    const frozen = (is.video.totalFreezesDuration ?? 0) - (was.video.totalFreezesDuration ?? 0);
    const freezes = (is.video.freezeCount ?? 0) - (was.video.freezeCount ?? 0);
    const each = freezes > 0 ? (frozen / freezes) * 1000 : 0;
    assert.ok(each <= longest, `${who}: ${freezes} freezes of ${Math.round(each)} ms on average`);
    if (voices) {
      const energy = is.audio?.totalAudioEnergy - was.audio?.totalAudioEnergy;
      assert.ok(energy > 0, `${who}: no voice in ${during} ms`);
    }
  });
}
