import { beforeEach, expect, it } from 'vitest';
import type { Slot } from '../src/protocol';
import { Roster } from '../src/roster';
import { SlotTable } from '../src/slots';
import type { ReceivingSlot } from '../src/transport';

const stream = {} as MediaStream;
const carried: Slot = { mid: '3', peer_id: 'a', track_id: 'v', rtp_timestamp: 5 };
let roster: Roster;
let table: SlotTable;

beforeEach(() => {
  roster = new Roster();
  roster.put({
    peer_id: 'a',
    name: 'Ann',
    connected: true,
    quality: 'good',
    tracks: [{ track_id: 'v', mid: '0', kind: 'video', source: 'camera', muted: false }],
  });
  table = new SlotTable(() => 0);
});

function picture() {
  return roster.view(table, (mid) => ({ mid, stream }) as ReceivingSlot)[0]?.tracks[0];
}

it('a picture is awaited by its timestamp, but not while its track is paused', () => {
  table.apply([carried]);
  expect(picture()?.slot).toEqual({ mid: '3', stream, rtpTimestamp: 5 });
  table.apply([{ ...carried, reason: 'bandwidth' }]);
  expect(picture()).toMatchObject({ paused: 'bandwidth', slot: { mid: '3', stream } });
  expect(picture()?.slot?.rtpTimestamp).toBeUndefined();
  table.apply([{ ...carried, rtp_timestamp: 9 }]);
  expect(picture()?.slot?.rtpTimestamp).toBe(9);
});

it('a picture that never came keeps no slot while its track is paused', () => {
  table.apply([{ ...carried, reason: 'bandwidth' }]);
  expect(picture()).toMatchObject({ paused: 'bandwidth', reason: 'bandwidth' });
  expect(picture()?.slot).toBeUndefined();
});
