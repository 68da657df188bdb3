// Chromium and Firefox in one call.

import { stage } from './lib/call.mjs';
import { allMeet, callGoesOn } from './lib/participant.mjs';
import { until } from './lib/until.mjs';

stage({}, (story) => {
  story('Chromium and Firefox see and hear each other', async (call) => {
    const ann = await call.joined('Ann');
    const fox = await (await call.firefoxPerson('Fox')).join(call.server.url, call.room);
    await allMeet([ann, fox], { within: 20_000 });
    await callGoesOn([ann, fox], { during: 5_000 });
  });

  story('Firefox mutes, comes back after a reload, and sees who comes later', async (call) => {
    const fox = await (await call.firefoxPerson('Fox')).join(call.server.url, call.room);
    const ann = await call.joined('Ann');
    await allMeet([ann, fox], { within: 20_000 });
    await fox.click('mic-button');
    await until('Ann sees that Fox is muted', async () => (await ann.tile('Fox')).muted);
    await fox.reload();
    await fox.seesMoving('Ann');
    await ann.seesMoving('Fox');
    const bob = await call.joined('Bob');
    await fox.seesMoving('Bob');
    await bob.seesMoving('Fox');
  });
});
