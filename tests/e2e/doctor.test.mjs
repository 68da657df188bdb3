// The page /doctor: what it tells on a good line, and what it tells, and advises, where something is broken.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { stage } from './lib/call.mjs';
import { Certificate } from './lib/certificate.mjs';
import { outputFile } from './lib/output.mjs';
import { freeMediaPort, freeTcpPort, Server } from './lib/server.mjs';
import { access, token } from './lib/tokens.mjs';
import { until } from './lib/until.mjs';

const certificate = await Certificate.make(['localhost']);
const turnPort = await freeMediaPort();
const settings = {
  http: {
    https_listen: `127.0.0.1:${await freeTcpPort()}`,
    certificate_file: certificate.file,
    key_file: certificate.keyFile,
  },
  turn: { listen: [`0.0.0.0:${turnPort}`], hosts: ['localhost'] },
};
/** A person waits about a minute, and so does a test: everything closed takes the longest. */
const WITHIN = 90_000;

/** What is said where something works less well, or a spare way does not work; a slow machine may hide the second by the first. */
const SPARE = ['verdict.spare', 'verdict.weak'];
const GOOD = ['verdict.fine', ...SPARE];

stage({ settings, certificate }, (story) => {
  story('on a good server everything is fine, in Chromium', async (call) => {
    const page = await call.page('ann');
    const asked = [];
    page.on('request', (request) => asked.push(new URL(request.url())));
    const seen = await check(page, call.server.url);
    goodVisit(seen, call.note);
    assert.ok(await page.evaluate(() => document.querySelector('[data-testid=still]')?.naturalWidth > 100), 'the camera’s picture stays');
    // Nothing is told to anybody else, and nothing is posted.
    assert.deepEqual(asked.filter(({ origin, protocol }) => origin !== call.server.url && protocol !== 'data:').map(String), []);
    await page.screenshot({ path: await outputFile('doctor', 'good-wide.png'), fullPage: true });
  });

  story('on a good server everything is fine, in Firefox', async (call) => {
    const person = await call.firefoxPerson('Fox');
    goodVisit(await check(person.page, call.server.url), call.note);
  });

  story('the report can be copied, as text and as JSON, and another check begins from the beginning', async (call) => {
    const page = await call.page('ann', { permissions: ['clipboard-read', 'clipboard-write', 'camera', 'microphone'] });
    await check(page, `${call.server.url}`, '/doctor?room=tea');
    await page.getByTestId('copy-text').click();
    const text = await clipboard(page, 'Veche connection report');
    assert.match(text, /Result: (Everything that was tried works: y|Y)ou can join/);
    assert.match(text, /\[(fine|warning)\] Over the relay by TCP\n {2}What was tried: Connected through turn:/);
    await page.getByTestId('copy-json').click();
    const report = JSON.parse(await clipboard(page, '"checks"'));
    assert.ok(GOOD.includes(report.result), text);
    assert.ok(report.checks.every(({ facts }) => facts), 'each check says what it saw');
    assert.ok(!/credential|username|"token/.test(JSON.stringify(report)), 'no secrets');
    await page.getByTestId('start').click();
    await until('it runs again', () => page.evaluate(() => document.querySelector('[data-testid=verdict]').dataset.state === 'running'));
    await page.waitForSelector('[data-testid=verdict][data-key]', { timeout: WITHIN });
    const again = await read(page);
    assert.ok(GOOD.includes(again.verdict), again.report);
  });

  story('in Russian, narrow and dark, and by keyboard alone', async (call) => {
    const page = await call.page('anna', { locale: 'ru', colorScheme: 'dark', viewport: { width: 360, height: 740 } });
    await page.goto(`${call.server.url}/doctor`);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    for (let count = 0; count < 10; count++) {
      await page.keyboard.press('Tab');
      if (await page.evaluate(() => document.activeElement.dataset.testid === 'start')) break;
    }
    await page.keyboard.press('Enter');
    await page.waitForSelector('[data-testid=verdict][data-key]', { timeout: WITHIN });
    const seen = await read(page);
    assert.ok(GOOD.includes(seen.verdict), seen.report);
    assert.match(seen.text, /отсюда можно звонить|войти можно/i);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    await page.screenshot({ path: await outputFile('doctor', 'good-narrow.png'), fullPage: true });
  });

  story('TURN with wrong credentials', async (call) => {
    const page = await call.page('ann');
    await changeRelays(page, (server) => ({ ...server, credential: 'wrong' }));
    const seen = await check(page, call.server.url);
    assert.ok(SPARE.includes(seen.verdict), seen.report);
    const relays = relaysIn(seen);
    assert.equal(relays.length, 3);
    for (const relay of relays) {
      assert.deepEqual([relay.state, relay.key], ['failed', 'relay.credentials.back']);
      assert.match(relay.text, /The relay refused the credentials \(401 .*What to do\s+For whoever runs the server: the secret that signs credentials \(turn\.secrets\)/s);
    }
    assert.ok(isOpen(seen.checks.udp), seen.report);
  });

  story('TURN on a closed port', async (call) => {
    const closed = await freeTcpPort();
    const page = await call.page('ann');
    await changeRelays(page, (server) => ({ ...server, urls: server.urls.map((url) => url.replace(/:\d+(?=\?|$)/, `:${closed}`)) }));
    const seen = await check(page, call.server.url);
    assert.ok(SPARE.includes(seen.verdict), seen.report);
    for (const relay of relaysIn(seen)) {
      assert.deepEqual([relay.state, relay.key], ['failed', 'relay.silent.back']);
      assert.match(relay.text, new RegExp(`Nothing came from turns?:.*:${closed}.*open in the firewall`, 's'));
    }
  });

  story('camera and microphone denied', async (call) => {
    const page = await call.page('ann', {}, await call.chromium({ asks: true }));
    const seen = await check(page, call.server.url);
    assert.equal(seen.verdict, 'verdict.devices', seen.report);
    for (const device of ['camera', 'microphone']) {
      assert.deepEqual([seen.checks[device].state, seen.checks[device].key], ['failed', 'device.denied.back']);
      assert.match(seen.checks[device].text, /Click the sign left of the address, allow it for this page/);
    }
    assert.ok(isOpen(seen.checks.udp), seen.report);
  });

  story('only the camera denied', async (call) => {
    const page = await call.page('ann', { permissions: ['microphone'] }, await call.chromium({ asks: true }));
    const seen = await check(page, call.server.url);
    assert.equal(seen.verdict, 'verdict.camera', seen.report);
    assert.equal(seen.checks.microphone.state, 'fine');
  });

  story('the media port is blocked: over the relay it goes on', async (call) => {
    const hole = await BlackHole.open();
    try {
      const page = await call.page('ann', { viewport: { width: 800, height: 900 } });
      await page.addInitScript(divert, { to: hole.port });
      const seen = await check(page, call.server.url);
      assert.equal(seen.verdict, 'verdict.detour', seen.report);
      for (const way of ['udp', 'tcp']) assert.deepEqual([seen.checks[way].state, seen.checks[way].key], ['failed', 'path.blocked.back']);
      assert.match(seen.checks.udp.text, /UDP to the server is blocked.*allow UDP to [\d.]+:\d+/s);
      assert.ok(relaysIn(seen).every(isOpen));
      assert.ok(hole.packets > 0, 'what is blocked was really sent');
      await page.screenshot({ path: await outputFile('doctor', 'bad-wide.png'), fullPage: true });
    } finally {
      hole.close();
    }
  });

  story('WebSockets are cut on the way', async (call) => {
    const page = await call.page('ann');
    await page.routeWebSocket(/realtime/, (socket) => socket.close({ code: 1011 }));
    const seen = await check(page, call.server.url);
    assert.equal(seen.verdict, 'verdict.sockets', seen.report);
    assert.equal(seen.checks.udp.state, 'skipped');
  });

  story('the server has gone', async (call) => {
    await withServer({ turn: { enabled: false } }, async (server) => {
      const page = await call.page('ann');
      await page.goto(`${server.url}/doctor`);
      await server.down();
      const seen = await begin(page);
      assert.equal(seen.verdict, 'verdict.server', seen.report);
      assert.equal(seen.checks.server.key, 'server.silent.back');
    });
  });

  story('where joining fails, a link leads to the doctor', async (call) => {
    const page = await call.page('ann');
    await page.routeWebSocket(/signaling/, (socket) => socket.close({ code: 1011 }));
    await page.goto(`${call.server.url}/r/tea?token=abc`);
    await page.getByTestId('join-button').click();
    await page.getByTestId('doctor-link').click({ timeout: 30_000 });
    await page.waitForURL(/\/doctor\?room=tea#token=abc$/);
    await page.getByTestId('start').waitFor();
  });

  story('TURN is off', async (call) => {
    await withServer({ turn: { enabled: false } }, async (server) => {
      const seen = await check(await call.page('ann'), server.url);
      assert.ok(SPARE.includes(seen.verdict), seen.report);
      assert.deepEqual([seen.checks.relays.state, seen.checks.relays.key], ['warning', 'relays.none.back']);
      assert.match(seen.checks.relays.text, /switch TURN on \(turn\.enabled = true\)/);
      assert.ok(isOpen(seen.checks.udp), seen.report);
    });
  });

  story('a token for one room is enough, and a bad one is told from a bad line', async (call) => {
    await withServer({ turn: { enabled: false }, access }, async (server) => {
      const address = `/doctor?room=tea&token=${token('ann', undefined, 'tea')}`;
      const seen = await check(await call.page('ann'), server.url, address);
      assert.equal(seen.checks.signaling.state, 'fine');
      assert.ok(isOpen(seen.checks.udp), seen.report);
      const refused = await check(await call.page('bob'), server.url, '/doctor?room=tea&token=no.such.token');
      assert.equal(refused.verdict, 'verdict.refused');
      assert.match(refused.checks.signaling.text, /Your link has no valid token/);
    });
  });
});

async function withServer(settings, work) {
  const server = await Server.start(settings);
  try {
    await work(server);
  } finally {
    await server.stop();
  }
}

/** Opens the page, starts the check and waits for its end. */
async function check(page, url, address = '/doctor') {
  await page.goto(url + address);
  return begin(page);
}

async function begin(page) {
  await page.waitForSelector('[data-testid=start]');
  await page.click('[data-testid=start]');
  await page.waitForSelector('[data-testid=verdict][data-key]', { timeout: WITHIN });
  return read(page);
}

/** The result, and what each card says. */
function read(page) {
  return page.evaluate(() => {
    const verdict = document.querySelector('[data-testid=verdict]');
    const cards = [...document.querySelectorAll('[data-testid=check]')].map(({ dataset, innerText }) => [
      dataset.id, { state: dataset.state, key: dataset.key, text: innerText },
    ]);
    return {
      verdict: verdict.dataset.key,
      text: verdict.innerText.replaceAll('\n', ''),
      checks: Object.fromEntries(cards),
      report: document.querySelector('[data-testid=report]')?.textContent,
    };
  });
}

/** A way that carries. Its figures are also those of the machine under test, which may have much else to do. */
function isOpen({ state, key }) {
  return state === 'fine' || (state === 'warning' && key === 'path.line.back');
}

function goodVisit(seen, note) {
  const paths = ['udp', 'tcp', ...relaysIn(seen).map(({ id }) => id)];
  for (const path of paths) note(seen.checks[path].text.replaceAll('\n', ' '));
  const bad = Object.entries(seen.checks).filter(([, card]) => !isOpen(card));
  assert.deepEqual(bad, [], seen.report);
  const slow = Object.values(seen.checks).some(({ state }) => state !== 'fine');
  assert.ok((slow ? SPARE : ['verdict.fine']).includes(seen.verdict), seen.report);
  assert.match(seen.text, slow ? /You can join/ : /Everything that was tried works: you can join calls from here\.$/);
  assert.equal(paths.length, 5, 'two straight ways, and the relay over UDP, TCP and TLS');
  for (const path of paths) assert.match(seen.checks[path].text, /Round trip [\d.]+ ms, [\d.]+ % lost, it carried up to [\d.]+ Mbit\/s each way/);
}

function relaysIn({ checks }) {
  return Object.entries(checks).flatMap(([id, card]) => (id.startsWith('turn') ? [{ id, ...card }] : []));
}

/** As if an operator had configured the relay so. */
async function changeRelays(page, change) {
  await page.route('**/realtime/webrtc/ice-servers*', async (route) => {
    const answer = await route.fetch();
    const body = await answer.json();
    await route.fulfill({ response: answer, json: { ice_servers: body.ice_servers.map(change) } });
  });
}

async function clipboard(page, wanted) {
  return until('it is in the clipboard', async () => {
    const text = await page.evaluate(() => navigator.clipboard.readText());
    return text.includes(wanted) && text;
  });
}

/** A port as behind a firewall that drops: what comes is taken, and nothing is answered. */
class BlackHole {
  packets = 0;

  static async open() {
    const hole = new BlackHole();
    hole.tcp = createServer((socket) => socket.on('error', () => {})).listen(0, '0.0.0.0');
    await once(hole.tcp, 'listening');
    hole.port = hole.tcp.address().port;
    hole.udp = createSocket('udp4').bind(hole.port, '0.0.0.0');
    hole.udp.on('message', () => (hole.packets += 1));
    await once(hole.udp, 'listening');
    return hole;
  }

  close() {
    this.tcp.close();
    this.udp.close();
  }
}

/** In the page: what would go straight to the media plane goes into the black hole; a relay, elsewhere, still reaches it. */
function divert({ to }) {
  const set = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function (description) {
    const straight = this.getConfiguration().iceTransportPolicy !== 'relay';
    const sdp = straight ? description.sdp.replace(/ \d+ typ host/g, ` ${to} typ host`) : description.sdp;
    return set.call(this, { type: description.type, sdp });
  };
}
