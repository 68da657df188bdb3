/** The types of the signaling messages, generated from `signaling/src/protocol.rs`. */

export type { ActiveSpeaker } from './protocol/ActiveSpeaker';
export type { ClientMessage } from './protocol/ClientMessage';
export type { ClientOffer } from './protocol/ClientOffer';
export type { ConnectionQuality } from './protocol/ConnectionQuality';
export type { ErrorBody } from './protocol/ErrorBody';
export type { IceServer } from './protocol/IceServer';
export type { Joined } from './protocol/Joined';
export type { LeaveReason } from './protocol/LeaveReason';
export type { Limits } from './protocol/Limits';
export type { MediaState } from './protocol/MediaState';
export type { OfferedTrack } from './protocol/OfferedTrack';
export type { Participant as ParticipantInfo } from './protocol/Participant';
export type { PeerMessage } from './protocol/PeerMessage';
export type { PeerQuality } from './protocol/PeerQuality';
export type { Room as RoomInfo } from './protocol/Room';
export type { ServerMessage } from './protocol/ServerMessage';
export type { Slot } from './protocol/Slot';
export type { SlotPair } from './protocol/SlotPair';
export type { SlotReason } from './protocol/SlotReason';
export type { Subscribe } from './protocol/Subscribe';
export type { SubscribeMode } from './protocol/SubscribeMode';
export type { Track as TrackInfo } from './protocol/Track';
export type { TrackKind } from './protocol/TrackKind';
export type { TrackSource } from './protocol/TrackSource';
export type { WantedSlot } from './protocol/WantedSlot';
