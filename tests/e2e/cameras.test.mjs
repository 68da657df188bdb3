// Cameras that send pictures, on the page that shows a room's.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { stage } from './lib/call.mjs';
import { until } from './lib/until.mjs';

const COLOURS = { red: [255, 0, 0], blue: [0, 0, 255], lime: [0, 255, 0] };
/** How far a colour may be off, of 255: JPEG keeps it nearly. */
const TOLERANCE = 12;

stage({}, (story) => {
  story('the page of a room shows the newest picture of each camera', async (call) => {
    const camera = (name) => `${call.server.url}/realtime/webrtc/rooms/${call.room}/cameras/${name}`;
    const pictures = Object.fromEntries(await Promise.all(Object.keys(COLOURS).map(async (name) => [name, await jpeg(name)])));
    await post(`${camera('door')}/frames`, pictures.red);
    const page = await call.page('looks');
    await page.goto(`${call.server.url}/cameras?room=${call.room}`);
    await until('the door is red', () => shows(page, 'door', 'red'));
    const started = Date.now();
    await post(`${camera('door')}/frames`, pictures.blue);
    await until('the door is blue', () => shows(page, 'door', 'blue'), { every: 10 });
    const took = Date.now() - started;
    call.note(`a frame was seen ${took} ms after it was sent`);
    assert.ok(took < 2000, `${took} ms`);
    await post(`${camera('roof')}/frames`, pictures.lime);
    await until('the roof is there too', () => shows(page, 'roof', 'lime'));
    await until('somebody looks', async () => (await (await fetch(camera('roof'))).json()).viewers === 1);
    await fetch(camera('roof'), { method: 'DELETE' });
    await until('the roof is gone', () => page.evaluate(() => document.querySelectorAll('figure').length === 1));
  });
});

async function jpeg(colour) {
  const input = ['-f', 'lavfi', '-i', `color=c=${colour}:s=640x360`, '-frames:v', '1', '-f', 'mjpeg', '-'];
  const { stdout } = await promisify(execFile)('ffmpeg', ['-v', 'error', ...input], { encoding: 'buffer' });
  return stdout;
}

async function post(url, body) {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'image/jpeg' }, body });
  assert.equal(answer.status, 200, await answer.text());
}

/** Whether a camera's picture has this colour in its middle. */
async function shows(page, name, colour) {
  const seen = await page.evaluate((name) => {
    const image = [...document.querySelectorAll('img')].find((image) => image.alt === name);
    if (!image?.naturalWidth) return null;
    const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
    const context = canvas.getContext('2d');
    context.drawImage(image, image.naturalWidth / 2, image.naturalHeight / 2, 1, 1, 0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  }, name);
  return { ok: seen?.every((value, index) => Math.abs(value - COLOURS[colour][index]) <= TOLERANCE) ?? false, seen };
}
