/** What goes over `/realtime/ws` and `/realtime/events`: messaging/PROTOCOL.md in types. */

/** Anything that JSON has. */
export type Json = unknown;

/** A place in a channel: what was published after it can be asked for. */
export interface Position {
  epoch: string;
  offset: number;
}

/** Only named filters filter. */
export interface Filters {
  /** `false`: no binary messages. */
  binary_data?: boolean;
  /** In bytes. */
  max_file_size?: number;
  /** With wildcards: `image/*`. */
  allowed_types?: string[];
  notification_types?: string[];
}

export interface Sender {
  user_id?: string | null;
  name?: string | null;
  connection_id?: string | null;
}

/** What every message may have. */
export interface RealtimeMessage {
  type: string;
  id?: number | string;
  channel?: string;
  message_id?: string;
  offset?: number;
  epoch?: string;
  sender?: Sender | null;
  timestamp?: string;
  [field: string]: Json;
}

export interface Welcome extends RealtimeMessage {
  type: 'welcome';
  connection_id: string;
  user_id?: string | null;
  heartbeat_interval?: number;
  authenticated?: boolean;
}

export interface ChannelMessage extends RealtimeMessage {
  type: 'channel_message';
  channel: string;
  data: Json;
  persistent?: boolean;
}

export interface BinaryData extends RealtimeMessage {
  type: 'binary';
  /** The bytes in base64. */
  binary_data: string;
  content_type: string;
  filename?: string | null;
  size?: number;
  /** The bytes themselves, where they came as a binary frame. */
  bytes?: Uint8Array;
}

export interface FileInfo {
  file_id: string;
  filename?: string | null;
  content_type: string;
  size: number;
  sha256?: string;
  /** A signed link, relative to the server. */
  url: string;
  expires_at?: string | null;
}

export interface FileMessage extends RealtimeMessage {
  type: 'file';
  file: FileInfo;
}

export interface Notification extends RealtimeMessage {
  type: 'notification';
  title: string;
  body: string;
  notification_type?: string | null;
  data?: Json;
}

export interface Member {
  connection_id: string;
  user_id?: string | null;
  name?: string | null;
  since?: string;
  attributes?: Json;
}

export interface Presence extends RealtimeMessage {
  type: 'presence';
  joined?: Member[];
  left?: Member[];
  presence?: Member[];
}

export interface Subscribed extends RealtimeMessage {
  type: 'subscribed';
  channel: string;
  recovered?: boolean;
  kept?: number;
  presence?: Member[];
}

export interface Published {
  message_id?: string;
  channel?: string;
  epoch?: string;
  offset?: number;
  recipients?: number;
  file?: FileInfo;
  /** Of an upload in pieces. */
  file_id?: string;
  [field: string]: Json;
}

export interface History extends RealtimeMessage {
  type: 'history';
  messages: RealtimeMessage[];
}

export interface Signal {
  signal_type: string;
  target_peer_id: string;
  room_id?: string;
  sdp?: string;
  ice_candidate?: Json;
}

/** To whom: a channel, a user, a connection; none of them: everybody else. */
export interface Target {
  channel?: string | null;
  user_id?: string;
  connection_id?: string;
}

/** What the server, or the way to it, refuses. `code` is for programs, the message for people. */
export class RealtimeError extends Error {
  readonly code: string;
  /** The HTTP status or the WebSocket's close code, where there is one. */
  readonly status: number | undefined;

  constructor(code: string, message: string, status?: number) {
    super(message);
    this.name = 'RealtimeError';
    this.code = code;
    this.status = status;
  }
}
