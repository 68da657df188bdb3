/** Which of the ways to the server that `joined` names a media connection may take. */

/** How a TURN server is reached. */
export type TurnTransport = 'udp' | 'tcp' | 'tls';

export interface IceOptions {
  /** `'relay'`: media goes over a TURN server only, which shows whether that works. */
  iceTransportPolicy?: RTCIceTransportPolicy;
  /** The one transport to reach TURN servers by; all that the server tells of if left out. */
  turnTransport?: TurnTransport;
}

/** The part of an `RTCPeerConnection`'s configuration that is about its ways to the server. */
export function iceConfiguration(
  servers: readonly RTCIceServer[],
  { iceTransportPolicy = 'all', turnTransport }: IceOptions,
): Pick<RTCConfiguration, 'iceServers' | 'iceTransportPolicy'> {
  if (turnTransport === undefined) return { iceServers: [...servers], iceTransportPolicy };
  const iceServers = servers.flatMap((server) => {
    const urls = [server.urls].flat().filter((url) => [undefined, turnTransport].includes(transportOf(url)));
    return urls.length > 0 ? [{ ...server, urls }] : [];
  });
  return { iceServers, iceTransportPolicy };
}

/** The transport that a TURN server's address (RFC 7065) asks for; none for STUN servers, which are no relays. */
function transportOf(url: string): TurnTransport | undefined {
  if (url.startsWith('turns:')) return 'tls';
  if (url.startsWith('turn:')) return url.includes('transport=tcp') ? 'tcp' : 'udp';
  return undefined;
}
