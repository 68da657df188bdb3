// Messages and files over data channels.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
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
    await bob.click('file-accept');
    const done = (one) => one.exists('[data-testid=file-item][data-state=done]');
    await until('Bob has it', () => done(bob), { within: 60_000 });
    await until('Ann knows', () => done(ann), { within: 5_000 });
    const received = await bob.evaluate(async () => {
      const link = document.querySelector('[data-testid=file-download]');
      const bytes = await (await fetch(link.href)).arrayBuffer();
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
      const hash = [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
      return { size: bytes.byteLength, name: link.download, hash };
    });
    assert.deepEqual(received, {
      size: FILE_BYTES,
      name: 'film.bin',
      hash: createHash('sha256').update(buffer).digest('hex'),
    });
    await ann.seesMoving('Bob');
  });
});
