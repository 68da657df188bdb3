// Messages and files over data channels.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stage } from './lib/call.mjs';
import { allMeet } from './lib/participant.mjs';
import { until } from './lib/until.mjs';

const FILE_BYTES = 20 * 1024 * 1024;

stage({}, (story) => {
  story('a message to everybody', async (call) => {
    const people = [await call.joined('Ann'), await call.joined('Bob'), await call.joined('Cid')];
    await allMeet(people);
    for (const one of people) await one.click('chat-button');
    await people[0].page.fill('[data-testid=chat-input]', 'Добрый день 👋');
    await people[0].click('chat-send');
    for (const one of people) {
      await until(`${one.name} reads it`, () => one.text('[data-testid=chat-message]').then((text) => text === 'Добрый день 👋'));
    }
    assert.match(await people[1].text('.entry'), /Ann/);
    await people[1].page.fill('[data-testid=chat-input]', 'And to you');
    await people[1].click('chat-send');
    await until('Ann reads the answer', async () => (await people[0].text('.entries')).includes('And to you'));
  });

  story('a file of 20 MB', async (call) => {
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    for (const one of [ann, bob]) await one.click('chat-button');
    const buffer = randomBytes(FILE_BYTES);
    await ann.page.setInputFiles('[data-testid=file-input]', { name: 'film.bin', mimeType: 'application/octet-stream', buffer });
    await until('Bob is offered the file', () => bob.exists('[data-testid=file-accept]'));
    const started = Date.now();
    await bob.click('file-accept');
    const done = (one) => one.exists('[data-testid=file-item][data-state=done]');
    await until('Bob has it', () => done(bob), { within: 60_000 });
    call.note(`${(FILE_BYTES / 1000 / (Date.now() - started)).toFixed(1)} MB/s`);
    await until('Ann knows', () => done(ann), { within: 5_000 });
    const [download] = await Promise.all([bob.page.waitForEvent('download'), bob.click('file-download')]);
    assert.equal(download.suggestedFilename(), 'film.bin');
    const folder = await mkdtemp(path.join(tmpdir(), 'veche-e2e-'));
    await download.saveAs(path.join(folder, 'film.bin'));
    const received = await readFile(path.join(folder, 'film.bin'));
    await rm(folder, { recursive: true });
    assert.ok(received.equals(buffer), `${received.length} bytes came, and not those that were sent`);
    await ann.seesMoving('Bob');
  });
});
