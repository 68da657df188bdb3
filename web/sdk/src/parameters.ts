/**
 * What a sender sends, changed step by step. Everything that changes parameters goes through here, one change after the
 * other, each made on the newest parameters, so that none undoes another.
 */

import type { Layer } from './protocol';

/** The part of `RTCRtpSender` that is used. */
export type ParameterSender = Pick<RTCRtpSender, 'getParameters' | 'setParameters'>;

type Parameters = RTCRtpSendParameters & { degradationPreference?: string };
type Encoding = Parameters['encodings'][number];

/** Changes the parameters, and says whether that changed anything. */
type Change = (parameters: Parameters) => boolean;

export class SenderParameters {
  readonly #sender: ParameterSender;
  #layers: readonly Layer[] = [];
  #turn: Promise<void> = Promise.resolve();
  #due = false;

  constructor(sender: ParameterSender) {
    this.#sender = sender;
  }

  /** Sends these layers, or not, as each of them says; those that are not named stay as they are. */
  setLayers(layers: readonly Layer[]): void {
    this.#layers = layers;
    this.apply();
  }

  /** Sees to it that the layers are as they shall be: the browser may have others after a negotiation or with other media. */
  apply(): void {
    if (this.#due || this.#layers.length === 0) return;
    this.#due = true;
    void this.#change((parameters) => {
      this.#due = false;
      return activate(parameters, this.#layers);
    });
  }

  /** A shared screen is read: fewer pictures rather than blurred ones. */
  keepSharp(): Promise<void> {
    return this.#change((parameters) => {
      parameters.degradationPreference = 'maintain-resolution';
      return true;
    });
  }

  #change(change: Change): Promise<void> {
    const attempt = async () => {
      // Read and written in one turn: parameters that were read earlier are refused.
      const parameters = this.#sender.getParameters() as Parameters;
      if (change(parameters)) await this.#sender.setParameters(parameters);
    };
    this.#turn = this.#turn
      .then(attempt)
      .catch(attempt)
      // Not every browser can do everything; it goes on as it was, and the next occasion tries again.
      .catch((error: unknown) => console.warn('sender parameters were refused', error));
    return this.#turn;
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
