/** A room: joined, kept, and read. Everything else of the SDK serves this class. */

import { Channel, DEFAULT_LIMITS, type ChannelOptions } from './data';
import { Emitter } from './emitter';
import { watchEnvironment } from './environment';
import { RoomError } from './errors';
import { Moderation } from './moderation';
import type {
  Action,
  ConnectionQuality,
  ErrorBody,
  Joined,
  LeaveReason,
  MediaState,
  Moderated,
  Participant,
  Room as RoomInfo,
  RoomRecording,
  ServerMessage,
  Track,
  TrackSource,
  Waiting,
} from './protocol';
import type { ConnectOptions, LocalTrack, RoomEvents, RoomOptions, RoomState } from './room-types';
import { Roster, type RemoteParticipant } from './roster';
import { Signaling } from './signaling';
import { planSlots, SlotTable } from './slots';
import { StatsReader, type MediaStats } from './stats';
import { Transport, type MediaConnection } from './transport';
import { View, type Size } from './view';

const PATH = '/realtime/webrtc/signaling';
/** Attempts to reach the server the first time, before the page is told. Afterwards there is no end of trying. */
const FIRST_ATTEMPTS = 3;
/** How long a place is kept, where nobody has said. */
const RESUME_SECONDS = 30;
const MESSAGE_TOO_LARGE = 4413;
/** The least time between two new media connections. */
const REBUILD_MS = 1_000;

export class Room extends Emitter<RoomEvents> {
  /** What moderators can do, what we may do, and who waits. */
  readonly moderation = new Moderation((message) => this.#signaling?.send(message) ?? false);
  readonly #options: RoomOptions;
  readonly #roster = new Roster();
  readonly #table = new SlotTable();
  readonly #stats = new StatsReader();
  readonly #channels = new Map<string, Channel>();
  readonly #local = new Map<TrackSource, LocalTrack>();
  readonly #view: View;
  #signaling: Signaling | undefined;
  #transport: Transport | undefined;
  #joined: Joined | undefined;
  /** The room as those see it who wait before it. */
  #outside: RoomInfo | undefined;
  #state: RoomState = 'idle';
  #token = '';
  #name = '';
  #metadata: unknown;
  #quality: ConnectionQuality = 'excellent';
  #recording: RoomRecording | undefined;
  #participants: readonly RemoteParticipant[] | undefined;
  #told = false;
  #rebuild: ReturnType<typeof setTimeout> | undefined;
  #builtAt = -Infinity;
  #unwatch = () => {};
  #settle: { resolve: () => void; reject: (error: RoomError) => void } | undefined;

  constructor(options: RoomOptions = {}) {
    super();
    this.#options = options;
    this.#view = new View(
      (message) => this.#signaling?.send({ signal_type: 'subscribe', ...message }) ?? false,
      () => this.#videoSlots(),
    );
  }

  get state(): RoomState {
    return this.#state;
  }

  get media(): MediaConnection {
    return this.#transport?.state ?? 'connecting';
  }

  /** Our own name in messages; empty before the first `connected`. */
  get peerId(): string {
    return this.#joined?.peer_id ?? '';
  }

  /** What we may do in the room; empty before the first `connected`. */
  get grants(): readonly Action[] {
    return this.moderation.grants;
  }

  /** Our own name for people. */
  get name(): string {
    return this.#name;
  }

  /** Our own data, as the server told it last. */
  get metadata(): unknown {
    return this.#metadata;
  }

  /** How long the server keeps our place after a loss, in seconds. */
  get resumeSeconds(): number {
    return this.#joined?.resume_seconds ?? RESUME_SECONDS;
  }

  get info(): RoomInfo | undefined {
    return this.#joined?.room ?? this.#outside;
  }

  /** The recording of the room that runs; `undefined`: none. */
  get recording(): RoomRecording | undefined {
    return this.#recording;
  }

  /** How the server sees our own connection. */
  get quality(): ConnectionQuality {
    return this.#quality;
  }

  /** Whether we are heard speaking. */
  get speaking(): boolean {
    return this.#roster.speakers.some((speaker) => speaker.peer_id === this.peerId);
  }

  /** Who speaks, the loudest first. */
  get speakers(): string[] {
    return this.#roster.speakers.map((speaker) => speaker.peer_id);
  }

  /** Everybody else, in the order of their coming. */
  get participants(): readonly RemoteParticipant[] {
    this.#participants ??= this.#roster.view(this.#table, (mid) => this.#transport?.slot(mid));
    return this.#participants;
  }

  get localTracks(): readonly LocalTrack[] {
    return [...this.#local.values()];
  }

  /** The streams of the audio slots: play all of them. They exist for as long as the media connection. */
  get audioStreams(): { mid: string; stream: MediaStream }[] {
    return (this.#transport?.slots ?? []).flatMap(({ kind, mid, stream }) =>
      kind === 'audio' && mid !== null ? [{ mid, stream }] : [],
    );
  }

  /** The browser's connection, for debugging. */
  get connection(): RTCPeerConnection | undefined {
    return this.#transport?.connection;
  }

  /**
   * Joins. `location` is the server's address (`https://…`). Where a moderator must let us in, the state is `waiting` until
   * then. Rejects with a `RoomError`.
   */
  connect(location: string | URL, options: ConnectOptions): Promise<void> {
    if (this.#state !== 'idle') throw new Error('a Room connects once; make a new one');
    this.#token = options.resumeToken ?? '';
    this.#name = options.name ?? '';
    const patience = options.resumeToken ? (options.resumeSeconds ?? RESUME_SECONDS) * 1_000 : 0;
    const giveUpAt = performance.now() + patience;
    const signaling = new Signaling(() => joinAddress(location, { ...options, resumeToken: this.#token }), this.#options);
    this.#signaling = signaling;
    signaling.on('message', (message) => this.#handle(message));
    signaling.on('peer', (message) => this.emit('peer-message', message));
    signaling.on('down', ({ attempts, code, error }) => {
      if (code === MESSAGE_TOO_LARGE) {
        void this.#transport?.handleTooLarge(error ?? { code: 'message_too_large', message: '' });
      }
      this.moderation.abandon();
      if (this.#joined) this.#setState('reconnecting');
      else if (this.#outside) this.#setState('connecting');
      else if (attempts >= FIRST_ATTEMPTS && performance.now() >= giveUpAt) {
        this.#close(error ?? { code: 'unreachable', message: 'the server does not answer' });
      }
    });
    signaling.on('closed', (reason) => this.#close(reason));
    this.#unwatch = watchEnvironment({
      wake: (reason) => {
        signaling.wake(reason);
        if (reason === 'online') this.#transport?.restartIce();
      },
      visibility: (hidden) => this.#view.setHidden(hidden),
    });
    this.#setState('connecting');
    signaling.start();
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      if (this.#state === 'closed') reject(new RoomError({ code: 'bad_request', message: 'the address is wrong' }));
    });
  }

  /** Leaves for good. */
  leave(): void {
    this.#signaling?.stop(true);
    this.#close({ code: 'left', message: '' });
  }

  /** Publishes a source, or replaces what it sends (`null`: nothing for now), or mutes it. */
  publish(media: MediaStreamTrack | null, options: { source: TrackSource; muted?: boolean }): void {
    const { source, muted = false } = options;
    const before = this.#local.get(source);
    if (before && before.media === media && before.muted === muted) return;
    this.#local.set(source, { source, media, muted, trackId: before?.trackId });
    this.#send(source);
    if (before?.muted !== muted) this.#tellMuted(source);
    this.emit('localTracks', this.localTracks);
  }

  /** Ends a source. */
  unpublish(source: TrackSource): void {
    if (!this.#local.delete(source)) return;
    this.#transport?.unpublish(source);
    this.emit('localTracks', this.localTracks);
  }

  /** Sends a signaling message to another client, for pages that connect without the server in between. */
  sendToPeer(peerId: string, message: { signal_type: string } & Record<string, unknown>): boolean {
    return this.#signaling?.relay({ ...message, target_peer_id: peerId }) ?? false;
  }

  /** Changes our own name or data. */
  update(change: { name?: string; metadata?: unknown }): void {
    this.#signaling?.send({ signal_type: 'update', ...change });
  }

  /** Shows these participants before all others. */
  pin(peerIds: string[]): void {
    this.#view.setPinned(peerIds);
  }

  /** The size a video track is shown at, in device pixels; `null` when it is shown no more. */
  setShownSize(trackId: string, size: Size | null): void {
    this.#view.setSize(trackId, size);
  }

  /** A data channel to everybody who opens one with this label. The same object for the same label. */
  channel(label: string, options: ChannelOptions = {}): Channel {
    let channel = this.#channels.get(label);
    if (!channel) {
      channel = new Channel(label, options);
      this.#channels.set(label, channel);
      if (this.#transport) this.#attach(channel, this.#transport);
    }
    return channel;
  }

  /** How the media connection does. */
  async stats(): Promise<MediaStats | undefined> {
    return this.#transport && this.#stats.read(this.#transport.connection);
  }

  #handle(message: ServerMessage): void {
    switch (message.signal_type) {
      case 'waiting':
        return this.#handleWaiting(message.room);
      case 'joined':
        return this.#handleJoined(message);
      case 'answer':
        void this.#transport?.handleAnswer(message.sdp, message.id);
        return;
      case 'participant-joined':
        return this.#handleCame(message.participant.peer_id, () => this.#roster.put(message.participant));
      case 'participant-updated':
        return this.#handleUpdated(message.participant);
      case 'participant-left':
        return this.#handleLeft(message.peer_id, message.reason);
      case 'track':
        return this.#handleTrack(message.peer_id, message.track);
      case 'track-gone':
        return this.#handleTrackGone(message.peer_id, message.track_id);
      case 'slots':
        // Before the first answer the server speaks of the connection before this one.
        if (!this.#transport?.answered) return;
        this.#table.apply(message.slots);
        this.#view.changed();
        return this.#changed();
      case 'layers':
        if (this.#transport?.answered) this.#transport.setLayers(message.mid, message.layers);
        return;
      case 'speakers':
        this.#roster.setSpeakers(message.speakers);
        this.emit('self', undefined);
        return this.#changed();
      case 'quality':
        return this.#handleQuality(message.participants);
      case 'connection':
        return this.#handleConnection(message.state);
      case 'data-channel-closed':
        this.#channels.get(message.label)?.handleClosed(message.reason);
        return;
      case 'room-updated':
        if (this.#joined) this.#joined = { ...this.#joined, room: message.room };
        this.emit('room', message.room);
        return;
      case 'recording':
        return this.#handleRecording(message.recording);
      case 'grants':
        return this.#handleGrants(message.grants);
      case 'waiting-list':
        return this.#handleWaitingList(message.waiting);
      case 'moderated':
        return this.#handleModerated(message);
      case 'done':
        return this.moderation.settle(message.id);
      case 'error':
        this.moderation.settle(message.id, message.error);
        void this.#transport?.handleOfferError(message.error, message.id);
        this.emit('error', message.error);
        return;
      case 'pong':
        return;
    }
  }

  /** Also of who was in the room before, and was away for too long. */
  #handleWaiting(room: RoomInfo): void {
    this.#outside = room;
    if (this.#joined) this.#joined = { ...this.#joined, room };
    this.#dropTransport();
    this.#setState('waiting');
    this.emit('room', room);
  }

  #handleJoined(joined: Joined): void {
    const resumedHere = joined.resumed && this.#transport !== undefined;
    const before = this.#joined && new Set(this.#roster.ids);
    this.#joined = joined;
    this.#token = joined.resume_token;
    const here = new Set(joined.participants.map((participant) => participant.peer_id));
    for (const peerId of before ?? []) if (!here.has(peerId)) this.#handleLeft(peerId, 'left');
    this.#roster.reset(joined.participants);
    this.#table.clear();
    this.#view.forgotten();
    this.emit('token', joined.resume_token);
    this.#handleWaitingList([]);
    // Before anything is offered: what we may not send shall not be on.
    this.#handleGrants(joined.grants);
    if (resumedHere) {
      if (this.#transport?.answered) {
        this.#table.apply(joined.slots);
        for (const track of joined.tracks) this.#handleOwnTrack(track);
      }
      this.#grow();
      this.#transport?.handleSignalingUp();
    } else {
      // Slots and tracks of a connection that this page does not have are of no use to it.
      this.#build();
    }
    this.#setState('connected');
    this.emit('room', joined.room);
    this.#handleRecording(joined.recording);
    this.emit('self', undefined);
    this.#changed();
    if (before) {
      for (const one of this.participants) if (!before.has(one.peerId)) this.emit('participant-joined', one);
    }
    this.#settle?.resolve();
    this.#settle = undefined;
  }

  #handleRecording(recording: RoomRecording | undefined): void {
    this.#recording = recording;
    this.emit('recording', recording);
  }

  #handleGrants(grants: readonly Action[]): void {
    const listed = this.moderation.waiting.length;
    this.moderation.setGrants(grants);
    this.emit('grants', grants);
    if (listed > this.moderation.waiting.length) this.emit('waiting', this.moderation.waiting);
  }

  #handleWaitingList(waiting: readonly Waiting[]): void {
    this.moderation.setWaiting(waiting);
    this.emit('waiting', this.moderation.waiting);
  }

  /** What was muted for us is muted here too: otherwise we would tell the server that it is not. */
  #handleModerated({ by, track_ids: trackIds }: Moderated): void {
    const meant = this.localTracks.filter(({ trackId }) => trackId !== undefined && trackIds.includes(trackId));
    for (const track of meant) this.#local.set(track.source, { ...track, muted: true });
    this.emit('localTracks', this.localTracks);
    this.emit('moderated', { by, sources: meant.map(({ source }) => source) });
  }

  #handleCame(peerId: string, put: () => void): void {
    const isNew = !this.#roster.has(peerId);
    put();
    this.#grow();
    this.#changed();
    const participant = this.participants.find((one) => one.peerId === peerId);
    if (isNew && participant) this.emit('participant-joined', participant);
  }

  #handleUpdated(participant: Participant): void {
    if (participant.peer_id === this.peerId) {
      this.#name = participant.name;
      this.#metadata = participant.metadata;
      this.#quality = participant.quality;
      this.emit('self', undefined);
    } else if (this.#roster.has(participant.peer_id)) {
      this.#roster.put(participant);
      this.#changed();
    }
  }

  #handleLeft(peerId: string, reason: LeaveReason): void {
    const gone = this.#roster.remove(peerId);
    this.#table.drop({ peerId });
    for (const channel of this.#channels.values()) channel.forget(peerId);
    this.#changed();
    if (gone) this.emit('participant-left', { peerId, name: gone.name, reason });
  }

  #handleTrack(peerId: string, track: Track): void {
    if (peerId === this.peerId) {
      this.#handleOwnTrack(track);
      return;
    }
    this.#roster.putTrack(peerId, track);
    this.#grow();
    this.#changed();
  }

  /** Learns the name of our own track, and says again what the server does not know about it. */
  #handleOwnTrack(track: Track): void {
    const source = [...this.#local.keys()].find((key) => this.#transport?.midOf(key) === track.mid);
    const local = source && this.#local.get(source);
    if (!source || !local) return;
    this.#local.set(source, { ...local, trackId: track.track_id });
    // What we may not send the server mutes, whatever we say.
    const mayDiffer = track.muted && !this.moderation.mayPublish(source);
    if (track.muted !== local.muted && !mayDiffer) this.#tellMuted(source);
    this.emit('localTracks', this.localTracks);
  }

  #handleTrackGone(peerId: string, trackId: string): void {
    if (peerId === this.peerId) return;
    this.#roster.removeTrack(peerId, trackId);
    this.#table.drop({ trackId });
    this.#changed();
  }

  #handleQuality(qualities: { peer_id: string; quality: ConnectionQuality }[]): void {
    this.#roster.setQuality(qualities);
    const own = qualities.find((one) => one.peer_id === this.peerId);
    if (own) {
      this.#quality = own.quality;
      this.emit('self', undefined);
    }
    this.#changed();
  }

  #handleConnection(state: MediaState): void {
    if (!this.#transport?.answered) return;
    if (state === 'expired') this.#transport.restartIce();
    if (state === 'failed') this.#rebuildSoon();
  }

  /** Makes the media connection: everything of our own, slots for everybody, all channels, in one offer. */
  #build(): void {
    clearTimeout(this.#rebuild);
    this.#rebuild = undefined;
    this.#builtAt = performance.now();
    this.#transport?.close();
    this.#table.clear();
    for (const [source, track] of this.#local) this.#local.set(source, { ...track, trackId: undefined });
    const transport = new Transport({
      iceServers: this.#joined?.ice_servers ?? [],
      iceTransportPolicy: this.#options.iceTransportPolicy,
      turnTransport: this.#options.turnTransport,
      send: (offer) => this.#signaling?.send({ signal_type: 'offer', ...offer }) ?? false,
      codec: this.#options.codec,
      simulcast: this.#options.simulcast,
      svc: this.#options.svc,
      createConnection: this.#options.createConnection,
    });
    this.#transport = transport;
    transport.on('state', (state) => this.emit('media', state));
    transport.on('negotiated', () => {
      this.#view.changed();
      this.#changed();
    });
    transport.on('refused', ({ message }) => this.emit('error', { code: 'offers_refused', message }));
    transport.on('dead', () => this.#rebuildSoon());
    for (const source of this.#local.keys()) this.#send(source);
    this.#grow();
    for (const channel of this.#channels.values()) this.#attach(channel, transport);
    this.#view.forgotten();
    this.emit('media', transport.state);
  }

  #rebuildSoon(): void {
    if (this.#rebuild !== undefined || this.#state === 'closed') return;
    const wait = Math.max(0, this.#builtAt + REBUILD_MS - performance.now());
    this.#rebuild = setTimeout(() => {
      this.#rebuild = undefined;
      // While signaling is down there is nobody to offer to; `joined` decides what is built then.
      if (this.#state === 'connected') this.#build();
      else this.#dropTransport();
      this.#changed();
    }, wait);
  }

  #dropTransport(): void {
    this.#transport?.close();
    this.#transport = undefined;
    this.#table.clear();
    for (const channel of this.#channels.values()) channel.detach();
  }

  #attach(channel: Channel, transport: Transport): void {
    channel.attach((label, init) => transport.openChannel(label, init), this.#joined?.limits ?? DEFAULT_LIMITS);
  }

  #grow(): void {
    const transport = this.#transport;
    if (transport) transport.ensureSlots(planSlots(this.#roster.trackCounts(), transport.slotCounts()));
  }

  #send(source: TrackSource): void {
    const track = this.#local.get(source);
    if (!track || !this.#transport) return;
    this.#transport.publish(track).catch((error: unknown) => {
      this.emit('error', { code: 'publish_failed', message: String(error) });
    });
  }

  #tellMuted(source: TrackSource): void {
    const track = this.#local.get(source);
    if (track?.trackId) {
      this.#signaling?.send({ signal_type: 'mute', track_id: track.trackId, muted: track.muted });
    }
  }

  #videoSlots(): { mid: string; trackId: string | undefined }[] {
    return (this.#transport?.slots ?? []).flatMap(({ kind, mid }) =>
      kind === 'video' && mid !== null ? [{ mid, trackId: this.#table.at(mid)?.track_id }] : [],
    );
  }

  /** Tells once per turn, however much changed in it. */
  #changed(): void {
    this.#participants = undefined;
    if (this.#told) return;
    this.#told = true;
    queueMicrotask(() => {
      this.#told = false;
      this.emit('participants', this.participants);
    });
  }

  #setState(state: RoomState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.emit('state', state);
  }

  #close(reason: ErrorBody): void {
    if (this.#state === 'closed') return;
    this.#signaling?.stop(false);
    clearTimeout(this.#rebuild);
    this.#unwatch();
    this.#view.close();
    this.#dropTransport();
    this.moderation.abandon();
    for (const channel of this.#channels.values()) channel.close();
    this.#setState('closed');
    this.emit('closed', reason);
    this.#settle?.reject(new RoomError(reason));
    this.#settle = undefined;
  }
}

function joinAddress(location: string | URL, options: ConnectOptions): string {
  const address = new URL(PATH, location);
  address.protocol = address.protocol.replace(/^http/, 'ws');
  address.searchParams.set('room_id', options.room);
  if (options.name) address.searchParams.set('name', options.name);
  if (options.peerId) address.searchParams.set('peer_id', options.peerId);
  if (options.accessToken) address.searchParams.set('token', options.accessToken);
  if (options.resumeToken) address.searchParams.set('resume_token', options.resumeToken);
  return address.href;
}
