// A stage for the tests of a file: one server and one Chromium for all of them, people who are sent home after each,
// and what a failed test needs to be understood.

import { writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { Chromium } from './chromium.mjs';
import { Firefox } from './firefox.mjs';
import { outputFile } from './output.mjs';
import { TcpProxy, UdpProxy } from './proxy.mjs';
import { Server } from './server.mjs';

const REPEAT = Math.max(1, Number(process.env.REPEAT ?? 1));
const LONGEST_MS = 120_000;

let rooms = 0;

/**
 * Defines the tests of a file: `stage({ settings }, (story) => story('what happens', async (call) => …))`. `settings` are the
 * server's, `certificate` is one that the browsers trust, `network` is where they run.
 */
export function stage({ settings, certificate, network } = {}, define) {
  const shared = { certificate, network };
  before(async () => {
    shared.server = await Server.start(settings);
    shared.chromium = await Chromium.start({ certificate, network });
  });
  after(async () => {
    await Promise.allSettled([shared.chromium?.stop(), shared.firefox?.stop()]);
    await shared.server?.stop();
    await Promise.allSettled([certificate?.remove(), network?.remove()]);
  });
  define((name, work) => {
    for (let run = 1; run <= REPEAT; run++) {
      const title = REPEAT > 1 ? `${name} (${run} of ${REPEAT})` : name;
      test(title, { timeout: LONGEST_MS }, (context) => perform(title, shared, work, context));
    }
  });
}

/** What a story works with. */
class Call {
  #shared;
  #people = [];
  #ends = [];
  pages = [];

  constructor(shared, note) {
    this.#shared = shared;
    /** Writes a figure worth knowing beside the test's result. */
    this.note = note;
    this.room = `room-${++rooms}`;
  }

  get server() {
    return this.#shared.server;
  }

  get people() {
    return this.#people;
  }

  /** Somebody in Chromium. */
  async person(name, options) {
    return this.#keep(await this.#shared.chromium.person(name, options));
  }

  /** Somebody in Firefox. */
  async firefoxPerson(name, options) {
    this.#shared.firefox ??= await Firefox.start(this.#shared);
    return this.#keep(await this.#shared.firefox.person(name, options));
  }

  /** Somebody in Chromium who is in the room already. */
  async joined(name, options = {}, page = {}) {
    const person = await this.person(name, page);
    return person.join(page.url ?? this.server.url, this.room, options);
  }

  /** A page for a story without a call; what it says is kept for when the story fails. */
  async page(name, options, browser = this.#shared.chromium) {
    const page = await browser.page(options);
    const messages = [];
    page.on('console', (message) => messages.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => messages.push(`error: ${error.stack}`));
    this.pages.push({ name, page, messages });
    this.#ends.push(() => page.context().close());
    return page;
  }

  /** A Chromium of its own. */
  async chromium(options) {
    const browser = await Chromium.start(options);
    this.#ends.push(() => browser.stop());
    return browser;
  }

  /** Somebody in another browser than the shared one. */
  async personIn(browser, name, options) {
    return this.#keep(await browser.person(name, options));
  }

  async udpProxy(options) {
    const proxy = await UdpProxy.start(this.server, options);
    this.#ends.push(() => proxy.stop());
    return proxy;
  }

  async tcpProxy() {
    const proxy = await TcpProxy.start(this.server);
    this.#ends.push(() => proxy.stop());
    return proxy;
  }

  async end() {
    await Promise.allSettled(this.#people.map((person) => person.close()));
    await Promise.allSettled(this.#ends.map((end) => end()));
  }

  #keep(person) {
    this.#people.push(person);
    return person;
  }
}

async function perform(title, shared, work, context) {
  const call = new Call(shared, (text) => context.diagnostic(text));
  const logStart = shared.server.log.length;
  try {
    await withTimeout(work(call), LONGEST_MS - 20_000);
  } catch (error) {
    await leaveBehind(title, call, logStart, error).catch((trouble) => console.error(trouble));
    throw error;
  } finally {
    await call.end();
  }
}

/** Screenshots, the pages' consoles and statistics, the server's log and what it decided. */
async function leaveBehind(title, call, logStart, error) {
  const log = call.server.log;
  await writeFile(await outputFile(title, 'error.txt'), `${error.stack}\n`);
  await writeFile(await outputFile(title, 'server.log'), log.slice(Math.min(logStart, log.length)));
  const counters = await call.server.counters(call.room).catch(String);
  await writeFile(await outputFile(title, 'connections.json'), JSON.stringify(counters, null, 1));
  for (const { name, page, messages } of call.pages) {
    await writeFile(await outputFile(title, `${name}.console.txt`), messages.join('\n'));
    await withTimeout(page.screenshot({ path: await outputFile(title, `${name}.png`) })).catch(() => {});
  }
  for (const person of call.people) {
    await writeFile(await outputFile(title, `${person.name}.console.txt`), person.messages.join('\n'));
    const timeline = await person.timeline().catch(String);
    await writeFile(await outputFile(title, `${person.name}.timeline.json`), JSON.stringify(timeline, null, 1));
    const page = { path: await outputFile(title, `${person.name}.png`) };
    await withTimeout(person.page.screenshot(page)).catch(() => {});
    const seen = await withTimeout(
      person.evaluate(async () => ({
        tiles: window.__e2e?.tiles(),
        inbound: await window.__e2e?.reports('inbound-rtp'),
        outbound: await window.__e2e?.reports('outbound-rtp'),
        pairs: await window.__e2e?.reports('candidate-pair'),
        offer: window.veche?.connection?.localDescription?.sdp,
        answer: window.veche?.connection?.remoteDescription?.sdp,
      })),
    ).catch(String);
    await writeFile(await outputFile(title, `${person.name}.json`), JSON.stringify(seen, null, 1));
  }
}

function withTimeout(promise, ms = 5_000) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`took longer than ${ms} ms`)), ms).unref());
  return Promise.race([promise, late]);
}
