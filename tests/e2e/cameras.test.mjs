// Cameras that send pictures, on the page that shows a room's.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { stage } from './lib/call.mjs';
import { sleep, until } from './lib/until.mjs';

const COLOURS = { red: [255, 0, 0], blue: [0, 0, 255], lime: [0, 255, 0] };
/** How far a colour may be off, of 255: JPEG keeps it nearly. */
const TOLERANCE = 12;
/** Video keeps it less well, and browsers differ in what they take its colours for. */
const VIDEO_TOLERANCE = 40;

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

  story('a camera with nothing but HTTP takes part in a call', async (call) => {
    const url = `${call.server.url}/realtime/webrtc/rooms/${call.room}/cameras/door`;
    const picture = await jpeg('red', { width: 1280, height: 720, right: 'blue' });
    let sending = true;
    const camera = (async () => {
      for (; sending; await sleep(80)) await post(`${url}/frames?call=1`, picture);
    })();
    try {
      const anna = await call.joined('Anna');
      await anna.seesExactly(['door']);
      await anna.seesMoving('door', { within: 20_000 });
      const seen = await until('the picture is the one that was sent', () => halves(anna, 'door'), { within: 15_000 });
      call.note(`seen ${JSON.stringify(seen.seen)} in ${seen.width} x ${seen.height}`);
      // Who comes later sees it at once, too.
      const boris = await call.joined('Boris');
      await boris.seesExactly(['Anna', 'door']);
      await boris.seesMoving('door', { within: 20_000 });
      const summary = await (await fetch(url)).json();
      assert.equal(summary.in_call, true);
      const { muted } = await mutedBy(call, anna);
      call.note(`muted by a moderator: ${muted}`);
      sending = false;
      await camera;
      await fetch(url, { method: 'DELETE' });
      await anna.seesExactly(['Boris']);
    } finally {
      sending = false;
      await camera;
    }
  });
});

/** A picture of one colour, or of two. */
async function jpeg(colour, { width = 640, height = 360, right = colour } = {}) {
  const half = `color=c=${colour}:s=${width / 2}x${height},pad=${width}:${height}:0:0:${right}`;
  const input = ['-f', 'lavfi', '-i', half, '-frames:v', '1', '-q:v', '2', '-f', 'mjpeg', '-'];
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

/** Mutes the camera as a moderator does, and waits until somebody is told. */
async function mutedBy(call, person) {
  await call.server.post(`/realtime/webrtc/rooms/${call.room}/participants/camera-door/mute`, {});
  return until('the camera is muted', async () => {
    const muted = await person.evaluate(() => window.veche.participants.find(({ name }) => name === 'door')?.tracks[0]?.muted);
    return { ok: muted === true, muted };
  });
}

/** Whether somebody sees red to the left and blue to the right in the tile of this name. */
async function halves(person, name) {
  const found = await person.evaluate((name) => {
    const tile = [...document.querySelectorAll('[data-testid=tile]')].find(({ dataset }) => dataset.name === name);
    const video = tile?.querySelector('video');
    if (!video?.videoWidth) return { seen: null };
    const canvas = Object.assign(document.createElement('canvas'), { width: video.videoWidth, height: video.videoHeight });
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0);
    const at = (x) => [...context.getImageData(video.videoWidth * x, video.videoHeight / 2, 1, 1).data.slice(0, 3)];
    return { seen: [at(0.25), at(0.75)], width: video.videoWidth, height: video.videoHeight };
  }, name);
  const wanted = [COLOURS.red, COLOURS.blue];
  const ok = found.seen?.every((pixel, half) => pixel.every((value, index) => Math.abs(value - wanted[half][index]) <= VIDEO_TOLERANCE));
  return { ok: ok ?? false, ...found };
}
