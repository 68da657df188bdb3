import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LocalMedia } from '../src/media';
import type { Room } from '../src/room';
import type { LocalTrack } from '../src/room-types';

class FakeTrack extends EventTarget {
  readonly kind: string;
  readonly label: string;
  enabled = true;
  stopped = false;

  constructor(kind: string, label: string) {
    super();
    this.kind = kind;
    this.label = label;
  }

  stop(): void {
    this.stopped = true;
  }
}

let tracks: FakeTrack[];
let asked: MediaStreamConstraints[];
/** Answers the oldest question. */
let answers: ((error?: string) => void)[];
let media: LocalMedia;

const turns = async () => {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
};
const grant = async (error?: string) => {
  answers.shift()?.(error);
  await turns();
};
const open = () => tracks.filter((track) => !track.stopped).map((track) => track.label);

beforeEach(() => {
  tracks = [];
  asked = [];
  answers = [];
  media = new LocalMedia();
  const getUserMedia = (wish: MediaStreamConstraints) => {
    asked.push(wish);
    return new Promise((resolve, reject) => {
      answers.push((error) => {
        if (error) return reject(new DOMException('', error));
        const got = (['audio', 'video'] as const).filter((kind) => wish[kind]).map((kind) => new FakeTrack(kind, `${kind} ${asked.length}`));
        tracks.push(...got);
        const of = (kind: string) => got.filter((track) => track.kind === kind);
        resolve({ getTracks: () => got, getAudioTracks: () => of('audio'), getVideoTracks: () => of('video') });
      });
    });
  };
  vi.stubGlobal('navigator', { mediaDevices: { getUserMedia } });
});

afterEach(() => vi.unstubAllGlobals());

describe('microphone and camera', () => {
  it('are asked for in one question, and what is wished meanwhile comes after it', async () => {
    void media.openBoth();
    void media.setMicrophone(false);
    await turns();
    expect(asked).toHaveLength(1);
    expect(media.get('microphone')).toMatchObject({ pending: true, on: false });
    await grant();
    expect(media.get('microphone')).toMatchObject({ pending: false, on: false });
    expect(tracks[0]?.enabled).toBe(false);
    expect(media.get('camera').on).toBe(true);
  });

  it('are asked for one by one where both are not to be had', async () => {
    void media.openBoth();
    await turns();
    await grant('NotFoundError');
    await grant();
    await grant('NotFoundError');
    expect(media.get('microphone').on).toBe(true);
    expect(media.get('camera')).toMatchObject({ on: false, pending: false, problem: 'missing' });
  });

  it('that are asked for again replace those that were there', async () => {
    for (let round = 0; round < 2; round++) {
      void media.openBoth();
      await turns();
      await grant();
    }
    expect(open()).toEqual(['audio 2', 'video 2']);
  });

  it('that come after all was let go of are let go of too', async () => {
    void media.openBoth();
    void media.setCamera(true);
    await turns();
    media.close();
    await grant();
    expect(open()).toEqual([]);
    expect(asked).toHaveLength(1);
    expect(media.get('microphone')).toMatchObject({ media: null, on: false, pending: false });
    void media.setCamera(true);
    await turns();
    await grant();
    expect(media.get('camera').on).toBe(true);
  });
});

describe('another microphone', () => {
  async function change(error?: string): Promise<LocalTrack[]> {
    const published: LocalTrack[] = [];
    void media.setMicrophone(true);
    await turns();
    await grant();
    await media.setMicrophone(false);
    const room = {
      localTracks: [{ source: 'microphone' }],
      on: () => () => {},
      publish: (track: MediaStreamTrack | null, options: object) => published.push({ media: track, ...options } as LocalTrack),
    };
    media.attach(room as unknown as Room);
    void media.useDevice('microphone', 'other');
    await turns();
    await grant(error);
    return published;
  }

  it('stays muted, from the start', async () => {
    const published = await change();
    expect(published.at(-1)?.media).toBe(tracks[1]);
    expect(published.every(({ muted }) => muted)).toBe(true);
    expect(tracks[1]?.enabled).toBe(false);
    expect(open()).toEqual(['audio 2']);
  });

  it('that cannot be had is not on', async () => {
    await change('NotReadableError');
    expect(media.get('microphone')).toMatchObject({ media: null, on: false, problem: 'busy' });
    expect(open()).toEqual([]);
  });
});
