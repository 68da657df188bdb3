// Every codec once, between two people.

import assert from 'node:assert/strict';
import { stage } from './lib/call.mjs';
import { allMeet, callGoesOn } from './lib/participant.mjs';

// AV1's encoder is the slowest; two of them share the machine with everything else.
const CODECS = [
  { codec: 'h264', mime: 'video/H264', camera: { width: 480, height: 270, frameRate: 15 } },
  { codec: 'vp9', mime: 'video/VP9', camera: { width: 480, height: 270, frameRate: 15 } },
  { codec: 'av1', mime: 'video/AV1', camera: { width: 320, height: 180, frameRate: 10 } },
];

stage({}, (story) => {
  for (const { codec, mime, camera } of CODECS) {
    story(`a call in ${mime}`, async (call) => {
      const people = [await call.joined('Ann', { codec }, { camera }), await call.joined('Bob', { codec }, { camera })];
      await allMeet(people);
      await callGoesOn(people, { during: 4_000 });
      assert.equal((await people[0].received('Bob')).codec, mime);
      assert.equal((await people[1].received('Ann')).codec, mime);
    });
  }

  story('each sends another codec', async (call) => {
    const people = [await call.joined('Ann', { codec: 'h264' }), await call.joined('Bob', { codec: 'vp9' })];
    await allMeet(people);
    assert.equal((await people[0].received('Bob')).codec, 'video/VP9');
    assert.equal((await people[1].received('Ann')).codec, 'video/H264');
  });
});
