/**
 * What a sender sends, changed step by step. Everything that changes parameters goes through here, one change after the
 * other, each made on the newest parameters, so that none undoes another.
 */

import type { Layer } from './protocol';

/** The part of `RTCRtpSender` that is used. */
export type ParameterSender = Pick<RTCRtpSender, 'getParameters' | 'setParameters'>;

type Parameters = RTCRtpSendParameters & { degradationPreference?: string };
type Encoding = Parameters['encodings'][number];

/** When layers that the browser refused are tried again, one wait after the other: somebody may look at a still picture. */
const RETRIES_MS = [1_000, 2_000, 4_000, 8_000, 16_000];

/** Changes the parameters, and says whether that changed anything. */
type Change = (parameters: Parameters) => boolean;

export class SenderParameters {
  readonly #sender: ParameterSender;
  #layers: readonly Layer[] = [];
  #turn: Promise<void> = Promise.resolve();
  #due = false;
  /** How often in a row the layers were refused. */
  #refusals = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(sender: ParameterSender) {
    this.#sender = sender;
  }

  /** Sends these layers, or not, as each of them says; those that are not named stay as they are. */
  setLayers(layers: readonly Layer[]): void {
    this.#layers = layers;
    this.#refusals = 0;
    this.apply();
  }

  /** Sees to it that the layers are as they shall be: the browser may have others after a negotiation or with other media. */
  apply(): void {
    if (this.#due || this.#layers.length === 0) return;
    this.#due = true;
    const change = this.#change((parameters) => {
      this.#due = false;
      return activate(parameters, this.#layers);
    });
    void change.then((taken) => this.#plan(taken));
  }

  /** A shared screen is read: fewer pictures rather than blurred ones. */
  async keepSharp(): Promise<void> {
    await this.#change((parameters) => {
      parameters.degradationPreference = 'maintain-resolution';
      return true;
    });
  }

  /** Nothing is sent any more. */
  close(): void {
    this.#layers = [];
    clearTimeout(this.#retry);
  }

  /** Tries again later, a bounded number of times, what was refused. */
  #plan(taken: boolean): void {
    clearTimeout(this.#retry);
    if (taken) this.#refusals = 0;
    const wait = taken ? undefined : RETRIES_MS[this.#refusals++];
    if (wait !== undefined) this.#retry = setTimeout(() => this.apply(), wait);
  }

  /** Says whether the browser took it. */
  #change(change: Change): Promise<boolean> {
    const attempt = async () => {
      // Read and written in one turn: parameters that were read earlier are refused.
      const parameters = this.#sender.getParameters() as Parameters;
      if (change(parameters)) await this.#sender.setParameters(parameters);
    };
    const taken = this.#turn
      .then(attempt)
      .catch(attempt)
      .then(() => true)
      // Not every browser can do everything; it goes on as it was, and the next occasion tries again.
      .catch((error: unknown) => {
        console.warn('sender parameters were refused', error);
        return false;
      });
    this.#turn = taken.then(() => {});
    return taken;
  }
}

/** Sets `active` of the encodings that are named; says whether one of them was not so before. */
function activate(parameters: Parameters, layers: readonly Layer[]): boolean {
  let changed = false;
  // Before the first negotiation some browsers have none.
  const encodings = parameters.encodings ?? [];
  for (const encoding of encodings) {
    const active = wished(encoding, encodings.length, layers);
    if (active === undefined || (encoding.active ?? true) === active) continue;
    encoding.active = active;
    changed = true;
  }
  return changed;
}

function wished(encoding: Encoding, count: number, layers: readonly Layer[]): boolean | undefined {
  // Where there is only one of them, its name, or the lack of one, does not matter.
  if (count === 1 && layers.length === 1) return layers[0]?.active;
  return layers.find((layer) => layer.rid !== undefined && layer.rid === encoding.rid)?.active;
}
