/** Veche in the browser: join a room, publish, see and hear the others; channels, messages and files. */

export { RoomError } from './errors';
export { Room } from './room';
export type { ConnectOptions, LocalTrack, RoomEvents, RoomOptions, RoomState } from './room-types';
export { LocalMedia, classify, listDevices } from './media';
export type { LocalSource, MediaProblem } from './media';
export type { Banned, ModeratedEvent, Moderation, WaitingPerson } from './moderation';
export type { CarriedBy, RemoteParticipant, RemoteTrack } from './roster';
export type { Channel, ChannelOptions } from './data';
export type { Message } from './framing';
export { FileSharing } from './files';
export type { FileSource, FileState, FileTransfer } from './files';
export { whenFrame } from './frames';
export type { MediaConnection } from './transport';
export type { MediaStats } from './stats';
export { isScalabilityMode } from './codecs';
export type { PublishOptions, ScalabilityMode, VideoCodec } from './codecs';
export type { IceOptions, TurnTransport } from './ice';
export type * from './messages';
export * from './realtime/index';
