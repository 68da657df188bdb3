import type { Action, Room } from '@veche/sdk';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { chooseLanguage } from '../src/i18n';
import { followModeration, forbidden, hasDoor, may, moderates, waiting } from '../src/moderation';
import { openPanel, panel } from '../src/panels';
import { announcement, dismissAll, toasts } from '../src/toasts';

const TAKE_PART: Action[] = ['join', 'publish_audio', 'publish_video', 'publish_screen', 'publish_data', 'subscribe'];
let handlers: Map<string, (value: unknown) => void>;
let stop: () => void;

/** A room that says what the test says. */
function follow(withToken: boolean): void {
  handlers = new Map();
  const on = (name: string, handler: (value: unknown) => void) => {
    handlers.set(name, handler);
    return () => handlers.delete(name);
  };
  const participants = [{ peerId: 'ann', name: 'Ann' }];
  stop = followModeration({ on, participants } as unknown as Room, withToken);
}

const say = (name: string, value: unknown) => handlers.get(name)?.(value);
const shown = () => toasts.value.map(({ text }) => text);

beforeEach(() => {
  vi.useFakeTimers();
  chooseLanguage('en');
  follow(true);
});

afterEach(() => {
  stop();
  dismissAll();
  openPanel(null);
  vi.useRealTimers();
});

it('everything may be tried until the server says, and after the call', () => {
  expect([may('moderate'), moderates.value, forbidden('camera')]).toEqual([true, false, undefined]);
  say('grants', ['join', 'publish_audio']);
  expect(forbidden('microphone')).toBeUndefined();
  expect(forbidden('camera')).toBe('forbidden.camera');
  stop();
  expect(forbidden('camera')).toBeUndefined();
  expect(handlers.size).toBe(0);
});

it('what is taken or given is told once, several things in one sentence', () => {
  say('grants', TAKE_PART);
  expect(shown()).toEqual([]);
  say('grants', TAKE_PART.filter((action) => action !== 'publish_audio'));
  expect(shown().at(-1)).toMatch(/you only listen/);
  say('grants', ['join', 'subscribe', 'publish_data', 'moderate']);
  expect(shown().slice(1)).toEqual([
    'A moderator has taken from you: camera, sharing the screen.',
    'You moderate this room now.',
  ]);
});

it('who knocks is told with a way to see them, and only said to who sees them already', () => {
  say('grants', [...TAKE_PART, 'moderate']);
  say('waiting', [{ peerId: 'c', name: 'Carl' }]);
  expect(shown()).toEqual(['Carl wants to come in']);
  toasts.value[0]?.action?.run();
  expect(panel.value).toBe('people');
  expect(shown()).toEqual([]);
  say('waiting', [{ peerId: 'c', name: 'Carl' }, { peerId: 'd', name: 'Dora' }]);
  expect(shown()).toEqual([]);
  expect(announcement.value).toBe('Dora wants to come in');
  say('waiting', [{ peerId: 'd', name: 'Dora' }]);
  expect(waiting.value).toHaveLength(1);
  expect(shown()).toEqual([]);
});

it('a moderator who mutes is named, and need not be in the room', () => {
  say('moderated', { by: 'ann', sources: ['microphone'] });
  say('moderated', { sources: ['screen', 'screen-audio'] });
  expect(shown()).toEqual([
    'Your microphone was muted by Ann. Unmute it when you want to speak.',
    'Your screen is no longer shared: a moderator stopped it. You can share it again.',
  ]);
});

it('where everybody moderates there is no door, unless it is closed already', () => {
  stop();
  follow(false);
  say('grants', [...TAKE_PART, 'moderate', 'administer']);
  expect([moderates.value, hasDoor.value]).toEqual([true, false]);
  say('room', { room_id: 'r', name: 'r', max_participants: 9, locked: true, waiting_room: false });
  expect(hasDoor.value).toBe(true);
  stop();
  follow(false);
  say('grants', [...TAKE_PART, 'moderate']);
  expect(hasDoor.value).toBe(true);
});
