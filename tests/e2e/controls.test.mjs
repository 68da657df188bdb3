// What people can do in a call, and what the others see of it.

import assert from 'node:assert/strict';
import { stage } from './lib/call.mjs';
import { allMeet, callGoesOn } from './lib/participant.mjs';
import { sleep, until } from './lib/until.mjs';

stage({}, (story) => {
  story('mute and unmute', async (call) => {
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    await bob.click('mic-button');
    await until('Ann sees that Bob is muted', async () => (await ann.tile('Bob')).muted);
    await sleep(1_000);
    const energy = async () => (await ann.received('Bob', 'microphone'))?.totalAudioEnergy ?? 0;
    const silent = await energy();
    await sleep(2_500);
    assert.ok((await energy()) - silent < 1e-4, 'Ann hears Bob, who is muted');
    await bob.click('mic-button');
    await until('Ann sees that Bob is not muted', async () => !(await ann.tile('Bob')).muted);
    await ann.hears('Bob');
  });

  story('camera off and on', async (call) => {
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    await bob.click('camera-button');
    await until('Bob has no picture any more', async () => !(await ann.tile('Bob')).hasVideo);
    await ann.hears('Bob');
    await bob.click('camera-button');
    await ann.seesMoving('Bob');
  });

  story('a screen beside the camera', async (call) => {
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    await bob.click('screen-button');
    await ann.sees('Bob', 'screen');
    await ann.seesMoving('Bob');
    const screen = await ann.tile('Bob', 'screen');
    assert.ok(screen.width > (await ann.tile('Bob')).width, 'the screen is not the larger tile');
    const late = await call.joined('Cid');
    await late.sees('Bob', 'screen');
    await bob.click('screen-button');
    await until('the screen is gone', async () => !(await ann.tile('Bob', 'screen')));
    await callGoesOn([ann, bob], { during: 3_000 });
    await bob.click('screen-button');
    await ann.sees('Bob', 'screen');
  });

  story('who is pinned is large and sharp', async (call) => {
    const people = [await call.joined('Ann'), await call.joined('Bob'), await call.joined('Cid')];
    const [ann] = people;
    await allMeet(people);
    await ann.page.click('[data-testid=tile][data-name=Bob] [data-testid=pin-button]');
    await until('Bob is large', async () => {
      const [bob, cid] = [await ann.tile('Bob'), await ann.tile('Cid')];
      return { ok: bob.pinned && bob.width > 2 * cid.width, bob: bob.width, cid: cid.width };
    });
    await until('Bob comes in the larger size, Cid in the smaller', async () => {
      const [bob, cid] = [await ann.received('Bob'), await ann.received('Cid')];
      return { ok: bob?.frameWidth > cid?.frameWidth, bob: bob?.frameWidth, cid: cid?.frameWidth };
    });
    await callGoesOn([ann], { during: 2_000 });
    await ann.page.click('[data-testid=tile][data-name=Bob] [data-testid=pin-button]');
    await until('nobody is pinned', async () => !(await ann.tile('Bob')).pinned);
    await ann.seesMoving('Cid');
  });
});
