import { describe, expect, it } from 'vitest';
import { readOptions } from '../src/options';

describe('the way of media in an address', () => {
  const way = (query: string) => {
    const { iceTransportPolicy, turnTransport } = readOptions(`https://veche.example/r/kitchen${query}`);
    return { iceTransportPolicy, turnTransport };
  };

  it.each(['', '?relay=0', '?relay=', '?relay=false', '?relay=no', '?name=relay'])('is the browser’s choice: %s', (query) => {
    expect(way(query)).toEqual({});
  });

  it.each(['1', 'true'])('leads over any TURN server: %s', (relay) => {
    expect(way(`?relay=${relay}`)).toEqual({ iceTransportPolicy: 'relay' });
  });

  it.each(['udp', 'tcp', 'tls'])('leads over one that is reached by %s', (turnTransport) => {
    expect(way(`?relay=${turnTransport}`)).toEqual({ iceTransportPolicy: 'relay', turnTransport });
    expect(way(`?relay=${turnTransport.toUpperCase()}`)).toEqual({ iceTransportPolicy: 'relay', turnTransport });
  });
});
