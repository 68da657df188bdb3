/**
 * One way that media can take, tried alone: a connection to the server's media of which nothing but that way is left, over
 * which the server sends back what we send to ourselves. Sound and picture of calls go the very same way.
 */

import type { ErrorBody } from '@veche/sdk';
import type { PathFacts } from './facts';
import { echoFigures, rateMbps, type Arrival, type Echo } from './samples';
import { candidatesOf, onlyOver, type Relay } from './servers';
import { joinRoom, leaveRoom, type Member, type Place } from './wire';

const ANSWER_MS = 10_000;
/** Browsers give up by themselves after about 15 s; who is not through by then has no call either. */
const CONNECT_MS = 12_000;
/** As voice: 50 a second, of such a size. */
const PACKETS = 100;
const PACKET_BYTES = 160;
const PACKET_EVERY_MS = 20;
/** How long the last packet may be under way. */
const LATE_MS = 1_000;
/** How long, and how much at most: phones pay for bytes. */
const RATE_MS = 2_500;
const RATE_BYTES = 8_000_000;
/** Small: of a narrow line, too, some must come back in time. */
const BLOCK_BYTES = 2_000;
/**
 * What may be under way. More would fill queues, lose what does not fit in them, and measure how data channels come back from
 * that; this is enough for 5 Mbit/s over a quarter of a second.
 */
const UNDER_WAY_BYTES = 160_000;

/** A straight way, or one over a relay. */
export type Way = { way: 'udp' | 'tcp'; relay?: undefined } | { way: Relay['transport']; relay: Relay };

/** Tries a way from beginning to end, in a place of its own in the room. */
export async function tryPath(place: Place, { way, relay }: Way): Promise<PathFacts> {
  const facts: PathFacts = {
    way,
    relay: relay?.url,
    offered: [],
    error: null,
    allocated: relay ? false : null,
    iceErrors: [],
    connectMs: null,
    used: null,
    echoes: null,
    mbps: null,
  };
  const { facts: joined, member } = await joinRoom(place);
  if (!member) return { ...facts, error: joined.error ?? { code: 'not_joined', message: `close code ${joined.closeCode}` } };
  const connection = new RTCPeerConnection({
    iceServers: relay ? [relay.server] : [],
    iceTransportPolicy: relay ? 'relay' : 'all',
    bundlePolicy: 'max-bundle',
  });
  try {
    await connectAndMeasure(connection, member, facts, relay !== undefined);
  } finally {
    connection.close();
    leaveRoom(member);
  }
  return facts;
}

async function connectAndMeasure(connection: RTCPeerConnection, member: Member, facts: PathFacts, relayed: boolean): Promise<void> {
  // Lost packets stay lost here, so that they can be counted …
  const packets = openChannel(connection, 'veche-doctor-packets', { ordered: false, maxRetransmits: 0 });
  // … and here they are sent again, and hold nothing up meanwhile.
  const bytes = openChannel(connection, 'veche-doctor-bytes', { ordered: false });
  const begun = performance.now();
  noteCandidates(connection, facts);
  const answer = await negotiate(connection, member);
  if (typeof answer !== 'string') {
    facts.error = answer;
    return;
  }
  const protocol = facts.way === 'tcp' && !relayed ? 'tcp' : 'udp';
  facts.offered = candidatesOf(answer).flatMap((one) => (one.protocol === protocol ? [one.address] : []));
  if (facts.offered.length === 0) return;
  const open = whenOpen(connection, [packets, bytes], () => facts.allocated === false);
  await connection.setRemoteDescription({ type: 'answer', sdp: onlyOver(answer, protocol) });
  if (!(await open)) return;
  facts.connectMs = performance.now() - begun;
  facts.used = await usedPair(connection);
  facts.echoes = echoFigures(await exchangePackets(packets, member.peerId));
  if (facts.echoes.rttMs !== null) facts.mbps = await exchangeBytes(bytes, member.peerId);
}

function openChannel(connection: RTCPeerConnection, label: string, init: RTCDataChannelInit): RTCDataChannel {
  const channel = connection.createDataChannel(label, init);
  channel.binaryType = 'arraybuffer';
  return channel;
}

/** Keeps what the browser says of the relay while it looks for ways. */
function noteCandidates(connection: RTCPeerConnection, facts: PathFacts): void {
  connection.onicecandidate = ({ candidate }) => {
    if (candidate && / typ relay( |$)/.test(candidate.candidate)) facts.allocated = true;
  };
  connection.onicecandidateerror = (event) => {
    const { errorCode: code, errorText: text } = event as RTCPeerConnectionIceErrorEvent;
    const known = facts.iceErrors.some((error) => error.code === code && error.text === text);
    if (!known && facts.iceErrors.length < 8) facts.iceErrors.push({ code, text });
  };
}

/** Offers; gives the server's answer or its error. */
async function negotiate(connection: RTCPeerConnection, { wire }: Member): Promise<string | ErrorBody> {
  await connection.setLocalDescription();
  const sdp = connection.localDescription?.sdp ?? '';
  const answer = wire.next(({ signal_type: type, sdp, error }) => {
    if (type === 'answer') return String(sdp);
    return type === 'error' ? (error as ErrorBody) : undefined;
  }, ANSWER_MS);
  wire.send({ signal_type: 'offer', id: 1, sdp, tracks: [], pairs: [] });
  return (await answer) ?? { code: 'no_answer', message: 'the server did not answer the offer' };
}

/** Whether all channels open; `hopeless` is asked when the browser has found all of its addresses. */
function whenOpen(connection: RTCPeerConnection, channels: RTCDataChannel[], hopeless: () => boolean): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (open: boolean) => {
      clearTimeout(late);
      resolve(open);
    };
    const late = setTimeout(() => end(false), CONNECT_MS);
    const look = () => {
      if (channels.every(({ readyState }) => readyState === 'open')) end(true);
      if (connection.iceConnectionState === 'failed' || connection.connectionState === 'failed') end(false);
      if (connection.iceGatheringState === 'complete' && hopeless()) end(false);
    };
    for (const channel of channels) channel.onopen = look;
    connection.oniceconnectionstatechange = connection.onconnectionstatechange = look;
    connection.onicegatheringstatechange = look;
    look();
  });
}

/** What the browser really used: `host udp`, `relay tcp`, … */
async function usedPair(connection: RTCPeerConnection): Promise<string | null> {
  const reports = await connection.getStats();
  const all = [...(reports as unknown as Map<string, Record<string, unknown>>).values()];
  const selected = all.find(({ type, selectedCandidatePairId: id }) => type === 'transport' && id)?.selectedCandidatePairId;
  const pair = all.find(({ id, type, selected: chosen }) => (selected ? id === selected : type === 'candidate-pair' && chosen));
  const local = all.find(({ id }) => pair && id === pair.localCandidateId);
  if (!local) return null;
  return `${local.candidateType} ${local.relayProtocol ?? local.protocol}`;
}

/** Sends numbered packets at the pace of a voice and notes which come back. */
async function exchangePackets(channel: RTCDataChannel, peerId: string): Promise<Echo[]> {
  const echoes: Echo[] = [];
  const frame = toOurselves(peerId, PACKET_BYTES);
  const number = new DataView(frame.buffer, frame.length - 4);
  let missing = 0;
  channel.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
    const echo = echoes[new DataView(data, data.byteLength - 4).getUint32(0)];
    if (!echo || echo.backAt !== undefined) return;
    echo.backAt = performance.now();
    missing -= 1;
  };
  for (let count = 0; count < PACKETS && channel.readyState === 'open'; count++) {
    number.setUint32(0, count);
    echoes.push({ sentAt: performance.now() });
    missing += 1;
    channel.send(frame);
    await sleep(PACKET_EVERY_MS);
  }
  const end = performance.now() + LATE_MS;
  while (missing > 0 && performance.now() < end) await sleep(PACKET_EVERY_MS);
  channel.onmessage = null;
  return echoes;
}

/** Sends as much as fits for a while; gives what comes back, in megabits per second. */
async function exchangeBytes(channel: RTCDataChannel, peerId: string): Promise<number> {
  const arrivals: Arrival[] = [];
  const frame = toOurselves(peerId, BLOCK_BYTES);
  const begun = performance.now();
  const end = begun + RATE_MS;
  let [sent, back] = [0, 0];
  const fill = () => {
    while (sent - back < UNDER_WAY_BYTES && sent < RATE_BYTES && performance.now() < end && channel.readyState === 'open') {
      channel.send(frame);
      sent += frame.length;
    }
  };
  channel.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
    arrivals.push({ at: performance.now(), bytes: data.byteLength });
    back += data.byteLength;
    fill();
  };
  fill();
  while (performance.now() < end && back < RATE_BYTES) await sleep(20);
  channel.onmessage = null;
  return rateMbps(arrivals, performance.now() - begun);
}

/** A message for the peer that we are, which the server hands back: flags, the name's length, the name, the payload. */
function toOurselves(peerId: string, bytes: number): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(peerId);
  const frame = new Uint8Array(2 + name.length + bytes);
  frame[1] = name.length;
  frame.set(name, 2);
  return frame;
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
