// Chromium, driven by playwright: one process for many people, each in a browser context of their own.

import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { Participant, preparation } from './participant.mjs';

const EXECUTABLE = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
const FLAGS = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--allow-loopback-in-peer-connection',
];

export class Chromium {
  #server;
  #browser;

  /**
   * `certificate`: one to trust; `network`: where it runs, see `Network`; `asks`: camera and microphone are given to pages
   * with the permission only, and denied to the others.
   */
  static async start({ certificate, network, asks = false } = {}) {
    const started = new Chromium();
    const trust = certificate ? [`--ignore-certificate-errors-spki-list=${certificate.fingerprint}`] : [];
    const args = [...FLAGS.filter((flag) => !asks || !flag.startsWith('--use-fake-ui')), ...trust];
    const executablePath = network ? await network.program(EXECUTABLE) : EXECUTABLE;
    started.#server = await chromium.launchServer({ executablePath, args, host: '127.0.0.1' });
    started.#browser = await chromium.connect(started.#server.wsEndpoint());
    return started;
  }

  /** A page for somebody. See `preparation` for the options. */
  async person(name, options) {
    const context = await this.#browser.newContext({ viewport: { width: 800, height: 600 }, locale: 'en' });
    await context.addInitScript({ content: preparation(options) });
    if (process.env.E2E_DIST) await serveBuilt(context, path.resolve(process.env.E2E_DIST, 'assets'));
    const page = await context.newPage();
    return new Participant({ name, page, close: () => context.close(), browser: 'chromium' });
  }

  /** An empty page for a story without a call. */
  async page(options = {}) {
    const context = await this.#browser.newContext({ viewport: { width: 1280, height: 860 }, locale: 'en', ...options });
    if (process.env.E2E_DIST) await serveBuilt(context, path.resolve(process.env.E2E_DIST, 'assets'));
    return context.newPage();
  }

  /** Ends the process at once, without a word to anybody. */
  async kill() {
    await this.#server.kill();
  }

  async stop() {
    await this.#server.close();
  }
}

/** The client as it was just built, in place of the one in the server: its page is the server's, what it loads is not. */
async function serveBuilt(context, folder) {
  const built = await readdir(folder);
  const stem = (name) => name.replace(/-[\w-]{8}\./, '.');
  await context.route('**/assets/*', (route) => {
    const asked = path.basename(new URL(route.request().url()).pathname);
    const name = built.find((each) => stem(each) === stem(asked));
    return name ? route.fulfill({ path: path.join(folder, name) }) : route.continue();
  });
}
