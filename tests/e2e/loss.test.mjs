// A bad network: ten packets of a hundred are lost, each way.

import assert from 'node:assert/strict';
import { stage } from './lib/call.mjs';
import { allMeet, callGoesOn } from './lib/participant.mjs';
import { sleep } from './lib/until.mjs';

stage({}, (story) => {
  story('ten per cent of loss each way: video goes on, and asking ends with the loss', async (call) => {
    const udp = await call.udpProxy({ 'delay-ms': 10 });
    const ann = await call.joined('Ann', {}, { mediaPort: udp.port });
    const bob = await call.joined('Bob');
    await allMeet([ann, bob]);

    await udp.loss(0.1, 0.1);
    await sleep(1_000);
    await callGoesOn([ann, bob], { during: 10_000, longest: 2_000 });

    const lost = await udp.counters();
    assert.ok(lost.up.lost > 50 && lost.down.lost > 50, `too little was lost: ${JSON.stringify(lost)}`);
    const server = (await call.server.counters(call.room)).Ann;
    const received = await ann.received('Bob');
    const sent = (await ann.reports('outbound-rtp')).filter((one) => one.kind === 'video');
    // Upwards: the server asks, the browser repairs.
    assert.ok(server.nacks_sent > 0, 'the server never asked again');
    assert.ok(server.repairs_received > 0, 'no repair reached the server');
    assert.ok(sum(sent, 'retransmittedPacketsSent') > 0, 'the browser repaired nothing');
    // Downwards: the browser asks, the server repairs.
    assert.ok(received.nackCount > 0, 'the browser never asked again');
    assert.ok(server.nacks_received > 0, 'no request reached the server');
    assert.ok(server.repairs_sent > 0, 'the server repaired nothing');
    assert.ok(received.retransmittedPacketsReceived > 0, 'no repair reached the browser');

    await udp.loss(0, 0);
    await sleep(3_000);
    const before = await requests(call, ann);
    await callGoesOn([ann, bob], { during: 4_000 });
    const after = await requests(call, ann);
    assert.deepEqual(after, before, 'requests go on though nothing is lost');
  });
});

async function requests(call, ann) {
  const { nacks_sent, nacks_received } = (await call.server.counters(call.room)).Ann;
  const { nackCount } = await ann.received('Bob');
  return { nacks_sent, nacks_received, nackCount };
}

function sum(reports, field) {
  return reports.reduce((total, report) => total + (report[field] ?? 0), 0);
}
