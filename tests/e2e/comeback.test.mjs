// Bad days that end well: without a click, everybody is back.

import assert from 'node:assert/strict';
import { stage } from './lib/call.mjs';
import { allMeet, callGoesOn } from './lib/participant.mjs';
import { sleep, until } from './lib/until.mjs';

stage({}, (story) => {
  story('a reload', async (call) => {
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    const peer = await ann.peerId();
    await bob.listen();
    const started = Date.now();
    await ann.reload();
    await ann.seesMoving('Bob');
    await bob.seesMoving('Ann');
    const took = Date.now() - started;
    assert.ok(took < 5_000, `back after ${took} ms`);
    assert.equal(await ann.peerId(), peer, 'Ann is somebody else after the reload');
    assert.deepEqual(await bob.heard('participant-left'), [], 'Bob was told that Ann left');
    await allMeet([ann, bob]);
    await callGoesOn([ann, bob], { during: 3_000 });
  });

  story('a dropped WebSocket is resumed, and nobody notices', async (call) => {
    const tcp = await call.tcpProxy();
    const ann = await call.joined('Ann', {}, { url: tcp.url });
    const bob = await call.joined('Bob');
    await allMeet([ann, bob]);
    const peer = await ann.peerId();
    await Promise.all([ann.listen(), bob.listen(), ann.keepConnection()]);
    const watching = callGoesOn([ann, bob], { during: 6_000 });
    tcp.cut();
    await until('Ann resumed', async () => (await ann.heard('state')).join() === 'reconnecting,connected');
    await watching;
    assert.equal(await ann.peerId(), peer);
    assert.ok(await ann.hasSameConnection(), 'the media connection was made anew');
    assert.deepEqual(await bob.heard('participant-left'), []);
    // What is said over the new WebSocket arrives.
    await ann.click('mic-button');
    await until('Bob sees that Ann is muted', async () => (await bob.tile('Ann')).muted);
  });

  story('the network is gone for ten seconds', async (call) => {
    const [tcp, udp] = [await call.tcpProxy(), await call.udpProxy()];
    const ann = await call.joined('Ann', {}, { url: tcp.url, mediaPort: udp.port });
    const bob = await call.joined('Bob');
    await allMeet([ann, bob]);
    assert.ok((await udp.counters()).up.passed > 0, 'nothing goes through the proxy');
    const peer = await ann.peerId();
    await bob.listen();
    tcp.blackout(true);
    await udp.blackout(true);
    const started = Date.now();
    await until('Ann is told', () => ann.exists('[data-testid=banner]'), { within: 9_000 });
    await sleep(Math.max(0, 10_000 - (Date.now() - started)));
    tcp.blackout(false);
    await udp.blackout(false);
    await Promise.all([ann.seesMoving('Bob', { within: 12_000 }), bob.seesMoving('Ann', { within: 12_000 })]);
    await allMeet([ann, bob]);
    await until('the banner is gone', async () => !(await ann.exists('[data-testid=banner]')));
    assert.equal(await ann.peerId(), peer);
    assert.deepEqual(await bob.heard('participant-left'), []);
    await callGoesOn([ann, bob], { during: 3_000 });
  });

  story('an ICE restart', async (call) => {
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    const before = await ann.iceCredentials();
    const watching = callGoesOn([ann, bob], { during: 5_000 });
    await ann.evaluate(() => window.veche.connection.restartIce());
    await until('new credentials on both sides', async () => {
      const now = await ann.iceCredentials();
      return now.local !== before.local && now.remote !== before.remote && now.stable;
    });
    await watching;
    assert.equal(await ann.evaluate(() => window.veche.connection.connectionState), 'connected');
  });

  story('the server is stopped and started', async (call) => {
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    await call.server.down();
    await until('Ann is told', () => ann.exists('[data-testid=banner]'));
    await sleep(2_000);
    await call.server.up();
    await allMeet([ann, bob], { within: 20_000 });
    await until('the banner is gone', async () => !(await ann.exists('[data-testid=banner]')));
    await callGoesOn([ann, bob], { during: 3_000 });
  });
});
