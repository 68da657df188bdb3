// Recordings: what people did in a call is in files that play, whatever happened meanwhile.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { stage } from './lib/call.mjs';
import { allMeet, callGoesOn } from './lib/participant.mjs';
import { Server } from './lib/server.mjs';
import { sleep, until } from './lib/until.mjs';

const run = promisify(execFile);

const settings = {
  turn: { enabled: false },
  signaling: { resume_seconds: 8 },
  recording: { min_free_mb: 1, empty_seconds: 2 },
};

stage({ settings }, (story) => {
  story('a call with loss, a mute and a reload is recorded, and every file plays', async (call) => {
    const udp = await call.udpProxy({ 'delay-ms': 10 });
    const ann = await call.joined('Ann', {}, { mediaPort: udp.port });
    const bob = await call.joined('Bob');
    await allMeet([ann, bob]);
    await udp.loss(0.05, 0.05);
    const base = `/realtime/webrtc/rooms/${call.room}/recordings`;
    const began = Date.now();
    const { status, body: recording } = await call.server.post(base);
    assert.equal(status, 201, JSON.stringify(recording));
    assert.equal((await call.server.post(base)).status, 409, 'it runs already');

    await sleep(6_000);
    await ann.click('mic-button');
    await sleep(3_000);
    await ann.click('mic-button');
    await sleep(2_000);
    await ann.reload();
    await allMeet([ann, bob], { within: 25_000 });
    await sleep(4_000);

    const stopped = await call.server.post(`${base}/${recording.recording_id}/stop`);
    const length = Date.now() - began;
    assert.equal(stopped.status, 200, JSON.stringify(stopped.body));
    assert.equal(stopped.body.end, 'stopped');
    const { manifest } = await call.server.get(`${base}/${recording.recording_id}`);
    call.note(JSON.stringify(manifest.files));
    assert.deepEqual(manifest.participants.map((one) => one.name).sort(), ['Ann', 'Bob']);
    assert.ok(Math.abs(manifest.duration_ms - length) < 500, `${manifest.duration_ms} of ${length} ms`);

    const bobs = manifest.files.filter((file) => file.participant === idOf(manifest, 'Bob'));
    assert.deepEqual(kinds(bobs.at(-1)), ['camera', 'microphone']);
    for (const name of ['Ann', 'Bob']) {
      const files = manifest.files.filter((file) => file.participant === idOf(manifest, name));
      const end = Math.max(...files.map((file) => file.offset_ms + file.duration_ms));
      assert.ok(manifest.duration_ms - end < 1_500, `${name}: the last frame is at ${end} of ${manifest.duration_ms} ms`);
    }
    for (const file of manifest.files) {
      const address = `${call.server.url}${base}/${recording.recording_id}/files/${file.name}`;
      const { duration } = await plays(address, call);
      assert.ok(Math.abs(duration - file.duration_ms) < 100, `${file.name}: ${duration} and ${file.duration_ms} ms`);
      const part = await fetch(address, { headers: { range: 'bytes=0-3' } });
      assert.deepEqual([part.status, part.headers.get('content-range')], [206, `bytes 0-3/${file.bytes}`]);
      assert.deepEqual([...new Uint8Array(await part.arrayBuffer())], [0x1a, 0x45, 0xdf, 0xa3]);
    }
    // What of Ann was silent is as long as she was silent.
    const anns = manifest.files.filter((file) => file.participant === idOf(manifest, 'Ann'));
    const total = anns.reduce((sum, file) => sum + file.duration_ms, 0);
    assert.ok(total > length - 6_000, `Ann: ${total} of ${length} ms`);

    const remove = (id) => fetch(`${call.server.url}${base}/${id}`, { method: 'DELETE' });
    assert.equal((await remove(recording.recording_id)).status, 204);
    assert.equal((await remove(recording.recording_id)).status, 404);
    assert.deepEqual((await call.server.get(base)).recordings, []);
  });

  story('a recording is ended when nobody is there any more', async (call) => {
    const ann = await call.joined('Ann');
    const base = `/realtime/webrtc/rooms/${call.room}/recordings`;
    const { body } = await call.server.post(base);
    await sleep(3_000);
    await ann.close();
    const ended = async () => (await call.server.get(base)).recordings[0];
    await until('it has ended', async () => ({ ok: (await ended()).end === 'room-empty' }), { within: 60_000 });
    assert.equal((await ended()).recording_id, body.recording_id);
  });

  story('a disk that fills ends the recording, and not the call', async (call) => {
    const disk = await mkdtemp(path.join(tmpdir(), 'veche-disk-'));
    await run('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', disk]);
    const folder = path.join(disk, 'recordings');
    const server = await Server.start({ turn: { enabled: false }, recording: { min_free_mb: 0, folder } });
    try {
      const people = [];
      for (const name of ['Ann', 'Bob']) people.push(await (await call.person(name)).join(server.url, call.room));
      await allMeet(people);
      const base = `/realtime/webrtc/rooms/${call.room}/recordings`;
      const { status, body } = await server.post(base);
      assert.equal(status, 201, JSON.stringify(body));
      await sleep(4_000);
      // All but a little.
      const free = Number((await run('df', ['--output=avail', '-B1', disk])).stdout.split('\n')[1]);
      await writeFile(path.join(disk, 'others'), Buffer.alloc(free - 100_000));
      await until(
        'the recording has ended',
        async () => {
          const [one] = (await server.get(base)).recordings;
          return { ok: one.end === 'disk-full', one };
        },
        { within: 30_000 },
      );
      const { manifest } = await server.get(`${base}/${body.recording_id}`);
      for (const file of manifest.files) {
        const { duration } = await plays(`${server.url}${base}/${body.recording_id}/files/${file.name}`, call);
        assert.ok(Math.abs(duration - file.duration_ms) < 100, `${file.name}: ${duration} and ${file.duration_ms} ms`);
        assert.ok(duration > 3_000, `${file.name}: ${duration} ms`);
      }
      await callGoesOn(people, { during: 3_000 });
    } finally {
      await server.stop();
      await run('umount', [disk]);
      await rm(disk, { recursive: true });
    }
  });

  story('whatever the moment of a kill, what is there plays after the next start', async (call) => {
    const server = await Server.start({ turn: { enabled: false }, recording: { min_free_mb: 1 } });
    try {
      for (let round = 1; round <= 3; round++) {
        const room = `${call.room}-${round}`;
        const people = [];
        for (const name of ['Ann', 'Bob']) {
          const person = await call.person(name);
          people.push(await person.join(server.url, room));
        }
        const base = `/realtime/webrtc/rooms/${room}/recordings`;
        const { body } = await server.post(base);
        const wait = 2_500 + Math.random() * 3_000;
        await sleep(wait);
        await server.down('SIGKILL');
        await Promise.all(people.map((person) => person.close()));
        await server.up();
        const { manifest } = await server.get(`${base}/${body.recording_id}`);
        assert.equal(manifest.end, 'server-stopped');
        assert.ok(manifest.files.length >= 2, JSON.stringify(manifest));
        for (const file of manifest.files) {
          assert.ok(file.mended, `${file.name} was not mended`);
          const { duration } = await plays(`${server.url}${base}/${body.recording_id}/files/${file.name}`, call);
          assert.ok(Math.abs(duration - file.duration_ms) < 100, `${file.name}: ${duration} and ${file.duration_ms}`);
          const end = file.offset_ms + duration;
          assert.ok(end > wait - 2_300, `${file.name} ends at ${end} of ${Math.round(wait)} ms`);
        }
        call.note(`killed after ${Math.round(wait)} ms: ${manifest.files.map((file) => file.duration_ms)} ms`);
      }
    } finally {
      await server.stop();
    }
  });
});

function idOf(manifest, name) {
  return manifest.participants.find((one) => one.name === name).id;
}

function kinds(file) {
  return file.tracks.map((track) => track.source);
}

/** ffmpeg decodes all of it and has nothing to say; how long it is, in milliseconds. */
async function plays(address, call) {
  const decoded = await run('ffmpeg', ['-v', 'warning', '-xerror', '-i', address, '-fps_mode', 'vfr', '-f', 'null', '-']);
  assert.equal(decoded.stderr, '', address);
  const probe = ['-v', 'error', '-show_entries', 'format=duration:stream=codec_name,width,height', '-of', 'json', address];
  const { format, streams } = JSON.parse((await run('ffprobe', probe)).stdout);
  call.note(`${path.basename(address)}: ${format.duration} s, ${streams.map((s) => s.codec_name + (s.width ?? '')).join()}`);
  return { duration: Number(format.duration) * 1_000, streams };
}
