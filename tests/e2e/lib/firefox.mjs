// Firefox, driven by puppeteer over WebDriver BiDi.

import puppeteer from 'puppeteer-core';
import { Participant, preparation } from './participant.mjs';
import { freeTcpPort } from './server.mjs';

const EXECUTABLE = process.env.FIREFOX_BIN ?? '/usr/bin/firefox-esr';
const PREFERENCES = {
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  // No downloads of codecs or updates during a test.
  'media.gmp-manager.updateEnabled': false,
  'app.update.enabled': false,
  'intl.accept_languages': 'en',
};

export class Firefox {
  #browser;

  /** `certificate`: one to trust; all are, then. `network`: where it runs, see `Network`. */
  static async start({ certificate, network } = {}) {
    const started = new Firefox();
    const debuggingPort = network ? await freeTcpPort() : undefined;
    if (network) await network.tunnel(debuggingPort);
    started.#browser = await puppeteer.launch({
      browser: 'firefox',
      executablePath: network ? await network.program(EXECUTABLE) : EXECUTABLE,
      debuggingPort,
      headless: true,
      acceptInsecureCerts: certificate !== undefined,
      extraPrefsFirefox: PREFERENCES,
      defaultViewport: { width: 800, height: 600 },
    });
    return started;
  }

  /** A page for somebody. See `preparation` for the options. */
  async person(name, options) {
    const context = await this.#browser.createBrowserContext();
    const page = await context.newPage();
    await page.evaluateOnNewDocument(preparation(options));
    return new Participant({ name, page, close: () => context.close(), browser: 'firefox' });
  }

  async stop() {
    await this.#browser.close();
  }
}
