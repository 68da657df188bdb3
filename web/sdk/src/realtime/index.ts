/** Messaging: channels, files, notifications. What the plain script puts into the global `Veche`. */

export { RealtimeClient } from './client';
export type { RealtimeEvents, RealtimeOptions } from './client';
export { saveBlob } from './display';
export type { Frame } from './connection';
export { fromBase64, toBase64 } from './frames';
export type { UploadOptions } from './http';
export { RealtimeError } from './protocol';
export type {
  BinaryData,
  ChannelMessage,
  FileInfo,
  FileMessage,
  Filters,
  History,
  Member,
  Notification,
  Position,
  Presence,
  Published,
  RealtimeMessage,
  Sender,
  Signal,
  Subscribed,
  Target,
  Welcome,
} from './protocol';
export { WebSocketClient } from './socket';
export type { Reconnecting, WebSocketEvents, WebSocketOptions } from './socket';
export type { SubscribeOptions } from './subscriptions';
