// People behind firewalls, with nothing configured on their side: the call comes up all the same.

import assert from 'node:assert/strict';
import { stage } from './lib/call.mjs';
import { Certificate } from './lib/certificate.mjs';
import { Network } from './lib/network.mjs';
import { allMeet, callGoesOn } from './lib/participant.mjs';
import { freeMediaPort } from './lib/server.mjs';

const PORT = 443;
/** Nobody waits for long: what is dropped is tried beside what is not. Machines are shared, so this is generous. */
const LONGEST_MS = 10_000;
/** What firewalls drop, as rules of nft. */
const FIREWALLS = {
  'UDP': ['meta l4proto udp counter drop'],
};

const certificate = await Certificate.make([Network.host]);
const network = await Network.make();
const page = `https://${Network.host}`;
const settings = {
  http: {
    https_listen: `${Network.address}:${PORT}`,
    certificate_file: certificate.file,
    key_file: certificate.keyFile,
  },
  media: { external_addresses: [Network.address] },
  turn: { listen: [`0.0.0.0:${await freeMediaPort()}`], hosts: [Network.host] },
};

stage({ settings, certificate, network }, (story) => {
  for (const [dropped, rules] of Object.entries(FIREWALLS)) {
    story(`a firewall that drops ${dropped}`, async (call) => {
      await network.firewall(rules);
      const ann = await call.person('Ann');
      const fox = await call.firefoxPerson('Fox');
      for (const person of [ann, fox]) {
        const started = Date.now();
        await person.join(page, call.room);
        const joined = Date.now() - started;
        await person.isConnected();
        const connected = Date.now() - started;
        call.note(`${person.browser}: in the room after ${joined} ms, media after ${connected} ms`);
        assert.ok(connected < LONGEST_MS, `${person.name}'s media took ${connected} ms`);
      }
      await allMeet([ann, fox], { within: 20_000 });
      await callGoesOn([ann, fox], { during: 3_000 });
      for (const person of [ann, fox]) {
        const { type, protocol } = await person.way();
        call.note(`${person.browser}: media goes over ${protocol}, from a candidate of type ${type}`);
        assert.ok(['tcp', 'tls'].includes(protocol), `${person.name}'s media goes over ${protocol}`);
      }
      assert.ok((await network.counted()) > 0, 'the firewall has dropped nothing');
    });
  }
});
