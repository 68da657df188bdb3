// Who does not come back.

import { stage } from './lib/call.mjs';
import { allMeet, callGoesOn } from './lib/participant.mjs';
import { until } from './lib/until.mjs';

stage({ settings: { signaling: { resume_seconds: 4 } } }, (story) => {
  story('a browser that dies without a word disappears for the others', async (call) => {
    const people = [await call.joined('Ann'), await call.joined('Bob')];
    const browser = await call.chromium();
    const eve = await (await call.personIn(browser, 'Eve')).join(call.server.url, call.room);
    await allMeet([...people, eve]);
    await browser.kill();
    await until('Ann sees that Eve is lost', async () => {
      const tile = await people[0].tile('Eve');
      return !tile || !tile.connected;
    }, { within: 5_000 });
    await Promise.all(people.map((one) => one.seesExactly([one === people[0] ? 'Bob' : 'Ann'], { within: 10_000 })));
    await callGoesOn(people, { during: 2_000 });
    const rooms = await call.server.counters(call.room);
    if ('Eve' in rooms) throw new Error('the server still counts Eve');
  });

  story('a window that is closed', async (call) => {
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    await bob.close();
    await ann.seesExactly([], { within: 8_000 });
  });
});
