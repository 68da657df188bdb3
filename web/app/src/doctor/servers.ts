/** What a server says of the ways to it: its relays one by one, and the addresses in its answer. */

/** A relay over one transport, to be tried alone. */
export interface Relay {
  url: string;
  host: string;
  port: number;
  transport: 'udp' | 'tcp' | 'tls';
  server: RTCIceServer;
}

/** TURN addresses are no URLs that `URL` reads: `turn:host:port?transport=udp` (RFC 7065). */
const TURN = /^(turns?):(\[[^\]]+\]|[^:?]+)(?::(\d+))?(?:\?transport=(\w+))?$/i;

/** Every address of every TURN server, with what it takes to log in there. STUN servers relay nothing. */
export function relaysOf(servers: readonly RTCIceServer[]): Relay[] {
  return servers.flatMap(({ urls, username, credential }) =>
    [urls].flat().flatMap((url) => {
      const [, scheme, host, port, transport] = TURN.exec(url) ?? [];
      if (scheme === undefined || host === undefined) return [];
      const secure = scheme.toLowerCase() === 'turns';
      const named = transport?.toLowerCase() === 'tcp' ? 'tcp' : 'udp';
      return [
        {
          url,
          host,
          port: port === undefined ? (secure ? 5349 : 3478) : Number(port),
          transport: secure ? 'tls' : named,
          server: { urls: url, username, credential },
        } satisfies Relay,
      ];
    }),
  );
}

/** An address of the server's media. */
export interface Candidate {
  protocol: 'udp' | 'tcp';
  /** `203.0.113.5:40000` */
  address: string;
}

const CANDIDATE = /^a=candidate:\S+ \d+ (udp|tcp) \d+ (\S+) (\d+) /i;

/** Where the server's media is, by its answer. */
export function candidatesOf(sdp: string): Candidate[] {
  return sdp.split(/\r?\n/).flatMap((line) => {
    const [, protocol, host, port] = CANDIDATE.exec(line) ?? [];
    if (protocol === undefined || host === undefined) return [];
    const address = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    return [{ protocol: protocol.toLowerCase() === 'tcp' ? 'tcp' : 'udp', address } as const];
  });
}

/** The answer with the addresses of one protocol only, so that nothing else is tried. */
export function onlyOver(sdp: string, protocol: Candidate['protocol']): string {
  return sdp
    .split('\r\n')
    .filter((line) => (CANDIDATE.exec(line)?.[1]?.toLowerCase() ?? protocol) === protocol)
    .join('\r\n');
}
