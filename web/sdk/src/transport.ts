/** The media connection: one `RTCPeerConnection` with our own tracks, the slots, and the data channels. */

import { MOST_PAIRS, type SlotCounts } from './slots';
import { encodingsFor, preferCodecs, type PublishOptions } from './codecs';
import { Emitter } from './emitter';
import { iceConfiguration, type IceOptions } from './ice';
import { Negotiation } from './negotiation';
import { SenderParameters } from './parameters';
import type { ClientOffer, ErrorBody, Layer, TrackSource } from './protocol';

/** A short loss heals by itself; after this the path is asked for anew. */
const DISCONNECTED_MS = 2_500;
/** How long an ICE restart may take before the next one. */
const RESTART_MS = 8_000;
/** After so many restarts in vain a new connection is due. */
const MOST_RESTARTS = 3;

/** How the media connection is. */
export type MediaConnection = 'connecting' | 'connected' | 'interrupted';

/** Something of our own that is sent. */
export interface Published {
  source: TrackSource;
  /** `null` while there is nothing to send (camera switched off). */
  media: MediaStreamTrack | null;
  muted: boolean;
}

/** A receiving section. */
export interface ReceivingSlot {
  /** `null` until it was agreed on. */
  mid: string | null;
  kind: 'audio' | 'video';
  transceiver: RTCRtpTransceiver;
  /** Holds the slot's one track. */
  stream: MediaStream;
}

/** A source and what sends it. */
interface Sending {
  track: Published;
  transceiver: RTCRtpTransceiver;
  parameters: SenderParameters;
}

export interface TransportOptions extends PublishOptions, IceOptions {
  iceServers: RTCIceServer[];
  /** Sends an offer; says whether it left. */
  send: (offer: ClientOffer) => boolean;
  /** Makes the connection; the browser's own unless told otherwise. */
  createConnection?: (configuration: RTCConfiguration) => RTCPeerConnection;
}

export interface TransportEvents {
  state: MediaConnection;
  /** Sections were agreed on: mids are known. */
  negotiated: void;
  /** The server refuses new sections, time and again. What stands goes on. */
  refused: ErrorBody;
  /** Cannot be mended: make a new one. */
  dead: string;
}

export class Transport extends Emitter<TransportEvents> {
  readonly connection: RTCPeerConnection;
  readonly #options: TransportOptions;
  readonly #negotiation: Negotiation;
  readonly #published = new Map<TrackSource, Sending>();
  readonly #slots: ReceivingSlot[] = [];
  #state: MediaConnection = 'connecting';
  #restarts = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(options: TransportOptions) {
    super();
    this.#options = options;
    const create = options.createConnection ?? ((configuration) => new RTCPeerConnection(configuration));
    this.connection = create({ ...iceConfiguration(options.iceServers, options), bundlePolicy: 'max-bundle' });
    this.#negotiation = new Negotiation(this.connection, options.send, () => this.#labels());
    this.#negotiation.on('done', () => {
      // The server knows a section by its mid from now on, not before.
      for (const slot of this.#slots) slot.mid = slot.transceiver.mid;
      for (const { parameters } of this.#published.values()) parameters.apply();
      this.emit('negotiated', undefined);
    });
    this.#negotiation.on('refused', (error) => this.emit('refused', error));
    this.#negotiation.on('dead', (reason) => this.#die(reason));
    // The browser tells when there is something to offer, once for all changes of a turn, and only when it may.
    this.connection.onnegotiationneeded = () => this.#negotiation.request();
    this.connection.oniceconnectionstatechange = () => this.#handleIceState();
    this.connection.onconnectionstatechange = () => this.#handleIceState();
  }

  get state(): MediaConnection {
    return this.#state;
  }

  /** Whether the server has answered this connection's first offer, even if the answer is still being applied. */
  get answered(): boolean {
    return this.#negotiation.answered;
  }

  get slots(): readonly ReceivingSlot[] {
    return this.#slots;
  }

  /** The section that sends a source. */
  midOf(source: TrackSource): string | null {
    return this.#published.get(source)?.transceiver.mid ?? null;
  }

  /** Sends a source, or other media for it. */
  async publish(track: Published): Promise<void> {
    const known = this.#published.get(track.source);
    if (known) {
      known.track = track;
      if (known.transceiver.sender.track !== track.media) {
        await known.transceiver.sender.replaceTrack(track.media);
        known.parameters.apply();
      }
      return;
    }
    const kind = track.source === 'camera' || track.source === 'screen' ? 'video' : 'audio';
    const transceiver = this.connection.addTransceiver(track.media ?? kind, {
      direction: 'sendonly',
      sendEncodings: encodingsFor(track.source, this.#options),
    });
    const parameters = new SenderParameters(transceiver.sender);
    this.#published.set(track.source, { track, transceiver, parameters });
    this.#negotiation.forgive();
    preferCodecs(transceiver, kind, 'send', this.#options.codec);
    if (track.source === 'screen') await parameters.keepSharp();
  }

  /** Sends only those layers of a section that somebody wants. A new connection sends all until it is told. */
  setLayers(mid: string, layers: readonly Layer[]): void {
    for (const { transceiver, parameters } of this.#published.values()) {
      if (transceiver.mid === mid) parameters.setLayers(layers);
    }
  }

  /** Ends a source: its section is stopped, and the browser uses it again for the next. */
  unpublish(source: TrackSource): void {
    const sending = this.#published.get(source);
    sending?.parameters.close();
    sending?.transceiver.stop();
    this.#published.delete(source);
    this.#negotiation.forgive();
  }

  /** Adds slots until there are so many. */
  ensureSlots(counts: SlotCounts): void {
    const have = this.slotCounts();
    for (let index = 0; index < Math.max(counts.audio, counts.video); index++) {
      if (index >= have.audio && index < counts.audio) this.#addSlot('audio');
      if (index >= have.video && index < counts.video) this.#addSlot('video');
    }
  }

  slotCounts(): SlotCounts {
    const audio = this.#slots.filter((slot) => slot.kind === 'audio').length;
    return { audio, video: this.#slots.length - audio };
  }

  /** The slot with this mid. */
  slot(mid: string): ReceivingSlot | undefined {
    return this.#slots.find((slot) => slot.transceiver.mid === mid);
  }

  openChannel(label: string, init: RTCDataChannelInit): RTCDataChannel {
    return this.connection.createDataChannel(label, init);
  }

  handleAnswer(sdp: string, id: number | undefined): Promise<void> {
    return this.#negotiation.handleAnswer(sdp, id);
  }

  handleOfferError(error: ErrorBody, id: number | undefined): Promise<void> {
    return this.#negotiation.handleError(error, id);
  }

  /** Signaling was closed because a message was too large. */
  handleTooLarge(error: ErrorBody): Promise<void> {
    return this.#negotiation.handleTooLarge(error);
  }

  /** Signaling is back: what waited goes out, and where media is lost too, a new path is asked for. */
  handleSignalingUp(): void {
    this.#negotiation.handleSignalingUp();
    if (this.#state === 'interrupted') this.restartIce();
  }

  /** Looks for a new path at once: the network changed, or the server says that nothing arrives. */
  restartIce(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#restartAgain(), RESTART_MS);
    this.#negotiation.forgive();
    this.connection.restartIce();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const { parameters } of this.#published.values()) parameters.close();
    this.#negotiation.close();
    this.connection.onnegotiationneeded = null;
    this.connection.oniceconnectionstatechange = null;
    this.connection.onconnectionstatechange = null;
    this.connection.close();
  }

  #addSlot(kind: 'audio' | 'video'): void {
    const transceiver = this.connection.addTransceiver(kind, { direction: 'recvonly' });
    preferCodecs(transceiver, kind, 'receive');
    this.#slots.push({ mid: null, kind, transceiver, stream: new MediaStream([transceiver.receiver.track]) });
    this.#negotiation.forgive();
  }

  /** What goes with an offer: what the published sections are, and which slots belong together for lip sync. */
  #labels(): Pick<ClientOffer, 'tracks' | 'pairs'> {
    const tracks = [...this.#published.values()].flatMap(({ track, transceiver }) =>
      transceiver.mid === null ? [] : [{ mid: transceiver.mid, source: track.source, muted: track.muted }],
    );
    const mids = (kind: 'audio' | 'video') =>
      this.#slots.flatMap((slot) =>
        slot.kind === kind && slot.transceiver.mid !== null ? [slot.transceiver.mid] : [],
      );
    const videos = mids('video').slice(0, MOST_PAIRS);
    const audios = mids('audio');
    const pairs = videos.flatMap((video, index) => {
      const audio = audios[index];
      return audio === undefined ? [] : [{ audio, video }];
    });
    return { tracks, pairs };
  }

  #handleIceState(): void {
    if (this.#closed) return;
    const ice = this.connection.iceConnectionState;
    const whole = this.connection.connectionState;
    if ((ice === 'connected' || ice === 'completed') && whole !== 'failed') {
      clearTimeout(this.#timer);
      this.#restarts = 0;
      if (whole === 'connected') this.#setState('connected');
    } else if (ice === 'disconnected') {
      this.#setState('interrupted');
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#restartAgain(), DISCONNECTED_MS);
    } else if (ice === 'failed') {
      this.#setState('interrupted');
      this.#restartAgain();
    } else if (whole === 'failed') {
      this.#die('DTLS failed');
    }
  }

  #restartAgain(): void {
    this.#restarts += 1;
    if (this.#restarts > MOST_RESTARTS) this.#die('no path to the server');
    else this.restartIce();
  }

  #setState(state: MediaConnection): void {
    if (this.#state === state) return;
    this.#state = state;
    this.emit('state', state);
  }

  #die(reason: string): void {
    if (this.#closed) return;
    this.#setState('interrupted');
    this.emit('dead', reason);
  }
}
