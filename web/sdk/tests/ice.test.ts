import { describe, expect, it } from 'vitest';
import { iceConfiguration } from '../src/ice';

const STUN = { urls: 'stun:stun.example' };
const TURN = {
  urls: [
    'turn:turn.example:3478?transport=udp',
    'turn:turn.example:3478',
    'turn:turn.example:3478?transport=tcp',
    'turns:turn.example:443?transport=tcp',
  ],
  username: 'ann',
  credential: 'secret',
};

describe('the ways to the server', () => {
  it('are all that it tells of', () => {
    const all = { iceServers: [STUN, TURN], iceTransportPolicy: 'all' };
    expect(iceConfiguration([STUN, TURN], {})).toEqual(all);
    expect(iceConfiguration([TURN], { iceTransportPolicy: 'relay' }).iceTransportPolicy).toBe('relay');
  });

  it.each([
    ['udp', TURN.urls.slice(0, 2)],
    ['tcp', TURN.urls.slice(2, 3)],
    ['tls', TURN.urls.slice(3)],
  ] as const)('are those over %s where only they are wanted', (turnTransport, urls) => {
    const { iceServers } = iceConfiguration([STUN, TURN], { turnTransport });
    expect(iceServers).toEqual([{ urls: [STUN.urls] }, { ...TURN, urls }]);
  });

  it('leave out a server that is reached by none of those', () => {
    const onlyUdp = { ...TURN, urls: 'turn:turn.example?transport=udp' };
    expect(iceConfiguration([onlyUdp], { turnTransport: 'tls' }).iceServers).toEqual([]);
  });
});
