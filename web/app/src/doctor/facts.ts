/** What was seen: plain values, as they stand in the report. Nothing here is a judgement; that is `findings.ts`. */

import type { ErrorBody, MediaProblem } from '@veche/sdk';
import type { EchoFigures } from './samples';
import type { Relay } from './servers';

export interface BrowserFacts {
  name: string;
  /** Browsers give camera and microphone to secure pages only. */
  secure: boolean;
  webrtc: boolean;
}

export interface DeviceFacts {
  /** Why there is nothing; `unanswered`: the browser's question is still open. */
  problem?: MediaProblem | 'unanswered';
  label?: string;
  /** How many there are to choose from. */
  devices: number;
}

export interface CameraFacts extends DeviceFacts {
  width?: number;
  height?: number;
  /** Whether pictures come. */
  moving?: boolean;
  /** The mean brightness of a picture, from 0 to 255. */
  brightness?: number;
}

export interface MicrophoneFacts extends DeviceFacts {
  /** The loudest moment, in decibels below full scale; absent where it could not be measured. */
  loudestDb?: number;
}

export interface ServerFacts {
  address: string;
  /** Of the HTTP answer; `null` where none came. */
  status: number | null;
  /** It said so in Veche's own words: anything on the way can answer with 200. */
  healthy: boolean;
  /** The fastest of some requests. */
  ms: number | null;
}

export interface SocketFacts {
  address: string;
  opened: boolean;
  /** From the attempt to the server's first word. */
  ms: number | null;
  welcomed: boolean;
  /** A moderator must let us in first. */
  waiting: boolean;
  /** A room of our own let us in, whatever became of the one that we were sent from. */
  elsewhere: boolean;
  rttMs: number | null;
  closeCode: number | null;
  /** What the server said against it. */
  error: ErrorBody | null;
}

export interface RelayListFacts {
  status: number | null;
  error: ErrorBody | null;
  relays: string[];
  /** So many of them, from the first on, are tried one by one. */
  tried: number;
}

/** A way that media can take: straight to the server, or over a relay. */
export interface PathFacts {
  way: 'udp' | 'tcp' | Relay['transport'];
  /** The relay's address; absent on the straight ways. */
  relay?: string;
  /** Where the server's media is, by its own word, for this way. */
  offered: string[];
  /** The server would not talk about media. */
  error: ErrorBody | null;
  /** Whether the relay gave us an address; `null` on the straight ways. */
  allocated: boolean | null;
  /** What the browser says went wrong, as it says it: numbers are those of STUN, 701 for "not reached". */
  iceErrors: { code: number; text: string }[];
  /** Until media could flow; `null`: it could not. */
  connectMs: number | null;
  /** The protocol of the pair that was used, as the browser tells it: `udp`, `tcp`, with a relay's behind a slash. */
  used: string | null;
  echoes: EchoFigures | null;
  mbps: number | null;
}
