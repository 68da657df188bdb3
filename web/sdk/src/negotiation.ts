/** One offer in flight at a time. The server never offers, so there is no glare to resolve. */

import { Emitter } from './emitter';
import { nextMessageId } from './ids';
import type { ClientOffer, ErrorBody } from './protocol';

/** How long an answer may take before the same offer is sent again. */
const ANSWER_MS = 8_000;
/** How often an offer is sent again on a standing connection before the media connection is given up. */
const MOST_RESENDS = 2;
/** How often a refused offer is made anew, each time after a longer wait. */
const MOST_REFUSALS = 3;
const REFUSAL_WAIT_MS = 1_000;

/** The part of `RTCPeerConnection` that negotiation uses. */
export type NegotiatingConnection = Pick<
  RTCPeerConnection,
  'createOffer' | 'setLocalDescription' | 'setRemoteDescription' | 'localDescription' | 'signalingState'
>;

export interface NegotiationEvents {
  /** An answer was applied: sections stand as they were offered. */
  done: void;
  /** The server refuses what we offer, time and again. The media connection goes on as it was. */
  refused: ErrorBody;
  /** No agreement can be reached any more: start a new connection. */
  dead: string;
}

export class Negotiation extends Emitter<NegotiationEvents> {
  readonly #connection: NegotiatingConnection;
  readonly #send: (offer: ClientOffer) => boolean;
  readonly #labels: () => Pick<ClientOffer, 'tracks' | 'pairs'>;
  #wanted = false;
  #working = false;
  #inFlight: ClientOffer | undefined;
  #resends = 0;
  #refusals = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #answered = false;
  #closed = false;

  /** `send` says whether the message left; `labels` is asked when mids are known. */
  constructor(
    connection: NegotiatingConnection,
    send: (offer: ClientOffer) => boolean,
    labels: () => Pick<ClientOffer, 'tracks' | 'pairs'>,
  ) {
    super();
    this.#connection = connection;
    this.#send = send;
    this.#labels = labels;
  }

  /** Whether the server has answered: before, whatever it says of slots is about a connection before this one. */
  get answered(): boolean {
    return this.#answered;
  }

  /** Something changed that an offer must tell. Wishes that come while an offer is out become one offer after it. */
  request(): void {
    this.#wanted = true;
    void this.#work();
  }

  /** Something else is wanted than what was refused: try again. */
  forgive(): void {
    if (this.#refusals === 0) return;
    this.#refusals = 0;
    // In a microtask, so that everything that changes in this turn is in the offer.
    queueMicrotask(() => void this.#work());
  }

  async handleAnswer(sdp: string, id: number | undefined): Promise<void> {
    if (!this.#inFlight || id !== this.#inFlight.id) return;
    this.#settle();
    this.#answered = true;
    this.#working = true;
    try {
      await this.#connection.setRemoteDescription({ type: 'answer', sdp });
      this.#refusals = 0;
      this.emit('done', undefined);
    } catch (error) {
      this.emit('dead', `the answer cannot be used: ${String(error)}`);
      return;
    } finally {
      this.#working = false;
    }
    void this.#work();
  }

  /** The server cannot use the offer `id`. Nothing of it took effect, so nothing of it may stay here. */
  async handleError(error: ErrorBody, id: number | undefined): Promise<void> {
    // Messages to other clients have ids of their own.
    if (error.code.startsWith('peer_') || id === undefined || id !== this.#inFlight?.id) return;
    await this.#refuse(error);
  }

  /** The connection was closed for a message that was too large: an offer that is out is the likely one. */
  async handleTooLarge(error: ErrorBody): Promise<void> {
    if (this.#inFlight) await this.#refuse(error);
  }

  /**
   * Signaling is back. An offer that was out is sent again as it was: whether or not the server took it the first
   * time, its answer to the same offer is the same agreement.
   */
  handleSignalingUp(): void {
    this.#resends = 0;
    if (this.#inFlight) this.#transmit(this.#inFlight);
    else void this.#work();
  }

  close(): void {
    this.#closed = true;
    this.#settle();
  }

  async #refuse(error: ErrorBody): Promise<void> {
    this.#settle();
    this.#working = true;
    try {
      await this.#connection.setLocalDescription({ type: 'rollback' });
    } catch {
      // Already stable: nothing to take back.
    } finally {
      this.#working = false;
    }
    if (this.#closed) return;
    this.#refusals += 1;
    if (this.#refusals > MOST_REFUSALS) {
      this.emit('refused', error);
      return;
    }
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.request();
    }, REFUSAL_WAIT_MS * 2 ** (this.#refusals - 1));
  }

  async #work(): Promise<void> {
    if (!this.#wanted || this.#working || this.#inFlight || this.#closed) return;
    if (this.#refusals > 0 && this.#timer !== undefined) return;
    if (this.#refusals > MOST_REFUSALS) return;
    this.#wanted = false;
    this.#working = true;
    try {
      const offer = await this.#connection.createOffer();
      await this.#connection.setLocalDescription(offer);
    } catch (error) {
      if (!this.#closed) this.emit('dead', `no offer can be made: ${String(error)}`);
      return;
    } finally {
      this.#working = false;
    }
    if (this.#closed) return;
    const sdp = this.#connection.localDescription?.sdp ?? '';
    this.#inFlight = { sdp, id: nextMessageId(), ...this.#labels() };
    this.#resends = 0;
    this.#transmit(this.#inFlight);
  }

  #transmit(offer: ClientOffer): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    // While signaling is down the offer waits for `handleSignalingUp`.
    if (!this.#send(offer)) return;
    this.#timer = setTimeout(() => {
      this.#resends += 1;
      if (this.#resends > MOST_RESENDS) this.emit('dead', 'the server does not answer offers');
      else this.#transmit(offer);
    }, ANSWER_MS);
  }

  #settle(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#inFlight = undefined;
  }
}
