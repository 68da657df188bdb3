import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { watchEnvironment } from '../src/environment';
import type { Subscribe } from '../src/protocol';
import { View, type VideoSlot } from '../src/view';

const SMALL = { width: 160, height: 96 };
let said: Subscribe[];
let slots: VideoSlot[];
let view: View;

beforeEach(() => {
  vi.useFakeTimers();
  said = [];
  slots = [{ mid: '3', trackId: 'a' }, { mid: '5', trackId: undefined }];
  view = new View((message) => said.push(message) > 0, () => slots);
  view.setSize('a', { width: 640, height: 360 });
  vi.advanceTimersByTime(1_000);
  said = [];
});

afterEach(() => {
  view.close();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe('what is looked at', () => {
  it('is told in coarse steps, and five times a second at most', () => {
    for (let width = 640; width < 1_640; width++) {
      view.setSize('a', { width, height: 360 });
      vi.advanceTimersByTime(1);
    }
    vi.advanceTimersByTime(1_000);
    expect(said.length).toBeLessThanOrEqual(6);
    expect(said.at(-1)?.slots).toEqual([{ mid: '3', width: 1_664, height: 384 }]);
  });

  it('is nothing after a while of not being looked at, and everything at once afterwards', () => {
    view.setHidden(true);
    vi.advanceTimersByTime(4_000);
    expect(said).toEqual([]);
    vi.advanceTimersByTime(2_000);
    expect(said.at(-1)?.slots).toEqual([{ mid: '3', track_id: '' }, { mid: '5', track_id: '' }]);
    slots = slots.map(({ mid }) => ({ mid, trackId: undefined }));
    view.setHidden(false);
    // In the size of before, so that nobody has to send more than that even for a moment.
    const before = [{ mid: '3', width: 640, height: 384 }, { mid: '5', ...SMALL }];
    expect(said.at(-1)?.slots).toEqual(before);
    vi.advanceTimersByTime(1_000);
    expect(said).toHaveLength(2);
    slots = [{ mid: '3', trackId: 'a' }, { mid: '5', trackId: undefined }];
    view.changed();
    vi.advanceTimersByTime(1_000);
    expect(said).toHaveLength(2);
    // Whoever comes next into that slot is somebody else.
    slots = [{ mid: '3', trackId: undefined }, { mid: '5', trackId: 'a' }];
    view.changed();
    vi.advanceTimersByTime(1_000);
    expect(said.at(-1)?.slots).toEqual([{ mid: '5', width: 640, height: 384 }]);
  });

  it('is small at first where the page begins unseen, until sizes are known', () => {
    slots = [];
    view.close();
    view = new View((message) => said.push(message) > 0, () => slots);
    view.setHidden(true);
    vi.advanceTimersByTime(6_000);
    slots = [{ mid: '3', trackId: undefined }, { mid: '5', trackId: undefined }];
    view.changed();
    vi.advanceTimersByTime(1_000);
    view.setHidden(false);
    expect(said.at(-1)?.slots).toEqual([{ mid: '3', ...SMALL }, { mid: '5', ...SMALL }]);
    // Nobody came yet: it stays so, also when it is told again.
    view.forgotten();
    vi.advanceTimersByTime(1_000);
    expect(said.at(-1)?.slots).toEqual([{ mid: '3', ...SMALL }, { mid: '5', ...SMALL }]);

    slots = [{ mid: '3', trackId: 'a' }, { mid: '5', trackId: undefined }];
    view.setSize('a', { width: 640, height: 360 });
    vi.advanceTimersByTime(1_000);
    expect(said.at(-1)?.slots?.[0]).toEqual({ mid: '3', width: 640, height: 384 });
  });

  it('stays as it is over a glance at something else', () => {
    view.setHidden(true);
    vi.advanceTimersByTime(3_000);
    view.setHidden(false);
    vi.advanceTimersByTime(10_000);
    expect(said).toEqual([]);
  });

  it('is nothing in slots that are added while nobody looks', () => {
    view.setHidden(true);
    vi.advanceTimersByTime(6_000);
    slots = [...slots, { mid: '7', trackId: undefined }];
    view.changed();
    vi.advanceTimersByTime(1_000);
    expect(said.at(-1)?.slots?.at(-1)).toEqual({ mid: '7', track_id: '' });
  });
});

describe('the page', () => {
  class FakePage extends EventTarget {
    visibilityState = 'visible';
    pictureInPictureElement: object | null = null;

    become(state: 'visible' | 'hidden'): void {
      this.visibilityState = state;
      this.dispatchEvent(new Event('visibilitychange'));
    }

    putAside(element: object | null): void {
      this.pictureInPictureElement = element;
      this.dispatchEvent(new Event(element ? 'enterpictureinpicture' : 'leavepictureinpicture'));
    }
  }

  let page: FakePage;
  let seen: boolean[];

  function watch(): () => void {
    const global = new EventTarget();
    vi.stubGlobal('document', page);
    vi.stubGlobal('addEventListener', global.addEventListener.bind(global));
    vi.stubGlobal('removeEventListener', global.removeEventListener.bind(global));
    return watchEnvironment({ wake: () => {}, visibility: (hidden) => seen.push(hidden) });
  }

  beforeEach(() => {
    page = new FakePage();
    seen = [];
  });

  it('says when it is hidden, and when it is seen again, until it is not asked any more', () => {
    const stop = watch();
    page.become('hidden');
    page.become('visible');
    stop();
    page.become('hidden');
    expect(seen).toEqual([true, false]);
  });

  it('that begins hidden says so', () => {
    page.visibilityState = 'hidden';
    watch();
    expect(seen).toEqual([true]);
  });

  it('is seen as long as one of its pictures is', () => {
    watch();
    page.putAside({});
    page.become('hidden');
    expect(seen).toEqual([]);
    page.putAside(null);
    page.putAside({});
    expect(seen).toEqual([true, false]);
  });
});
