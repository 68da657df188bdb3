// Rooms, and pages that are not ours.

import assert from 'node:assert/strict';
import { stage } from './lib/call.mjs';
import { allMeet } from './lib/participant.mjs';
import { until } from './lib/until.mjs';

stage({}, (story) => {
  story('a room that is full says so', async (call) => {
    const made = await call.server.post('/realtime/webrtc/rooms', { room_id: call.room, name: 'Small', max_participants: 2 });
    assert.ok(made.status < 300, JSON.stringify(made));
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    const cid = await call.person('Cid');
    await cid.opens(call.server.url, call.room);
    await cid.click('join-button');
    await until('Cid is told', () => cid.exists('[data-testid=join-error][data-code=room_full]'));
    assert.match(await cid.text('[data-testid=join-error]'), /The room is full/);
    // There is place again: the same button does it.
    await bob.click('leave-button');
    await ann.seesExactly([]);
    await cid.click('join-button');
    await cid.isInCall();
    await cid.seesMoving('Ann');
  });

  story('on a server that asks for nothing everybody may moderate, and nobody is kept at a door', async (call) => {
    const [ann, bob] = [await call.joined('Ann'), await call.joined('Bob')];
    await allMeet([ann, bob]);
    await bob.click('people-button');
    await until('Bob can moderate Ann', () => bob.exists('[data-testid=person][data-name=Ann] [data-testid=person-menu]'));
    assert.ok(!(await bob.exists('[data-testid=lock-switch]')), 'a lock that keeps nobody out is offered');
    await bob.page.click('[data-testid=person][data-name=Ann] [data-testid=person-menu]');
    await bob.click('remove');
    await bob.click('confirm-button');
    await until('Ann sees the last page', () => ann.exists('[data-testid=left][data-code=removed]'));
    await ann.click('rejoin-button');
    await ann.isInCall();
    await bob.seesExactly(['Ann']);
  });

  story("the first contract's sample page: peer to peer, the server only relays", async (call) => {
    const [first, second] = [await call.person('First'), await call.person('Second')];
    for (const one of [first, second]) await one.page.goto(`${call.server.url}/health`);
    const own = await second.evaluate(samplePage, { room: call.room });
    await first.evaluate(samplePage, { room: call.room, target: own });
    for (const one of [first, second]) {
      await until(`${one.name} sees the other`, () =>
        one.evaluate(() => {
          const video = document.getElementById('remoteVideo');
          const { videoWidth: width, currentTime } = video;
          return { ok: width > 0 && currentTime > 1, width, currentTime, state: window.peerConnection.connectionState };
        }),
      );
    }
    const signals = await second.evaluate(() => window.signals);
    const offer = signals.find((signal) => signal.signal_type === 'offer');
    assert.equal(offer.target_peer_id, own);
    assert.equal(offer.room_id, call.room);
    assert.ok(offer.from_peer_id, 'the relayed offer does not say whom it is from');
  });
});

/**
 * The sample of the contract, put together to a page: the names, the messages and their order are the contract's.
 * Only who calls whom is added. Returns the page's own name.
 */
async function samplePage({ room, target }) {
  document.body.innerHTML = '<video id="localVideo" autoplay muted></video><video id="remoteVideo" autoplay muted></video>';
  window.signals = [];
  const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
  const signalingSocket = new WebSocket(`ws://${location.host}/realtime/webrtc/signaling?room_id=${room}`);
  const peerConnection = (window.peerConnection = new RTCPeerConnection({ iceServers: [] }));
  stream.getTracks().forEach((track) => peerConnection.addTrack(track, stream));
  document.getElementById('localVideo').srcObject = stream;
  peerConnection.ontrack = (event) => {
    document.getElementById('remoteVideo').srcObject = event.streams[0];
  };
  let other = target;
  const send = (signal) =>
    signalingSocket.send(JSON.stringify({ target_peer_id: other, room_id: room, ...signal }));
  peerConnection.onicecandidate = ({ candidate }) => {
    if (candidate) send({ signal_type: 'ice-candidate', ice_candidate: candidate });
  };
  let named;
  const name = new Promise((resolve) => (named = resolve));
  signalingSocket.onmessage = async (event) => {
    const signal = JSON.parse(event.data);
    window.signals.push(signal);
    switch (signal.signal_type) {
      case 'joined':
        named(signal.peer_id);
        break;
      case 'offer': {
        other = signal.from_peer_id;
        await peerConnection.setRemoteDescription(new RTCSessionDescription({ type: 'offer', sdp: signal.sdp }));
        const answer = await peerConnection.createAnswer();
        await peerConnection.setLocalDescription(answer);
        send({ signal_type: 'answer', sdp: answer.sdp });
        break;
      }
      case 'answer':
        await peerConnection.setRemoteDescription(new RTCSessionDescription({ type: 'answer', sdp: signal.sdp }));
        break;
      case 'ice-candidate':
        await peerConnection.addIceCandidate(new RTCIceCandidate(signal.ice_candidate));
        break;
    }
  };
  const own = await name;
  if (target) {
    const offer = await peerConnection.createOffer();
    await peerConnection.setLocalDescription(offer);
    send({ signal_type: 'offer', sdp: offer.sdp });
  }
  return own;
}
