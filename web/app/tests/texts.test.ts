import { expect, it } from 'vitest';
import { chooseLanguage, fill, t, tn } from '../src/i18n';
import { en } from '../src/i18n/en';
import { ru } from '../src/i18n/ru';
import { cleanRoom, doctorAddress, inviteLink, mayOpenUnasked, randomRoom, readOptions, roomAddress } from '../src/options';
import { explainClose, mayBeTechnical } from '../src/problems';
import { isFresh } from '../src/storage';

const placeholders = (text: string) => (text.match(/\{\w+\}/g) ?? []).toSorted();

it('both languages have the same texts with the same gaps, none of them empty', () => {
  expect(Object.keys(ru)).toEqual(Object.keys(en));
  for (const key of Object.keys(en) as (keyof typeof en)[]) {
    expect(ru[key].trim(), key).not.toBe('');
    expect(en[key].trim(), key).not.toBe('');
    expect(placeholders(ru[key]), key).toEqual(placeholders(en[key]));
  }
});

it('Russian counts as Russians do', () => {
  chooseLanguage('ru');
  expect([1, 2, 5, 21].map((count) => tn('call.people', count))).toEqual([
    '1 человек', '2 человека', '5 человек', '21 человек',
  ]);
  chooseLanguage('en');
  expect([1, 2].map((count) => tn('call.people', count))).toEqual(['1 person', '2 people']);
});

it('a gap without a value stays to be seen', () => {
  expect(fill('{a} and {b}', { a: 1 })).toBe('1 and {b}');
  expect(t('tile.pin', { name: 'Bob' })).toBe('Pin Bob');
});

it('an error that nobody foresaw is told as the server told it', () => {
  expect(explainClose({ code: 'room_full', message: 'x' })).toBe(en['error.room_full']);
  expect(explainClose({ code: 'strange', message: 'the moon is full' })).toContain('the moon is full');
});

it('who is sent out reads the reason, where there is one', () => {
  const message = 'a moderator sent you out of this room';
  expect(explainClose({ code: 'removed', message })).toBe(en['error.removed']);
  expect(explainClose({ code: 'removed', message: `${message}: late: again` })).toMatch(/from the call\. .*: late: again$/);
});

it('nobody looks for a fault in the network when a person has decided', () => {
  const codes = ['unreachable', 'unauthorized', 'strange', 'banned', 'room_full', 'not_admitted'];
  expect(codes.map((code) => mayBeTechnical({ code, message: '' }))).toEqual([true, true, true, false, false, false]);
});

it('the address says room, name and options', () => {
  const options = readOptions('https://h/r/team%20one?codec=H264&simulcast=0&autojoin=1&name=Ann');
  expect(options).toEqual({ room: 'team-one', name: 'Ann', codec: 'h264', simulcast: false, svc: undefined, accessToken: undefined, autojoin: true });
  expect(readOptions('https://h/?codec=vp9&svc=l3t3_key')).toMatchObject({ codec: 'vp9', svc: 'L3T3_KEY' });
  expect(readOptions('https://h/?svc=L9')).toMatchObject({ svc: undefined });
  expect(readOptions('https://h/?room=a&codec=mpeg')).toMatchObject({ room: 'a', codec: undefined, simulcast: undefined });
  expect(readOptions('https://h/r/%E0%A4%A').room).toBe('E0A4A');
});

it('a link alone opens neither camera nor microphone', () => {
  expect(mayOpenUnasked('meet.example', false)).toBe(false);
  expect(mayOpenUnasked('localhost.example', false)).toBe(false);
  expect(mayOpenUnasked('meet.example', true)).toBe(true);
  for (const host of ['localhost', '127.0.0.1', '[::1]']) expect(mayOpenUnasked(host, false)).toBe(true);
});

it('only a call of a moment ago is gone back to without a question', () => {
  const call = { room: 'r', name: 'n', token: 't', microphone: true, camera: true, resumeSeconds: 30, at: 1_000_000 };
  expect(isFresh(call, 1_059_000)).toBe(true);
  expect(isFresh(call, 1_060_000)).toBe(false);
  expect(isFresh(call, 900_000)).toBe(false);
  expect(isFresh({ ...call, at: undefined as never }, 1_000_000)).toBe(false);
});

it('links lead back to the room', () => {
  expect(roomAddress('https://h/?room=a&codec=vp9#x', 'b')).toBe('https://h/r/b?codec=vp9');
  expect(inviteLink('https://h/r/b?codec=vp9', 'b')).toBe('https://h/r/b');
  expect(doctorAddress('Наша кухня', 'a.b.c')).toBe('/doctor?room=%D0%9D%D0%B0%D1%88%D0%B0+%D0%BA%D1%83%D1%85%D0%BD%D1%8F#token=a.b.c');
  expect(doctorAddress('', undefined)).toBe('/doctor');
  expect(readOptions(`https://h${doctorAddress('b', 'a.b.c')}`)).toMatchObject({ room: 'b', accessToken: 'a.b.c' });
  expect(cleanRoom(' my room/../x ')).toBe('my-room..x');
  expect(cleanRoom('r'.repeat(200))).toBe('r'.repeat(128));
  expect(cleanRoom('ж'.repeat(200))).toBe('ж'.repeat(64));
  expect(cleanRoom(`${'r'.repeat(127)}ж`)).toBe('r'.repeat(127));
  expect(readOptions(roomAddress('https://h/', cleanRoom('Наша кухня'))).room).toBe('Наша-кухня');
  for (let round = 0; round < 50; round++) expect(cleanRoom(randomRoom())).toMatch(/^[a-z]{3}-[a-z]{3}-[a-z]{3}$/);
});
