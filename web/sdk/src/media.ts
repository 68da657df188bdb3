/** The microphone, the camera and the screen: asked for, switched, muted, let go of. */

import { Emitter } from './emitter';
import type { TrackSource } from './protocol';
import type { Room } from './room';

/** Why media cannot be had. */
export type MediaProblem = 'denied' | 'missing' | 'busy' | 'insecure' | 'lost' | 'other';

/** A source and its state. */
export interface LocalSource {
  /** Absent when it was never had, or is switched off and let go of. */
  media: MediaStreamTrack | null;
  on: boolean;
  /** Being asked for now. */
  pending: boolean;
  /** Why it cannot be had. */
  problem?: MediaProblem;
}

export interface LocalMediaEvents {
  change: void;
  problem: { source: TrackSource; problem: MediaProblem };
}

const OFF: LocalSource = { media: null, on: false, pending: false };
const SOURCES: TrackSource[] = ['microphone', 'camera', 'screen', 'screen-audio'];

export class LocalMedia extends Emitter<LocalMediaEvents> {
  readonly #sources = new Map<TrackSource, LocalSource>(SOURCES.map((source) => [source, OFF]));
  readonly #devices: { microphone?: string; camera?: string } = {};
  readonly #queues = new Map<TrackSource, Promise<void>>();
  /** Counts closings: what was asked for before the last one is let go of when it comes. */
  #generation = 0;

  /** A source as it is now. */
  get(source: TrackSource): LocalSource {
    return this.#sources.get(source) ?? OFF;
  }

  /** The device that is used or asked for. */
  deviceOf(source: 'microphone' | 'camera'): string | undefined {
    return this.get(source).media?.getSettings().deviceId ?? this.#devices[source];
  }

  /**
   * Asks for microphone and camera at once, so that the browser asks only one question; where only one of them can
   * be had, that one is taken.
   */
  openBoth(devices: { microphone?: string; camera?: string } = {}): Promise<void> {
    const both = ['microphone', 'camera'] as const;
    return this.#inTurn(both, async () => {
      Object.assign(this.#devices, devices);
      for (const source of both) this.#set(source, { pending: true, problem: undefined });
      try {
        const wishes = { audio: this.#wish('microphone'), video: this.#wish('camera') };
        const stream = await this.#ask(() => getMedia(wishes));
        if (!stream) return;
        this.#take('microphone', stream.getAudioTracks()[0]);
        this.#take('camera', stream.getVideoTracks()[0]);
      } catch {
        const open = (source: (typeof both)[number]) =>
          this.get(source).media ? this.#set(source, { pending: false }) : this.#open(source);
        await Promise.all(both.map(open));
      }
    });
  }

  /** Muted, the microphone stays open and silent, so that speaking starts at once when it is on again. */
  setMicrophone(on: boolean): Promise<void> {
    return this.#inTurn(['microphone'], async () => {
      const { media } = this.get('microphone');
      if (media) {
        media.enabled = on;
        this.#set('microphone', { on });
      } else if (on) {
        await this.#open('microphone');
      } else {
        this.#set('microphone', { on: false });
      }
    });
  }

  /** Off, the camera is let go of, so that its light goes out. */
  setCamera(on: boolean): Promise<void> {
    return this.#inTurn(['camera'], async () => {
      if (on) {
        if (!this.get('camera').media) await this.#open('camera');
      } else {
        this.#release('camera');
      }
    });
  }

  /** Shares a screen or window that the person picks, with its sound where the browser can; or ends that. */
  setScreen(on: boolean): Promise<void> {
    return this.#inTurn(['screen'], async () => {
      if (!on) {
        this.#release('screen');
        this.#release('screen-audio');
        return;
      }
      this.#set('screen', { pending: true, problem: undefined });
      try {
        if (!navigator.mediaDevices?.getDisplayMedia) throw new DOMException('', 'NotSupportedError');
        const wish = { video: { frameRate: 15 }, audio: true };
        const stream = await this.#ask(() => navigator.mediaDevices.getDisplayMedia(wish));
        if (!stream) return;
        const [video] = stream.getVideoTracks();
        if (video) video.contentHint = 'detail';
        this.#take('screen', video);
        const [audio] = stream.getAudioTracks();
        if (audio) this.#take('screen-audio', audio);
      } catch (error) {
        this.#fail('screen', error);
      }
    });
  }

  /** Uses another device from now on, at once if the source is on. */
  useDevice(source: 'microphone' | 'camera', deviceId: string): Promise<void> {
    return this.#inTurn([source], async () => {
      this.#devices[source] = deviceId;
      const before = this.get(source);
      if (!before.media) return;
      // Some phones give no second camera while the first is open.
      if (source === 'camera') before.media.stop();
      await this.#open(source, before.on);
    });
  }

  /** Lets go of everything. */
  close(): void {
    this.#generation += 1;
    for (const source of SOURCES) this.#release(source);
  }

  /**
   * Keeps the room's tracks as these sources are, until the returned function is called. What a moderator mutes, and what we
   * may not send, is switched off.
   */
  attach(room: Room): () => void {
    const sync = () => {
      for (const source of SOURCES) syncSource(room, source, this.get(source));
    };
    sync();
    const stops = [
      this.on('change', sync),
      room.on('moderated', ({ sources }) => this.#switchOff(sources)),
      room.on('grants', () => this.#switchOff(SOURCES.filter((source) => !room.moderation.mayPublish(source)))),
    ];
    return () => stops.forEach((stop) => stop());
  }

  #switchOff(sources: readonly TrackSource[]): void {
    for (const source of sources.filter((each) => this.get(each).on || this.get(each).pending)) {
      if (source === 'microphone') void this.setMicrophone(false);
      else if (source === 'camera') void this.setCamera(false);
      else if (source === 'screen') void this.setScreen(false);
      // A screen goes on without its sound; alone it comes back only with another screen.
      else void this.#inTurn(['screen'], async () => this.#release('screen-audio'));
    }
  }

  async #open(source: 'microphone' | 'camera', on = true): Promise<void> {
    this.#set(source, { pending: true, problem: undefined });
    try {
      const wish = this.#wish(source);
      const stream = await this.#ask(() => getMedia(source === 'camera' ? { video: wish } : { audio: wish }));
      if (stream) this.#take(source, stream.getTracks()[0], on);
    } catch (error) {
      this.#fail(source, error);
    }
  }

  /** `undefined`, and the tracks are stopped, when everything was let go of while the person was asked. */
  async #ask(get: () => Promise<MediaStream>): Promise<MediaStream | undefined> {
    const generation = this.#generation;
    try {
      const stream = await get();
      if (generation === this.#generation) return stream;
      for (const track of stream.getTracks()) track.stop();
    } catch (error) {
      if (generation === this.#generation) throw error;
    }
    return undefined;
  }

  #wish(source: 'microphone' | 'camera'): MediaTrackConstraints {
    const device = this.#devices[source];
    const deviceId = device ? { deviceId: { ideal: device } } : {};
    if (source === 'microphone') {
      return { ...deviceId, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    }
    return { ...deviceId, width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };
  }

  #take(source: TrackSource, media: MediaStreamTrack | undefined, on = true): void {
    if (!media) {
      this.#fail(source, new DOMException('', 'NotFoundError'));
      return;
    }
    media.addEventListener('ended', () => {
      if (this.get(source).media !== media) return;
      // Ending a screen share by the browser's own button is a wish, not a problem.
      const wanted = source === 'screen' || source === 'screen-audio';
      this.#release(source);
      if (source === 'screen') this.#release('screen-audio');
      if (!wanted) this.#report(source, 'lost');
    });
    const before = this.get(source).media;
    // Before anybody hears of it: a muted microphone is never on, not even for a moment.
    media.enabled = on;
    this.#set(source, { media, on, pending: false, problem: undefined });
    if (before !== media) before?.stop();
  }

  #release(source: TrackSource): void {
    const { media } = this.get(source);
    this.#set(source, { media: null, on: false, pending: false });
    media?.stop();
  }

  #fail(source: TrackSource, error: unknown): void {
    const problem = classify(error);
    this.#release(source);
    // Closing the picker of screens is an answer too.
    if (source === 'screen' && problem === 'denied') return;
    this.#report(source, problem);
  }

  #report(source: TrackSource, problem: MediaProblem): void {
    this.#set(source, { problem });
    this.emit('problem', { source, problem });
  }

  #set(source: TrackSource, change: Partial<LocalSource>): void {
    this.#sources.set(source, { ...this.get(source), ...change });
    this.emit('change', undefined);
  }

  /** One thing at a time per source, however fast the button is pressed, and nothing after `close` that was wished before. */
  #inTurn(sources: readonly TrackSource[], work: () => Promise<void>): Promise<void> {
    const generation = this.#generation;
    const before = Promise.all(sources.map((source) => this.#queues.get(source)));
    const turn = before.then(() => (generation === this.#generation ? work() : undefined));
    for (const source of sources) {
      this.#queues.set(
        source,
        turn.catch(() => {}),
      );
    }
    return turn;
  }
}

function syncSource(room: Room, source: TrackSource, { media, on }: LocalSource): void {
  const isScreen = source === 'screen' || source === 'screen-audio';
  const known = room.localTracks.some((track) => track.source === source);
  if (media) room.publish(media, { source, muted: !on });
  else if (known && isScreen) room.unpublish(source);
  else if (known) room.publish(null, { source, muted: true });
}

async function getMedia(constraints: MediaStreamConstraints): Promise<MediaStream> {
  if (!navigator.mediaDevices?.getUserMedia) throw new DOMException('', 'SecurityError');
  return navigator.mediaDevices.getUserMedia(constraints);
}

/** What an error of `getUserMedia` means for a person. */
export function classify(error: unknown): MediaProblem {
  switch ((error as { name?: string } | undefined)?.name) {
    case 'NotAllowedError':
      return 'denied';
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'missing';
    case 'NotReadableError':
    case 'AbortError':
      return 'busy';
    case 'SecurityError':
      return globalThis.isSecureContext === false ? 'insecure' : 'denied';
    default:
      return 'other';
  }
}

/** Cameras, microphones and loudspeakers; labels are empty until a permission was given. */
export async function listDevices(): Promise<MediaDeviceInfo[]> {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices.filter((device) => device.deviceId !== '');
}
