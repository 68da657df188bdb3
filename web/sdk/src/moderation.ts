/** Moderating a room: what is asked of the server, what we may do ourselves, and who waits at the door. */

import { RoomError } from './errors';
import { nextMessageId } from './ids';
import type { Action, ClientMessage, ErrorBody, Moderation as Wish, TrackSource, Waiting } from './protocol';

/** How long the server may take to answer. */
const ANSWER_MS = 10_000;

/** Somebody who waits to be let in. */
export interface WaitingPerson {
  peerId: string;
  name: string;
  /** Which user they are, as their token says; absent for who is anonymous. */
  userId?: string;
}

/** A peer id of somebody in the room, or a user, there or not. */
export type Banned = { peerId: string } | { userId: string };

/** What a moderator did to us. */
export interface ModeratedEvent {
  /** The moderator's peer id; absent: over HTTP, from nobody in the room. */
  by?: string;
  /** What of ours is muted now. We may unmute it. */
  sources: readonly TrackSource[];
}

interface Pending {
  resolve: () => void;
  reject: (error: RoomError) => void;
  timer: ReturnType<typeof setTimeout>;
}

const NEEDED: Record<TrackSource, Action> = {
  microphone: 'publish_audio',
  camera: 'publish_video',
  screen: 'publish_screen',
  'screen-audio': 'publish_screen',
};

/**
 * Every wish needs the grant `moderate`. It resolves when the server has done it, and rejects with a `RoomError`: the
 * server's, or `not_connected`, or `unanswered`.
 */
export class Moderation {
  readonly #send: (message: ClientMessage) => boolean;
  readonly #pending = new Map<number, Pending>();
  #grants: readonly Action[] | undefined;
  #waiting: readonly WaitingPerson[] = [];

  /** `send` says whether the message left. */
  constructor(send: (message: ClientMessage) => boolean) {
    this.#send = send;
  }

  /** What we may do in the room; empty before the server has said. */
  get grants(): readonly Action[] {
    return this.#grants ?? [];
  }

  /** Whether we may do this. Before the server has said: as far as we know. */
  may(action: Action): boolean {
    return this.#grants?.includes(action) ?? true;
  }

  /** Whether we may be seen or heard by this. */
  mayPublish(source: TrackSource): boolean {
    return this.may(NEEDED[source]);
  }

  /** Who waits to be let in, the longest first. Only moderators are told. */
  get waiting(): readonly WaitingPerson[] {
    return this.#waiting;
  }

  /** Mutes tracks of somebody: those of a source, a single one, or all. They may unmute them; take the grant to prevent that. */
  mute(peerId: string, which: { source?: TrackSource; trackId?: string } = {}): Promise<void> {
    return this.#ask({ action: 'mute', peer_id: peerId, source: which.source, track_id: which.trackId });
  }

  /** Sends somebody out, and tells them the reason. They may come back. */
  remove(peerId: string, reason?: string): Promise<void> {
    return this.#ask({ action: 'remove', peer_id: peerId, reason });
  }

  /** Sends somebody out for good: a user by their token, somebody anonymous only by the peer id that they have. */
  ban(who: Banned, reason?: string): Promise<void> {
    return this.#ask({ action: 'ban', ...named(who), reason });
  }

  /** Lets somebody come again. */
  unban(who: Banned): Promise<void> {
    return this.#ask({ action: 'unban', ...named(who) });
  }

  /** Says all that somebody may do from now on. Nobody can grant what they may not do themselves. */
  grant(peerId: string, grants: readonly Action[]): Promise<void> {
    return this.#ask({ action: 'grant', peer_id: peerId, grants: [...grants] });
  }

  /** Closes the room for who is not in it and does not moderate it, or opens it. */
  lock(locked: boolean): Promise<void> {
    return this.#ask({ action: 'lock', locked });
  }

  /** Has people wait until they are let in. Switched off, it lets in who waits. */
  setWaitingRoom(enabled: boolean): Promise<void> {
    return this.#ask({ action: 'waiting-room', enabled });
  }

  /** Lets in somebody who waits. */
  admit(peerId: string): Promise<void> {
    return this.#ask({ action: 'admit', peer_id: peerId });
  }

  /** Sends away somebody who waits. */
  deny(peerId: string): Promise<void> {
    return this.#ask({ action: 'deny', peer_id: peerId });
  }

  /** Begins to record the room, or ends it. Needs the grant `record`, and no other. Everybody in the room is told. */
  record(on: boolean): Promise<void> {
    return this.#request((id) => ({ signal_type: 'record', id, on }));
  }

  /** @internal What the server says we may do. */
  setGrants(grants: readonly Action[]): void {
    this.#grants = grants;
    if (!this.may('moderate')) this.#waiting = [];
  }

  /** @internal Who the server says waits. */
  setWaiting(waiting: readonly Waiting[]): void {
    this.#waiting = waiting.map(({ peer_id: peerId, name, user_id: userId }) => ({ peerId, name, userId }));
  }

  /** @internal The server has answered: it is done, or why not. */
  settle(id: number | undefined, error?: ErrorBody): void {
    const pending = id === undefined ? undefined : this.#pending.get(id);
    if (id === undefined || !pending) return;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    if (error) pending.reject(new RoomError(error));
    else pending.resolve();
  }

  /** @internal Nothing that was asked will be answered any more. */
  abandon(): void {
    const message = 'the connection was lost before the server answered';
    for (const id of this.#pending.keys()) this.settle(id, { code: 'not_connected', message });
  }

  #ask(wish: Wish): Promise<void> {
    return this.#request((id) => ({ signal_type: 'moderate', id, ...wish }));
  }

  #request(message: (id: number) => ClientMessage): Promise<void> {
    const id = nextMessageId();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.settle(id, { code: 'unanswered', message: 'the server did not answer in time' }),
        ANSWER_MS,
      );
      this.#pending.set(id, { resolve, reject, timer });
      if (!this.#send(message(id))) {
        this.settle(id, { code: 'not_connected', message: 'there is no connection to the server now' });
      }
    });
  }
}

function named(who: Banned): { peer_id: string } | { user_id: string } {
  return 'userId' in who ? { user_id: who.userId } : { peer_id: who.peerId };
}
