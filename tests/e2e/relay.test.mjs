// Media over the server's own TURN server and nothing else, by each of its transports.

import assert from 'node:assert/strict';
import { stage } from './lib/call.mjs';
import { Certificate } from './lib/certificate.mjs';
import { allMeet, callGoesOn } from './lib/participant.mjs';
import { freeMediaPort, freeTcpPort } from './lib/server.mjs';

const certificate = await Certificate.make(['localhost']);
const settings = {
  http: {
    https_listen: `127.0.0.1:${await freeTcpPort()}`,
    certificate_file: certificate.file,
    key_file: certificate.keyFile,
  },
  // Firefox reaches a TURN server over TLS only by a name.
  turn: { listen: [`0.0.0.0:${await freeMediaPort()}`], hosts: ['localhost'] },
};

stage({ settings, certificate }, (story) => {
  for (const relay of ['udp', 'tcp', 'tls']) {
    story(`Chromium and Firefox reach the relay over ${relay}`, async (call) => {
      const started = Date.now();
      const ann = await call.joined('Ann', { relay });
      const fox = await (await call.firefoxPerson('Fox')).join(call.server.url, call.room, { relay });
      await allMeet([ann, fox], { within: 20_000 });
      call.note(`met after ${Date.now() - started} ms`);
      await callGoesOn([ann, fox], { during: 3_000 });
      for (const person of [ann, fox]) {
        assert.deepEqual(await person.way(), { type: 'relay', protocol: relay }, `${person.name}'s way`);
      }
    });
  }
});
