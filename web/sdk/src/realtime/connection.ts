/**
 * One lasting connection over the WebSocket: it is welcomed, keeps its subscriptions and their positions over losses,
 * and answers requests.
 */

import { fromFrame } from './frames';
import { RealtimeError, type BinaryData, type RealtimeMessage, type Subscribed, type Welcome } from './protocol';
import { WebSocketClient, type Reconnecting, type WebSocketOptions } from './socket';
import type { Subscription } from './subscriptions';

/** After these close codes coming back is of no use. */
const FINAL_CODES = [4400, 4401, 4403, 4404];
/** After these it is of use with another token. */
const AUTHENTICATION_CODES = [4001, 4002, 4003];
/** How often we look after the connection where the server does not say how often it does. */
const HEARTBEAT_MS = 30_000;
/** Marks the pings of the heartbeat; requests count from 1. */
const HEARTBEAT_ID = 0;
/** Marks the message that says who we are. */
const IDENTITY_ID = 'auth';
/** How long the answer to a ping, or the welcome, may take: longer than the server waits for who we are. */
const SILENCE_MS = 15_000;
const REQUEST_MS = 15_000;
/** How long we are quiet after the server has dropped messages because they came too fast. */
const PAUSE_MS = 1_000;

/** What went over the wire, for those who want to watch. */
export interface Frame {
  direction: 'in' | 'out';
  door: 'websocket' | 'sse';
  /** The message; what was no message, as it is. */
  message: unknown;
  /** In bytes. */
  size: number;
  /** The name and id of a server-sent event. */
  event?: string;
  eventId?: string;
}

/** Whom a connection tells. */
export interface ConnectionEvents {
  /** Welcomed, with all subscriptions made. */
  open: (welcome: Welcome, reconnected: boolean) => void;
  /** A message that is no answer to a request. */
  message: (message: RealtimeMessage) => void;
  close: (code: number, reason: string) => void;
  reconnecting: (about: Reconnecting) => void;
  /** A channel is back; `recovered` says whether with everything that was missed. */
  resubscribed: (answer: Subscribed) => void;
  error: (code: string, message: string, channel?: string) => void;
  end: (error: RealtimeError) => void;
  frame: (frame: Frame) => void;
  /** The first message that says who we are; `refused`: what was shown before is not accepted. */
  credentials: (refused: boolean) => Promise<object | undefined> | undefined;
  /** Whether there are others when those are refused. */
  hasOthers: () => boolean;
}

export interface ConnectionOptions extends Omit<WebSocketOptions, 'autoConnect' | 'finalCodes' | 'protocols'> {
  /** How long a request waits for its answer, over reconnections, in milliseconds. */
  requestTimeout?: number;
}

interface Pending {
  resolve: (message: RealtimeMessage) => void;
  /** With the code `cut` the request is sent again over the next connection. */
  reject: (error: RealtimeError) => void;
  subscription: Subscription | undefined;
}

interface Waiting {
  resolve: () => void;
  reject: (error: RealtimeError) => void;
}

export class Connection {
  welcome: Welcome | undefined;
  readonly subscriptions = new Map<string, Subscription>();
  readonly socket: WebSocketClient;
  readonly #options: ConnectionOptions;
  readonly #tell: ConnectionEvents;
  #ready = false;
  #over: RealtimeError | undefined;
  #opened = false;
  /** Counts connections, so that what waited for something of an old one notices. */
  #generation = 0;
  #identifies = false;
  #refused = false;
  #comeBack = true;
  #lastError: { code: string; message: string } | undefined;
  #nextId = 1;
  #heartbeat: ReturnType<typeof setInterval> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  readonly #waiting = new Set<Waiting>();
  readonly #pending = new Map<number, Pending>();

  constructor(url: string, options: ConnectionOptions, tell: ConnectionEvents) {
    this.#options = options;
    this.#tell = tell;
    this.socket = new WebSocketClient(url, { ...options, finalCodes: FINAL_CODES, autoConnect: false });
    this.socket.on('open', () => void this.#greet());
    this.socket.on('message', (event) => this.#handleFrame(event.data));
    this.socket.on('close', (event) => this.#handleClose(event));
    this.socket.on('reconnecting', (about) => this.#tell.reconnecting(about));
    this.socket.on('end', (event) => this.#end(event?.code ?? 1000, event?.reason ?? ''));
  }

  start(): void {
    this.socket.connect();
    this.#expectSomething();
  }

  get ready(): boolean {
    return this.#ready;
  }

  get over(): RealtimeError | undefined {
    return this.#over;
  }

  close(): void {
    this.socket.close(1000);
    this.#end(1000, '');
  }

  /** Resolves when the connection stands; rejects when it does not come back. */
  whenReady(): Promise<void> {
    if (this.#ready) return Promise.resolve();
    if (this.#over) return Promise.reject(this.#over);
    return new Promise((resolve, reject) => this.#waiting.add({ resolve, reject }));
  }

  /** `false` when not connected. */
  send(data: unknown): boolean {
    if (!this.socket.send(data)) return false;
    if (ArrayBuffer.isView(data)) {
      this.#tell.frame({ direction: 'out', door: 'websocket', message: data, size: data.byteLength });
    } else {
      const text = typeof data === 'string' ? data : JSON.stringify(data);
      this.#tell.frame({ direction: 'out', door: 'websocket', message: data, size: byteLength(text) });
    }
    return true;
  }

  /** Sends what `make` makes of an id and waits for the answer, over as many connections as it takes. */
  async ask(make: (id: number) => object, subscription?: Subscription): Promise<RealtimeMessage> {
    const limit = this.#options.requestTimeout ?? REQUEST_MS;
    let late = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        late = true;
        reject(new RealtimeError('timeout', `no answer within ${limit} ms`));
      }, limit);
    });
    const attempt = async (): Promise<RealtimeMessage> => {
      for (;;) {
        await this.whenReady();
        if (late) throw new RealtimeError('timeout', 'too late');
        try {
          return await this.#exchangePatiently(make, subscription);
        } catch (error) {
          if ((error as RealtimeError).code !== 'cut') throw error;
        }
      }
    };
    const answered = attempt();
    answered.catch(() => {});
    try {
      return await Promise.race([answered, timeout]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #exchangePatiently(make: (id: number) => object, subscription?: Subscription): Promise<RealtimeMessage> {
    for (;;) {
      try {
        return await this.#exchange(make, subscription);
      } catch (error) {
        if ((error as RealtimeError).code !== 'too_fast') throw error;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }

  /** Over the connection of the moment. */
  #exchange(make: (id: number) => object, subscription?: Subscription): Promise<RealtimeMessage> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      const made = make(id);
      this.#pending.set(id, { resolve, reject, subscription });
      if (!this.send(ArrayBuffer.isView(made) ? made : { ...made, id })) {
        this.#pending.delete(id);
        // The close is about to be told; until then the old connection would be taken for a good one.
        setTimeout(() => reject(new RealtimeError('cut', 'the connection was lost')));
      }
    });
  }

  // Its life

  async #greet(): Promise<void> {
    const generation = ++this.#generation;
    this.#lastError = undefined;
    this.#expectSomething();
    const asked = this.#tell.credentials(this.#refused);
    this.#identifies = asked !== undefined;
    if (!asked) return;
    try {
      const first = await asked;
      if (generation === this.#generation && first) this.send({ ...first, id: IDENTITY_ID });
    } catch (error) {
      this.#lastError = { code: 'token_failed', message: String(error) };
      this.#tell.error('token_failed', String(error));
    }
  }

  async #handleWelcome(welcome: Welcome): Promise<void> {
    this.welcome = welcome;
    // Where nothing is required we are welcomed before it is read who we are.
    if (this.#identifies && !welcome.authenticated) return;
    this.#identifies = false;
    this.#refused = false;
    this.#watch((welcome.heartbeat_interval ?? 0) * 1000 || HEARTBEAT_MS);
    const generation = this.#generation;
    await Promise.all([...this.subscriptions.values()].map((one) => this.#resubscribe(one)));
    if (generation !== this.#generation || this.#over) return;
    this.#ready = true;
    for (const { resolve } of this.#waiting) resolve();
    this.#waiting.clear();
    this.#tell.open(welcome, this.#opened);
    this.#opened = true;
  }

  async #resubscribe(subscription: Subscription): Promise<void> {
    const { channel, position } = subscription;
    try {
      const answer = (await this.#exchangePatiently(() => subscription.request(), subscription)) as Subscribed;
      if (position) this.#tell.resubscribed(answer);
    } catch (error) {
      const { code, message } = error as RealtimeError;
      if (code === 'cut') return;
      this.subscriptions.delete(channel);
      this.#tell.error(code, message, channel);
    }
  }

  #handleClose({ code, reason }: CloseEvent): void {
    this.#generation += 1;
    this.#ready = false;
    this.#rest();
    this.#failPending(new RealtimeError('cut', 'the connection was lost'));
    this.#tell.close(code, reason);
    // The same credentials would be refused again, and others are asked for once.
    const refused = AUTHENTICATION_CODES.includes(code);
    if (!this.#comeBack || (refused && (this.#refused || !this.#tell.hasOthers()))) {
      this.#end(code, reason);
      this.socket.close();
    }
    this.#refused = refused;
  }

  #failPending(error: RealtimeError): void {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(error);
  }

  #end(code: number, reason: string): void {
    if (this.#over) return;
    const { code: name, message } = this.#lastError ?? { code: `closed_${code}`, message: reason || 'the connection is closed' };
    this.#over = new RealtimeError(name, message, code);
    this.#ready = false;
    this.#rest();
    this.#failPending(this.#over);
    for (const { reject } of this.#waiting) reject(this.#over);
    this.#waiting.clear();
    this.#tell.end(this.#over);
  }

  /** A browser does not see the server's pings, and would believe in a dead connection for minutes. */
  #watch(every: number): void {
    clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => {
      if (!this.#ready) return;
      this.socket.send({ type: 'ping', id: HEARTBEAT_ID });
      this.#expectSomething();
    }, every);
  }

  #expectSomething(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.socket.abandon('silence'), SILENCE_MS);
  }

  #rest(): void {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#silence);
  }

  // Frames

  #handleFrame(data: unknown): void {
    clearTimeout(this.#silence);
    if (typeof data === 'string') this.#handleText(data);
    else if (data instanceof ArrayBuffer) this.#handleBytes(data);
  }

  #handleText(text: string): void {
    let message: RealtimeMessage | undefined;
    try {
      message = JSON.parse(text) as RealtimeMessage;
    } catch {
      // Shown to those who watch; nothing that we could act on.
    }
    // Our own heartbeat is not worth a look.
    if (message?.type === 'pong' && message.id === HEARTBEAT_ID) return;
    this.#tell.frame({ direction: 'in', door: 'websocket', message: message ?? text, size: byteLength(text) });
    if (typeof message?.type === 'string') this.#handle(message);
  }

  #handleBytes(buffer: ArrayBuffer): void {
    let message: BinaryData;
    try {
      message = fromFrame(buffer);
    } catch (error) {
      console.error('a binary frame makes no sense:', error);
      return;
    }
    this.#tell.frame({ direction: 'in', door: 'websocket', message, size: buffer.byteLength });
    this.#handle(message);
  }

  #handle(message: RealtimeMessage): void {
    const { type, id, channel } = message;
    const pending = typeof id === 'number' ? this.#pending.get(id) : undefined;
    if (pending) {
      this.#pending.delete(id as number);
      this.#answer(message, pending);
      return;
    }
    // The answer to something that was asked again since.
    if (typeof id === 'number' && id < this.#nextId) return;
    if (type === 'disconnect') this.#comeBack = message.reconnect !== false;
    if (type === 'error') this.#handleError(errorOf(message));
    if (type === 'error' && id === IDENTITY_ID) {
      // Where nothing is required the connection would go on without anybody's name: not what was asked for.
      this.socket.abandon('credentials refused', 4002);
      return;
    }
    if (type === 'unsubscribed' && channel) this.subscriptions.delete(channel);
    const subscription = channel === undefined ? undefined : this.subscriptions.get(channel);
    if (subscription && message.offset !== undefined) subscription.onMessage(message);
    this.#tell.message(message);
    if (type === 'welcome') void this.#handleWelcome(message as Welcome);
    if (type === 'authenticated' && this.#identifies && this.welcome) {
      void this.#handleWelcome({ ...this.welcome, user_id: message.user_id as string | null, authenticated: true });
    }
  }

  #handleError(error: { code: string; message: string }): void {
    this.#lastError = error;
    // Which requests were dropped is not said: all that wait are sent again, which does no harm.
    if (error.code === 'rate_limited') this.#failPending(new RealtimeError('too_fast', error.message));
  }

  #answer(message: RealtimeMessage, { resolve, reject, subscription }: Pending): void {
    if (message.type === 'error') {
      const { code, message: text } = errorOf(message);
      reject(new RealtimeError(code, text));
      return;
    }
    if (subscription && message.type === 'subscribed') {
      // At once, since the channel's messages are right behind.
      subscription.onSubscribed(message);
      this.subscriptions.set(subscription.channel, subscription);
    }
    resolve(message);
  }
}

/** What an `error` message says. */
export function errorOf(message: RealtimeMessage): { code: string; message: string } {
  const { code, message: text } = (message.error ?? {}) as { code?: string; message?: string };
  return { code: code ?? 'error', message: text ?? String(message.message ?? '') };
}

export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}
