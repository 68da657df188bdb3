/** What a room takes, tells and gives. */

import type { PublishOptions } from './codecs';
import type { IceOptions } from './ice';
import type { ModeratedEvent, WaitingPerson } from './moderation';
import type { Action, ErrorBody, LeaveReason, PeerMessage, Room as RoomInfo, RoomRecording, TrackSource } from './protocol';
import type { RemoteParticipant } from './roster';
import type { SignalingOptions } from './signaling';
import type { MediaConnection, TransportOptions } from './transport';

/** `waiting`: a moderator must let us in first. */
export type RoomState = 'idle' | 'connecting' | 'waiting' | 'connected' | 'reconnecting' | 'closed';

/** A track of one's own. */
export interface LocalTrack {
  source: TrackSource;
  /** `null` while there is nothing to send. */
  media: MediaStreamTrack | null;
  muted: boolean;
  /** Its name in messages, once the server has given it. */
  trackId?: string;
}

export interface ConnectOptions {
  room: string;
  name?: string;
  /** Our own name in messages, where it must be this one; the server makes one otherwise. */
  peerId?: string;
  /** Says who we are, on servers that ask; a JWT or an API key. */
  accessToken?: string;
  /** Gives back identity and place after a reload; see the `token` event. */
  resumeToken?: string;
  /** How long that place is kept: so long the server is tried before it counts as unreachable. */
  resumeSeconds?: number;
}

export interface RoomOptions
  extends SignalingOptions, PublishOptions, IceOptions, Pick<TransportOptions, 'createConnection'> {}

export interface RoomEvents {
  state: RoomState;
  /** How the media connection is. */
  media: MediaConnection;
  /** Somebody, something of them, or what carries it changed: read `participants` again. */
  participants: readonly RemoteParticipant[];
  localTracks: readonly LocalTrack[];
  /** Our own name, data, quality or speaking changed. */
  self: void;
  room: RoomInfo;
  /** The room is being recorded from now on, or no longer (`undefined`). Told on each connect, too. */
  recording: RoomRecording | undefined;
  /** What we may do from now on. */
  grants: readonly Action[];
  /** Who waits to be let in; only moderators are told. */
  waiting: readonly WaitingPerson[];
  /** What a moderator did to us. */
  moderated: ModeratedEvent;
  'participant-joined': RemoteParticipant;
  'participant-left': { peerId: string; name: string; reason: LeaveReason };
  /** Keep it where a reloaded page finds it (`sessionStorage`). */
  token: string;
  /** A message of another client, as it sent it. */
  'peer-message': PeerMessage & Record<string, unknown>;
  /** Something that was sent cannot be done; the room goes on. Of our own codes, `offers_refused`: what is new is not sent. */
  error: ErrorBody;
  /** Over for good. The code is the server's, or `left`, or `unreachable`. */
  closed: ErrorBody;
}
