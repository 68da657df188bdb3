/** A server that tests speak for, and a browser connection that agrees to everything. */

import type { ClientMessage, Joined, ServerMessage } from '../src/index';
import type { Socket } from '../src/signaling';

export class FakeSocket implements Socket {
  static all: FakeSocket[] = [];
  readonly address: string;
  readonly sent: ClientMessage[] = [];
  readyState = 1;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;

  constructor(address: string) {
    this.address = address;
    FakeSocket.all.push(this);
  }

  static get last(): FakeSocket {
    const socket = FakeSocket.all.at(-1);
    if (!socket) throw new Error('no socket was opened');
    return socket;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.readyState = 3;
  }

  /** The server says something. */
  say(message: ServerMessage): void {
    this.onmessage?.({ data: JSON.stringify(message) } as MessageEvent);
  }

  /** The server, or the network, closes. */
  drop(code: number): void {
    this.readyState = 3;
    this.onclose?.({ code, reason: '' } as CloseEvent);
  }

  of<Type extends ClientMessage['signal_type']>(type: Type) {
    return this.sent.filter((message) => message.signal_type === type) as Extract<ClientMessage, { signal_type: Type }>[];
  }
}

export function joined(change: Partial<Joined> = {}): ServerMessage {
  return {
    signal_type: 'joined',
    peer_id: 'me',
    room: { room_id: 'r', name: 'r', max_participants: 50, locked: false, waiting_room: false },
    resume_token: 'token-1',
    resume_seconds: 30,
    resumed: false,
    ice_servers: [],
    participants: [],
    tracks: [],
    slots: [],
    grants: [],
    limits: { max_signal_bytes: 1_000_000, max_data_message_bytes: 65_536, max_fragmented_bytes: 1_000_000 },
    ...change,
  };
}

/** Sender parameters as browsers have them: what was read is good for one write, and not after anything changed. */
export class FakeSender {
  track: unknown;
  encodings: RTCRtpEncodingParameters[];
  degradationPreference: string | undefined;
  /** All that was written. */
  readonly written: RTCRtpEncodingParameters[][] = [];
  /** So many writes are refused. */
  refusals = 0;
  /** Writes end when this does. */
  slow: Promise<void> = Promise.resolve();
  #transaction: string | undefined;
  #reads = 0;

  constructor(encodings: RTCRtpEncodingParameters[], track: unknown = null) {
    this.encodings = encodings.map((encoding) => ({ active: true, ...encoding }));
    this.track = track;
  }

  get active(): boolean[] {
    return this.encodings.map((encoding) => encoding.active !== false);
  }

  async replaceTrack(track: unknown): Promise<void> {
    this.track = track;
  }

  getParameters(): RTCRtpSendParameters {
    this.#transaction = `read ${++this.#reads}`;
    const encodings = structuredClone(this.encodings);
    return { transactionId: this.#transaction, encodings, codecs: [], headerExtensions: [], rtcp: {} };
  }

  async setParameters(parameters: RTCRtpSendParameters & { degradationPreference?: string }): Promise<void> {
    const fits = parameters.transactionId === this.#transaction;
    this.#transaction = undefined;
    await this.slow;
    if (!fits) throw new DOMException('', 'InvalidStateError');
    if (this.refusals > 0) {
      this.refusals -= 1;
      throw new DOMException('', 'InvalidModificationError');
    }
    this.encodings = structuredClone(parameters.encodings);
    this.degradationPreference = parameters.degradationPreference ?? this.degradationPreference;
    this.written.push(parameters.encodings);
  }
}

interface FakeTransceiver {
  mid: string | null;
  kind: string;
  stopped: boolean;
  direction: string;
  sender: FakeSender;
  receiver: { track: object };
}

export class FakeConnection {
  static all: FakeConnection[] = [];
  iceConnectionState = 'new';
  connectionState = 'new';
  signalingState = 'stable';
  localDescription: { type: string; sdp: string } | null = null;
  remoteDescription: object | null = null;
  onnegotiationneeded: (() => void) | null = null;
  oniceconnectionstatechange: (() => void) | null = null;
  onconnectionstatechange: (() => void) | null = null;
  readonly transceivers: FakeTransceiver[] = [];
  restarts = 0;
  closed = false;
  #offers = 0;
  #needed = false;

  constructor() {
    FakeConnection.all.push(this);
  }

  static get last(): FakeConnection {
    const connection = FakeConnection.all.at(-1);
    if (!connection) throw new Error('no connection was made');
    return connection;
  }

  addTransceiver(
    what: string | { kind: string },
    init: { direction: string; sendEncodings?: RTCRtpEncodingParameters[] },
  ): FakeTransceiver {
    const sender = new FakeSender(init.sendEncodings ?? [{}], typeof what === 'string' ? null : what);
    const transceiver = {
      mid: null,
      kind: typeof what === 'string' ? what : what.kind,
      stopped: false,
      direction: init.direction,
      sender,
      receiver: { track: {} },
      stop: () => {
        transceiver.stopped = true;
        this.need();
      },
      setCodecPreferences: () => {},
    };
    this.transceivers.push(transceiver);
    this.need();
    return transceiver;
  }

  /** As browsers do: once per turn, and only when stable. */
  need(): void {
    if (this.#needed) return;
    this.#needed = true;
    queueMicrotask(() => {
      if (this.signalingState !== 'stable') return;
      this.#needed = false;
      this.onnegotiationneeded?.();
    });
  }

  async createOffer() {
    this.#offers += 1;
    return { type: 'offer', sdp: `offer ${this.#offers}` };
  }

  async setLocalDescription(description: { type: string; sdp: string }) {
    if (description.type === 'rollback') {
      this.signalingState = 'stable';
      return;
    }
    this.signalingState = 'have-local-offer';
    this.localDescription = description;
    for (const [index, transceiver] of this.transceivers.entries()) transceiver.mid ??= String(index);
  }

  async setRemoteDescription() {
    this.remoteDescription = {};
    this.signalingState = 'stable';
    if (this.#needed) {
      this.#needed = false;
      this.need();
    }
  }

  createDataChannel(label: string) {
    return { label, readyState: 'connecting', bufferedAmount: 0, send() {}, close() {} };
  }

  restartIce(): void {
    this.restarts += 1;
    this.need();
  }

  become(state: 'connected' | 'disconnected' | 'failed'): void {
    this.iceConnectionState = state;
    this.connectionState = state;
    this.oniceconnectionstatechange?.();
  }

  close(): void {
    this.closed = true;
  }
}

/** Lets everything that waits for nothing but its turn happen. */
export async function turns(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}
