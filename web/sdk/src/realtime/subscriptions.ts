/** Which channels are wanted, and how far each was heard, so that coming back misses nothing and doubles nothing. */

import type { Filters, Position, RealtimeMessage } from './protocol';

/** So many of the newest message ids are remembered. */
const REMEMBERED = 10_000;

export interface SubscribeOptions {
  /** Tell who is there, and who joins and leaves. */
  presence?: boolean;
  /** Ask for what was published after this position. */
  recover?: Position;
}

/** A wish for a channel, with the position up to which everything has arrived. */
export class Subscription {
  readonly channel: string;
  readonly filters: Filters | undefined;
  readonly presence: boolean;
  #epoch: string | undefined;
  #offset = 0;
  #newest = 0;
  #keptLeft = 0;

  constructor(channel: string, filters: Filters | undefined, options: SubscribeOptions) {
    this.channel = channel;
    this.filters = filters;
    this.presence = options.presence ?? false;
    this.#epoch = options.recover?.epoch;
    this.#offset = options.recover?.offset ?? 0;
  }

  get position(): Position | undefined {
    return this.#epoch === undefined ? undefined : { epoch: this.#epoch, offset: this.#offset };
  }

  /** The message that asks for the channel, and for what was missed since the position. */
  request(): object {
    return {
      type: 'subscribe',
      channel: this.channel,
      ...(this.filters ? { filters: this.filters } : {}),
      ...(this.presence ? { presence: true } : {}),
      ...(this.position ? { recover: this.position } : {}),
    };
  }

  /**
   * The server agrees. What follows now are missed or kept messages: until they are here, the position is not the one
   * that the answer names.
   */
  onSubscribed(answer: RealtimeMessage): void {
    if (answer.recovered === true) return;
    this.#epoch = answer.epoch;
    this.#newest = answer.offset ?? 0;
    this.#keptLeft = Number(answer.kept ?? 0);
    this.#offset = this.#keptLeft > 0 ? 0 : this.#newest;
  }

  /** A message of the channel has arrived. */
  onMessage({ epoch, offset }: RealtimeMessage): void {
    if (offset === undefined || (epoch !== undefined && epoch !== this.#epoch)) {
      // Kept from an earlier epoch.
      this.#countKept();
      return;
    }
    this.#offset = Math.max(this.#offset, offset);
    if (offset > this.#newest) this.#keptLeft = 0;
    else this.#countKept();
  }

  #countKept(): void {
    if (this.#keptLeft === 0) return;
    this.#keptLeft -= 1;
    if (this.#keptLeft === 0) this.#offset = Math.max(this.#offset, this.#newest);
  }
}

/** The ids of the newest messages: what comes twice is heard once. */
export class Seen {
  readonly #ids = new Set<string>();
  readonly #limit: number;

  constructor(limit = REMEMBERED) {
    this.#limit = limit;
  }

  /** Whether a message is heard for the first time; what has no id always is. */
  isNew(id: string | undefined): boolean {
    if (id === undefined) return true;
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > this.#limit) {
      const [oldest] = this.#ids;
      this.#ids.delete(oldest as string);
    }
    return true;
  }
}
