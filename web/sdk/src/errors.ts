/** What goes wrong in a room. */

import type { ErrorBody } from './protocol';

/** The server's refusal, or the lack of a server. */
export class RoomError extends Error {
  readonly code: string;

  constructor({ code, message }: ErrorBody) {
    super(message || code);
    this.name = 'RoomError';
    this.code = code;
  }
}
