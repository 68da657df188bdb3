/**
 * A client of the messaging side: channels, messages, files, notifications, over a WebSocket, server-sent events and
 * HTTP. It stays connected and comes back where it was. Importing it touches no page.
 */

import { Connection, byteLength, errorOf, type ConnectionOptions, type Frame } from './connection';
import { displayImage, downloadFile, showNotification } from './display';
import { toBase64, toFrame } from './frames';
import { Http, randomId, type UploadOptions } from './http';
import {
  RealtimeError,
  type BinaryData,
  type FileInfo,
  type FileMessage,
  type Filters,
  type History,
  type Json,
  type Member,
  type Notification,
  type Position,
  type Published,
  type RealtimeMessage,
  type Signal,
  type Subscribed,
  type Target,
  type Welcome,
} from './protocol';
import type { RawSocket, Reconnecting } from './socket';
import { EventStream } from './stream';
import { Seen, Subscription, type SubscribeOptions } from './subscriptions';

export interface RealtimeOptions extends ConnectionOptions {
  token?: string;
  apiKey?: string;
  /** Asked for a token when there is none yet, and for another when the server refused the old one. */
  getToken?: () => string | Promise<string>;
  /** Bytes travel as binary frames instead of base64; messages look the same either way. */
  binary?: boolean;
  openEventSource?: (url: string) => EventSource;
}

/** The events of the connection. The types of messages (`channel_message`, `presence` …) are events too. */
export interface RealtimeEvents {
  /** Connected, or connected again, with all subscriptions made. */
  open: Welcome & { reconnected: boolean };
  /** Every message that is no answer to a request, once, whatever door it came through. */
  message: RealtimeMessage;
  close: { code: number; reason: string };
  /** The server said that something is wrong, or did not give a channel back. */
  error: { code: string; message: string; channel?: string };
  reconnecting: Reconnecting;
  /** Back in a channel with everything that was missed. */
  recovered: Subscribed;
  /** Back in a channel, but what was missed is not known any more. */
  lost: Subscribed;
  frame: Frame;
  /** The WebSocket does not come back. */
  end: RealtimeError;
  sse_open: undefined;
  sse_down: Reconnecting | undefined;
  notification: Notification;
  binary: BinaryData;
  file: FileMessage;
}

/** Messages of these types would be taken for events of the connection. */
const OWN_EVENTS = new Set(['open', 'message', 'close', 'error', 'reconnecting', 'recovered', 'lost', 'frame', 'end']);

type Handler = (value: never) => void;

export class RealtimeClient {
  wsUrl: string;
  sseUrl: string;
  /** Shown to the server: over the WebSocket as the first message, over HTTP as a bearer token. */
  token: string | undefined;
  readonly options: RealtimeOptions;
  #connection: Connection | undefined;
  #stream: EventStream | undefined;
  #http: Http | undefined;
  readonly #seen = new Seen();
  readonly #handlers = new Map<string, Set<Handler>>();

  /** `wsUrl`: `ws://host/realtime/ws`. `sseUrl`: `http://host/realtime/events`; that of the same server unless told. */
  constructor(wsUrl: string, sseUrl: string = `${httpBase(wsUrl)}/realtime/events`, options: RealtimeOptions = {}) {
    this.wsUrl = wsUrl;
    this.sseUrl = sseUrl;
    this.options = options;
    this.token = options.token;
  }

  /** The WebSocket of the moment. */
  get ws(): RawSocket | null {
    return this.#connection?.socket.socket ?? null;
  }

  /** The event source of the moment. */
  get eventSource(): EventSource | null {
    return this.#stream?.source ?? null;
  }

  /** Whether the WebSocket stands and all subscriptions are made. */
  get connected(): boolean {
    return this.#connection?.ready ?? false;
  }

  /** The server's latest welcome. */
  get welcome(): Welcome | undefined {
    return this.#connection?.welcome;
  }

  /** The channels that are subscribed to over the WebSocket. */
  get channels(): string[] {
    return [...(this.#connection?.subscriptions.keys() ?? [])];
  }

  /** How far a subscribed channel has arrived: something to keep for the next visit. */
  position(channel: string): Position | undefined {
    return this.#connection?.subscriptions.get(channel)?.position;
  }

  /** Requests to the same server with the same credentials. */
  get http(): Http {
    this.#http ??= new Http(httpBase(this.sseUrl), (refused) => this.#headers(refused));
    return this.#http;
  }

  // Connecting

  /** Opens the WebSocket and keeps it. `whenReady` tells when it stands; it is opened again when it is lost. */
  connectWebSocket(): this {
    if (this.#connection && !this.#connection.over) return this;
    const url = new URL(this.wsUrl, globalThis.location?.href);
    if (this.options.binary) url.searchParams.set('binary', '1');
    this.#connection = new Connection(url.href, this.options, {
      open: (welcome, reconnected) => this.#emit('open', { ...welcome, reconnected }),
      message: (message) => this.#deliver(message, () => this.handleMessage(message)),
      close: (code, reason) => this.#emit('close', { code, reason }),
      reconnecting: (about) => this.#emit('reconnecting', about),
      resubscribed: (answer) => this.#emit(answer.recovered ? 'recovered' : 'lost', answer),
      error: (code, message, channel) => this.#emit('error', { code, message, ...(channel ? { channel } : {}) }),
      end: (error) => this.#emit('end', error),
      frame: (frame) => this.#emit('frame', frame),
      credentials: (refused) => this.#firstMessage(refused),
      hasOthers: () => this.options.getToken !== undefined,
    });
    this.#connection.start();
    return this;
  }

  /** Resolves when the WebSocket stands; rejects when it does not come back. */
  async whenReady(): Promise<void> {
    return this.#connected().whenReady();
  }

  /** Listens to one channel, or several, over server-sent events, instead of those before. */
  connectSSE(channel: string | string[], filters: Filters = {}, lastEventId = ''): this {
    this.#stream?.close();
    const channels = Array.isArray(channel) ? channel : [channel];
    const options = { reconnectInterval: 1000, reconnectDecay: 1.5, maxReconnectInterval: 30_000, ...this.options };
    this.#stream = new EventStream(options, {
      url: (last, refused) => this.#sseAddress(channels, filters, last || lastEventId, refused),
      event: (name, event) => this.#handleEvent(name, event),
      open: () => this.#emit('sse_open', undefined),
      down: (about) => this.#emit('sse_down', about),
      end: () => this.#emit('error', { code: 'sse_ended', message: 'the event stream does not come back' }),
    });
    return this;
  }

  /** Closes the event stream; the WebSocket stays. */
  closeSSE(): void {
    this.#stream?.close();
    this.#stream = undefined;
  }

  /** Closes everything for good. */
  close(): void {
    this.closeSSE();
    this.#connection?.close();
  }

  // Hearing

  /** Calls `handler` at every `event` from now on. Types of messages are events, too: `channel_message`, `presence` … */
  on<Name extends keyof RealtimeEvents>(event: Name, handler: (value: RealtimeEvents[Name]) => void): this;
  on(event: string, handler: (message: RealtimeMessage) => void): this;
  on(event: string, handler: Handler): this {
    let handlers = this.#handlers.get(event);
    if (!handlers) this.#handlers.set(event, (handlers = new Set()));
    handlers.add(handler);
    return this;
  }

  off(event: string, handler: Handler): this {
    this.#handlers.get(event)?.delete(handler);
    return this;
  }

  /** Every message of the WebSocket comes here. What it does can be replaced: by a subclass, or by assigning to it. */
  handleMessage(message: RealtimeMessage): void {
    if (message.type === 'notification') this.showNotification(String(message.title), String(message.body ?? ''));
    else if (message.type === 'binary') this.handleBinaryData(message as BinaryData);
  }

  /** Shows pictures and hands over documents. Can be replaced. */
  handleBinaryData(data: BinaryData): void {
    if (data.content_type.startsWith('image/')) this.displayImage(data);
    else if (data.content_type === 'application/pdf') this.downloadFile(data);
  }

  displayImage(data: BinaryData): void {
    displayImage(data);
  }

  downloadFile(data: BinaryData): void {
    downloadFile(data);
  }

  showNotification(title: string, body: string): void {
    showNotification(title, body);
  }

  // Channels

  /** Subscribes; again with other filters replaces them. */
  async subscribe(channel: string, filters?: Filters, options: SubscribeOptions = {}): Promise<Subscribed> {
    const subscription = new Subscription(channel, filters, options);
    return (await this.#connected().ask(() => subscription.request(), subscription)) as Subscribed;
  }

  async unsubscribe(channel: string): Promise<void> {
    this.#connection?.subscriptions.delete(channel);
    await this.request({ type: 'unsubscribe', channel });
  }

  /** Publishes, and waits until the server has it (in storage, if `persistent`). Over a cut it is published once. */
  publish(channel: string, data: Json, options: { persistent?: boolean; idempotencyKey?: string } = {}): Promise<Published> {
    const { persistent = false, idempotencyKey = randomId() } = options;
    return this.request({ type: 'channel_message', channel, data, persistent, idempotency_key: idempotencyKey });
  }

  /** Who is subscribed to a channel. */
  async presence(channel: string): Promise<Member[]> {
    const answer = await this.request<RealtimeMessage>({ type: 'presence', channel });
    return (answer.presence ?? []) as Member[];
  }

  /** The newest messages of a channel, or those after an offset, oldest first. */
  history(channel: string, options: { since?: number; epoch?: string; limit?: number } = {}): Promise<History> {
    return this.request({ type: 'history', channel, ...options });
  }

  // Sending

  /** Sends bytes to a channel, a user or a connection; with none of them, to everybody else who is connected. */
  async sendBinary(
    bytes: Blob | ArrayBuffer | Uint8Array,
    options: Target & { contentType?: string; filename?: string } = {},
  ): Promise<Published> {
    const { contentType, filename, ...target } = options;
    const named = bytes as Partial<File>;
    const data = new Uint8Array(bytes instanceof Blob ? await bytes.arrayBuffer() : bytes);
    const about = {
      ...target,
      content_type: contentType ?? (named.type || 'application/octet-stream'),
      filename: filename ?? named.name,
      idempotency_key: randomId(),
    };
    if (!this.options.binary) return this.request({ type: 'binary', binary_data: toBase64(data), ...about });
    return this.#connected().ask((id) => toFrame({ ...about, id, bytes: data }));
  }

  /** Sends data to all connections of a user, or to one connection. */
  direct(target: Target, data: Json): Promise<Published> {
    return this.request({ type: 'direct', ...target, data, idempotency_key: randomId() });
  }

  /** Sends data to everybody who is connected. */
  broadcast(data: Json): Promise<Published> {
    return this.request({ type: 'broadcast', data, idempotency_key: randomId() });
  }

  /** Sends a notification to a user, a channel, or everybody. */
  notify(title: string, body: string, options: Target & { notification_type?: string; data?: Json } = {}): Promise<Published> {
    return this.request({ type: 'notification', title, body, ...options, idempotency_key: randomId() });
  }

  /** Sends a WebRTC signal. It is about a moment: `false` when not connected, and then it is gone. */
  sendWebRTCSignal(signal: Signal): boolean {
    return this.send({ type: 'webrtc_signal', ...signal });
  }

  /** How long a question and its answer take, in milliseconds. */
  async ping(): Promise<number> {
    const asked = performance.now();
    await this.request({ type: 'ping' });
    return performance.now() - asked;
  }

  /** Sends a message and waits for its answer. After a cut it is sent again, so it must do no harm twice. */
  async request<T = RealtimeMessage>(message: object): Promise<T> {
    return (await this.#connected().ask(() => message)) as T;
  }

  /** Sends text as it is, anything else as JSON, and waits for nothing. `false` when not connected. */
  send(data: Json): boolean {
    return this.#connection?.ready === true && this.#connection.send(data);
  }

  // Files

  /** Uploads a file. What goes wrong is told by `error` and the console, and the answer is `undefined` then. */
  async sendFile(file: Blob, channel: string | null = null, options: UploadOptions = {}): Promise<Published | undefined> {
    try {
      return await this.upload(file, { ...options, channel });
    } catch (error) {
      console.error('the file could not be sent:', error);
      const { code = 'upload_failed', message } = error as RealtimeError;
      this.#emit('error', { code, message });
      return undefined;
    }
  }

  /** Uploads a file, in pieces where it is large, and announces it in a channel or to everybody. */
  upload(file: Blob, options: UploadOptions = {}): Promise<Published> {
    return this.http.upload(file, options);
  }

  /** Downloads a file that was announced, or by its id. */
  download(file: string | FileInfo | FileMessage, signal?: AbortSignal): Promise<Blob> {
    return this.http.download(file, signal);
  }

  // What comes in

  #handleEvent(name: string, event: MessageEvent): void {
    const text = String(event.data);
    let message: RealtimeMessage | undefined;
    try {
      message = JSON.parse(text) as RealtimeMessage;
    } catch {
      // Shown to those who watch; nothing that we could act on.
    }
    const frame = { size: byteLength(text), event: name, eventId: event.lastEventId };
    this.#emit('frame', { direction: 'in', door: 'sse', message: message ?? text, ...frame });
    if (!message) return;
    const known: RealtimeMessage = { ...message, type: message.type ?? name };
    this.#deliver(known, () => {
      if (name === 'notification') this.showNotification(String(known.title), String(known.body ?? ''));
      else if (name === 'binary_data') this.handleBinaryData(known as BinaryData);
    });
  }

  /** To the page's own handlers, and then to the method that can be replaced; what comes twice is heard once. */
  #deliver(message: RealtimeMessage, handle: () => void): void {
    if (!this.#seen.isNew(message.message_id)) return;
    this.#call('message', message);
    if (message.type === 'error') this.#emit('error', errorOf(message));
    else if (!OWN_EVENTS.has(message.type)) this.#call(message.type, message);
    try {
      handle();
    } catch (error) {
      console.error(error);
    }
  }

  // Credentials

  #firstMessage(refused: boolean): Promise<object | undefined> | undefined {
    const { apiKey, getToken } = this.options;
    if (!this.token && !getToken) return apiKey ? Promise.resolve({ type: 'auth', api_key: apiKey }) : undefined;
    return this.#freshToken(refused).then((token) => ({ type: 'auth', token }));
  }

  async #freshToken(refused = false): Promise<string | undefined> {
    const { getToken } = this.options;
    if (getToken && (refused || !this.token)) this.token = await getToken();
    return this.token;
  }

  async #headers(refused: boolean): Promise<Record<string, string>> {
    const token = await this.#freshToken(refused);
    if (token) return { Authorization: `Bearer ${token}` };
    return this.options.apiKey ? { 'X-API-Key': this.options.apiKey } : {};
  }

  async #sseAddress(channels: string[], filters: Filters, last: string, refused: boolean): Promise<string> {
    const url = new URL(this.sseUrl, globalThis.location?.href);
    for (const channel of channels) url.searchParams.append('channel', channel);
    for (const [name, value] of Object.entries(filters)) {
      if (value !== undefined) url.searchParams.set(name, Array.isArray(value) ? value.join(',') : String(value));
    }
    // An event source cannot send headers.
    const token = await this.#freshToken(refused);
    if (token) url.searchParams.set('token', token);
    else if (this.options.apiKey) url.searchParams.set('api_key', this.options.apiKey);
    if (last) url.searchParams.set('last_event_id', last);
    return url.href;
  }

  #connected(): Connection {
    if (!this.#connection) throw new RealtimeError('not_connected', 'call connectWebSocket() first');
    return this.#connection;
  }

  #emit<Name extends keyof RealtimeEvents>(event: Name, value: RealtimeEvents[Name]): void {
    this.#call(event, value);
  }

  /** A handler that throws does not keep the others from hearing. */
  #call(event: string, value: unknown): void {
    for (const handler of this.#handlers.get(event) ?? []) {
      try {
        (handler as (value: unknown) => void)(value);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

/** The server's address, from that of one of its doors. */
export function httpBase(url: string): string {
  const { protocol, host } = new URL(url, globalThis.location?.href);
  return `${protocol.replace('ws', 'http')}//${host}`;
}
