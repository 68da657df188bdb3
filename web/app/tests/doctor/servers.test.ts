import { describe, expect, it } from 'vitest';
import { candidatesOf, onlyOver, relaysOf } from '../../src/doctor/servers';

describe('relays', () => {
  it('are taken one by one, each with its credentials', () => {
    const urls = ['turn:turn.example:3478?transport=udp', 'turn:turn.example:443?transport=tcp', 'turns:turn.example?transport=tcp'];
    const relays = relaysOf([{ urls: 'stun:stun.example:3478' }, { urls, username: '1:ann', credential: 'x' }]);
    expect(relays.map(({ transport, host, port }) => `${transport} ${host} ${port}`)).toEqual([
      'udp turn.example 3478',
      'tcp turn.example 443',
      'tls turn.example 5349',
    ]);
    expect(relays[1]?.server).toEqual({ urls: urls[1], username: '1:ann', credential: 'x' });
  });

  it('may have addresses of IPv6, and say nothing of the transport', () => {
    expect(relaysOf([{ urls: 'turn:[2001:db8::7]:3478' }, { urls: 'TURN:192.0.2.1' }])).toMatchObject([
      { host: '[2001:db8::7]', port: 3478, transport: 'udp' },
      { host: '192.0.2.1', port: 3478, transport: 'udp' },
    ]);
  });

  it('that are none are passed over', () => {
    expect(relaysOf([{ urls: ['stuns:a', 'turn:', 'https://turn.example'] }])).toEqual([]);
  });
});

const ANSWER = [
  'v=0',
  'm=application 9 UDP/DTLS/SCTP webrtc-datachannel',
  'a=candidate:1 1 udp 2130706431 203.0.113.5 40000 typ host',
  'a=candidate:2 1 UDP 2130706175 2001:db8::7 40000 typ host',
  'a=candidate:3 1 tcp 1671430143 203.0.113.5 40000 typ host tcptype passive',
  'a=end-of-candidates',
  '',
].join('\r\n');

describe('an answer', () => {
  it('tells where media is', () => {
    expect(candidatesOf(ANSWER)).toEqual([
      { protocol: 'udp', address: '203.0.113.5:40000' },
      { protocol: 'udp', address: '[2001:db8::7]:40000' },
      { protocol: 'tcp', address: '203.0.113.5:40000' },
    ]);
  });

  it('can be left with one protocol, and everything else as it was', () => {
    expect(candidatesOf(onlyOver(ANSWER, 'tcp')).map(({ protocol }) => protocol)).toEqual(['tcp']);
    expect(candidatesOf(onlyOver(ANSWER, 'udp')).map(({ protocol }) => protocol)).toEqual(['udp', 'udp']);
    const bare = (sdp: string) => sdp.split('\r\n').filter((line) => !line.startsWith('a=candidate'));
    expect(bare(onlyOver(ANSWER, 'tcp'))).toEqual(bare(ANSWER));
  });
});
