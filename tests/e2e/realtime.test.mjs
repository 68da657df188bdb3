// Messaging in a browser: the specification's samples as they stand, the SDK's plain script in their place, and the test
// pages, used by clicks.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { stage } from './lib/call.mjs';
import { until } from './lib/until.mjs';

const SAMPLES = path.join(path.dirname(fileURLToPath(import.meta.url)), 'lib/samples.js');
/** Green, 2 by 2. */
const PICTURE = 'iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAD0lEQVR4nGNg+M8AQhAKABvyA/1tVLjHAAAAAElFTkSuQmCC';
const DOCUMENT = Buffer.from('%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n').toString('base64');

/** Where the samples' and the SDK's classes of the same names are. */
const SOURCES = [
  { whose: 'the specification', at: 'Sample', script: async () => ({ content: await readFile(SAMPLES, 'utf8') }) },
  { whose: 'the SDK', at: 'Veche', script: async (url) => ({ url: `${url}/realtime/client.js` }) },
];

stage({}, (story) => {
  for (const source of SOURCES) {
    story(`the client of ${source.whose} shows notifications and pictures, sends and receives files`, async (call) => {
      const page = await open(call, source);
      await page.evaluate(
        ([at]) => {
          window.shown = [];
          const { origin, host } = location;
          const client = new window[at].RealtimeClient(`ws://${host}/realtime/ws`, `${origin}/realtime/events`);
          client.handleMessage = (message) => window.shown.push(message);
          client.showNotification = (title, body) => window.shown.push({ title, body, by: 'sse' });
          window.client = client;
          client.connectWebSocket();
          client.connectSSE('general');
        },
        [source.at],
      );
      await subscribers(call, 'general', 1);
      await until('the WebSocket is welcomed', () => shown(page, ({ type }) => type === 'welcome'));

      await call.server.post('/realtime/notifications/channel', { channel: 'general', title: 'Привет', body: '<b>мир</b>' });
      await until('the notification is shown', () => shown(page, ({ title, by }) => title === 'Привет' && by === 'sse'));

      await call.server.post('/realtime/binary/send', {
        channel: 'general', binary_data: PICTURE, content_type: 'image/png', filename: 'green.png',
      });
      await until('the picture is shown', () => page.evaluate(() => document.querySelector('img')?.naturalWidth === 2));

      const download = page.waitForEvent('download');
      await call.server.post('/realtime/binary/send', {
        channel: 'general', binary_data: DOCUMENT, content_type: 'application/pdf', filename: 'paper.pdf',
      });
      const file = await download;
      assert.equal(file.suggestedFilename(), 'paper.pdf');
      assert.equal((await bytesOf(await file.createReadStream())).toString('base64'), DOCUMENT);

      await page.evaluate((picture) => {
        document.querySelector('img').remove();
        const bytes = Uint8Array.from(atob(picture), (character) => character.charCodeAt(0));
        return window.client.sendFile(new File([bytes], 'sent.png', { type: 'image/png' }), 'general');
      }, PICTURE);
      await until('the sent picture comes back', () => page.evaluate(() => document.querySelector('img')?.naturalWidth === 2));
    });

    story(`the WebSocket of ${source.whose} comes back after a cut`, async (call) => {
      const proxy = await call.tcpProxy();
      const page = await open(call, source, proxy.url);
      await page.evaluate(
        ([at]) => {
          window.heard = [];
          window.client = new window[at].WebSocketClient(`ws://${location.host}/realtime/ws`)
            .on('open', () => window.heard.push('open'))
            .on('message', (event) => window.heard.push(JSON.parse(event.data).type))
            .on('close', () => window.heard.push('close'))
            .on('error', () => {});
        },
        [source.at],
      );
      const heard = () => page.evaluate(() => window.heard.join(' '));
      await until('welcome', async () => (await heard()) === 'open welcome');
      const sent = await page.evaluate(() => window.client.send({ type: 'hello', content: 'Привет!' }));
      assert.equal(sent, true);
      await until('echo', async () => (await heard()) === 'open welcome echo');
      proxy.cut();
      await until('back', async () => (await heard()) === 'open welcome echo close open welcome');
      await page.evaluate(() => window.client.close());
      await until('closed', async () => (await heard()).endsWith('close'));
    });
  }

  story('the SDK hears after a cut, and after a restart of the server, what it missed, once', async (call) => {
    const proxy = await call.tcpProxy();
    const page = await open(call, SOURCES[1], proxy.url);
    await page.evaluate(async () => {
      window.heard = [];
      window.told = [];
      const client = new window.Veche.RealtimeClient(`ws://${location.host}/realtime/ws`, undefined, { reconnectInterval: 300 });
      window.client = client.on('channel_message', ({ data }) => window.heard.push(data));
      for (const event of ['recovered', 'lost']) client.on(event, () => window.told.push(event));
      client.connectWebSocket();
      await client.whenReady();
      await client.subscribe('news');
    });
    const publish = (data) => call.server.post('/realtime/send', { channel: 'news', data });
    const heard = () => page.evaluate(() => window.heard.join(' '));
    await publish(1);
    await until('the first', async () => (await heard()) === '1');
    proxy.cut();
    await publish(2);
    await publish(3);
    await until('what was missed', async () => (await heard()) === '1 2 3');
    const published = page.evaluate(() => window.client.publish('news', 4));
    proxy.cut();
    assert.equal((await published).offset, 4);
    await until('their own', async () => (await heard()) === '1 2 3 4');
    await call.server.down();
    await call.server.up();
    await until('back', () => page.evaluate(() => window.client.connected));
    await publish(5);
    await until('after the restart', async () => (await heard()) === '1 2 3 4 5');
    const told = await page.evaluate(() => window.told);
    assert.ok(told.length >= 2 && told.every((one) => one === 'recovered'), told.join());
  });

  story('a file of many pieces goes up over a line that breaks, with progress', async (call) => {
    const proxy = await call.tcpProxy();
    const page = await open(call, SOURCES[1], proxy.url);
    const uploading = page.evaluate(async () => {
      const head = new TextEncoder().encode('%PDF-1.4');
      const bytes = new Uint8Array(10_000_000);
      for (let place = 0; place < bytes.length; place += 65_536) crypto.getRandomValues(bytes.subarray(place, place + 65_536));
      bytes.set(head);
      const client = new window.Veche.RealtimeClient(`ws://${location.host}/realtime/ws`);
      client.connectWebSocket();
      await client.whenReady();
      await client.subscribe('large');
      const announced = new Promise((resolve) => client.on('file', resolve));
      window.done = 0;
      await client.upload(new File([bytes], 'large.pdf', { type: 'application/pdf' }), {
        channel: 'large', onProgress: (done) => (window.done = done),
      });
      const blob = await client.download(await announced);
      const again = new Uint8Array(await blob.arrayBuffer());
      return again.length === bytes.length && again.every((byte, index) => byte === bytes[index]);
    });
    await until('half of it has left', () => page.evaluate(() => window.done > 5_000_000), { every: 5 });
    proxy.cut();
    assert.equal(await uploading, true);
  });

  story('the WebSocket test page: connect, subscribe, send, see frames, cut the line', async (call) => {
    const page = await testPage(call, 'test');
    await page.getByTestId('connect').click();
    await page.waitForSelector('[data-state=on]');
    await page.getByTestId('channel').fill('workshop');
    await page.getByTestId('subscribe').click();
    await page.getByTestId('channels').getByText('workshop').waitFor();
    await page.getByTestId('send-channel').fill('workshop');
    await page.getByTestId('send-data').fill('<img src=x onerror="window.broken = true"> & <b>text</b>');
    await page.getByTestId('send').click();
    const frames = page.getByTestId('frames');
    await frames.locator('.in[data-kind=channel_message]', { hasText: '<b>text</b>' }).waitFor();
    assert.equal(await page.evaluate(() => window.broken), undefined);

    await page.getByTestId('tab-file').click();
    await page.getByTestId('send-file').setInputFiles({ name: 'green.png', mimeType: 'image/png', buffer: Buffer.from(PICTURE, 'base64') });
    await page.getByTestId('send').click();
    const binary = frames.locator('.in[data-kind=binary]').first();
    await binary.locator('button.line').click();
    await until('the picture is shown', () => binary.locator('img').evaluate((image) => image.naturalWidth === 2));

    await page.getByTestId('tab-raw').click();
    await page.getByTestId('send-raw').fill('{"type": "ping"}');
    await page.getByTestId('send').click();
    await frames.locator('.in[data-kind=pong]').waitFor();

    await page.getByTestId('cut').click();
    await frames.locator('.event[data-kind=close]').waitFor();
    await call.server.post('/realtime/send', { channel: 'workshop', data: 'while away' });
    await until('it is recovered', async () => (await page.getByTestId('recoveries').textContent()) === '1');
    await frames.locator('.in[data-kind=channel_message]', { hasText: 'while away' }).waitFor();
    assert.equal(await page.getByTestId('reconnects').textContent(), '1');
    assert.match(await page.getByTestId('ping').textContent(), /\d+.* ms/);

    await page.getByTestId('connect').click();
    await page.waitForSelector('[data-state=off]');
  });

  story('the SSE test page, in Russian: events as they come, over a restart of the server', async (call) => {
    const page = await testPage(call, 'sse-test', { locale: 'ru', colorScheme: 'dark' });
    await page.getByTestId('channels').fill('radio, other');
    await page.getByTestId('connect').click();
    await page.waitForSelector('[data-state=on]');
    assert.equal(await page.getByTestId('state').textContent(), 'Соединено');
    await page.getByTestId('send-channel').fill('radio');
    await page.getByTestId('send').click();
    const frames = page.getByTestId('frames');
    await frames.locator('[data-kind=message]', { hasText: '{"hello":"world"}' }).waitFor();
    assert.match(await page.getByTestId('position').textContent(), /^[0-9a-f]{8}:1,/);
    await page.getByTestId('tab-notification').click();
    await page.getByTestId('send').click();
    await frames.locator('[data-kind=notification]').waitFor();
    await call.server.down();
    await call.server.up();
    await call.server.post('/realtime/send', { channel: 'radio', data: 'after the restart' });
    await frames.locator('[data-kind=message]', { hasText: 'after the restart' }).waitFor({ timeout: 20_000 });
    assert.match(await page.getByTestId('position').textContent(), /^[0-9a-f]{8}:3,/);
  });
});

/** A page of the server with the classes of one source in it. */
async function open(call, source, url = call.server.url) {
  const page = await call.page(source.at, { acceptDownloads: true });
  // No page of the app: those forbid scripts that are not the server's.
  await page.goto(`${url}/health`);
  await page.addScriptTag(await source.script(url));
  return page;
}

async function testPage(call, name, options) {
  const page = await call.page(name, options);
  const trouble = [];
  page.on('pageerror', (error) => trouble.push(error.message));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== call.server.url && !request.url().startsWith('data:')) trouble.push(request.url());
  });
  const answer = await page.goto(`${call.server.url}/realtime/${name}`);
  assert.match(answer.headers()['content-security-policy'], /default-src 'self'/);
  assert.deepEqual(trouble, []);
  return page;
}

async function shown(page, check) {
  return (await page.evaluate(() => window.shown)).some(check);
}

async function subscribers(call, channel, count) {
  await until(`${count} subscribe to ${channel}`, async () => (await call.server.get('/realtime/connections')).channels[channel] === count);
}

async function bytesOf(stream) {
  const blocks = [];
  for await (const block of stream) blocks.push(block);
  return Buffer.concat(blocks);
}
