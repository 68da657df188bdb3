import { afterEach, expect, it, vi } from 'vitest';
import { chooseCodecs, encodingsFor, isScalabilityMode } from '../src/codecs';
import { isAtOrAfter, whenFrame } from '../src/frames';
import { planSlots, SlotTable } from '../src/slots';
import { StatsReader } from '../src/stats';

afterEach(() => vi.useRealTimers());

it('slots are planned with a spare, in batches, and stay below a hundred', () => {
  const none = { audio: 0, video: 0 };
  expect(planSlots(none, none)).toEqual({ audio: 4, video: 4 });
  expect(planSlots({ audio: 3, video: 3 }, none)).toEqual({ audio: 4, video: 4 });
  expect(planSlots({ audio: 4, video: 4 }, none)).toEqual({ audio: 8, video: 8 });
  expect(planSlots({ audio: 9, video: 9 }, none)).toEqual({ audio: 11, video: 12 });
  const most = planSlots({ audio: 900, video: 900 }, none);
  expect(most.audio + most.video).toBeLessThan(90);
  expect(planSlots(none, most)).toEqual(most);
});

it('a switch is awaited for a while only, so that a wrapped timestamp never hides a picture', () => {
  let now = 0;
  const table = new SlotTable(() => now);
  table.apply([{ mid: '1', peer_id: 'a', track_id: 't', rtp_timestamp: 5 }]);
  const content = table.carrying('t')!;
  expect(table.awaited(content)).toBe(5);
  now = 3_001;
  expect(table.awaited(content)).toBeUndefined();
});

it('what a slot shows already is not awaited again when it is told again', () => {
  let now = 0;
  const table = new SlotTable(() => now);
  table.apply([{ mid: '1', peer_id: 'a', track_id: 't', rtp_timestamp: 5 }]);
  now = 4_000;
  table.apply([{ mid: '1', peer_id: 'a', track_id: 't', rtp_timestamp: 9_000 }]);
  expect(table.awaited(table.carrying('t')!)).toBeUndefined();
  table.apply([{ mid: '1', reason: 'gone' }]);
  table.apply([{ mid: '1', peer_id: 'a', track_id: 't', rtp_timestamp: 9_500 }]);
  expect(table.awaited(table.carrying('t')!)).toBe(9_500);
});

it('timestamps are compared as they wrap', () => {
  expect(isAtOrAfter(5, 5)).toBe(true);
  expect(isAtOrAfter(4, 5)).toBe(false);
  expect(isAtOrAfter(3, 4_294_967_290)).toBe(true);
  expect(isAtOrAfter(4_294_967_290, 3)).toBe(false);
});

it('a picture is shown from its own first frame', () => {
  const frames: ((now: number, metadata: { rtpTimestamp?: number }) => void)[] = [];
  const video = { requestVideoFrameCallback: (callback: (typeof frames)[0]) => frames.push(callback) };
  const shown = vi.fn();
  whenFrame(video, 1_000, shown);
  frames[0]?.(0, { rtpTimestamp: 900 });
  expect(shown).not.toHaveBeenCalled();
  frames[1]?.(0, { rtpTimestamp: 1_000 });
  expect(shown).toHaveBeenCalledTimes(1);
});

it('a picture is shown in the end even if no frame says so', () => {
  vi.useFakeTimers();
  const shown = vi.fn();
  whenFrame({ requestVideoFrameCallback: () => 1 }, 1_000, shown);
  const cancelled = vi.fn();
  whenFrame({}, 1_000, cancelled)();
  vi.advanceTimersByTime(1_600);
  expect(shown).toHaveBeenCalledTimes(1);
  expect(cancelled).not.toHaveBeenCalled();
});

it('codecs: the preferred first, one profile each, nothing that is not used', () => {
  const codec = (mimeType: string, sdpFmtpLine?: string) => ({ mimeType, clockRate: 90_000, sdpFmtpLine });
  const all = [
    codec('video/AV1', 'level-idx=5;profile=0'),
    codec('video/rtx'),
    codec('video/H264', 'packetization-mode=0;profile-level-id=42e01f'),
    codec('video/H264', 'packetization-mode=1;profile-level-id=42e01f'),
    codec('video/H264', 'packetization-mode=1;profile-level-id=640032'),
    codec('video/VP9', 'profile-id=2'),
    codec('video/VP9', 'profile-id=0'),
    codec('video/ulpfec'),
    codec('video/VP8'),
  ];
  const names = (preferred?: 'av1') => chooseCodecs('video', all, preferred).map(({ mimeType }) => mimeType);
  expect(names()).toEqual(['video/VP8', 'video/H264', 'video/VP9', 'video/AV1', 'video/rtx']);
  expect(names('av1')[0]).toBe('video/AV1');
  expect(chooseCodecs('video', [codec('video/rtx')])).toEqual([]);
});

it('cameras: three sizes where that suits the codec, or as it is wished', () => {
  const sizes = (...options: Parameters<typeof encodingsFor>[1][]) =>
    options.map((one) => encodingsFor('camera', one).length);
  expect(sizes({}, { codec: 'h264' }, { codec: 'vp9' }, { codec: 'av1' })).toEqual([3, 3, 1, 1]);
  expect(sizes({ simulcast: false }, { codec: 'vp9', simulcast: true })).toEqual([1, 3]);
  // Sizes within the stream leave no place for others beside it; frame rates within it do.
  expect(encodingsFor('camera', { codec: 'vp9', svc: 'L3T3_KEY', simulcast: true })).toEqual([
    { maxBitrate: 1_700_000, scalabilityMode: 'L3T3_KEY' },
  ]);
  expect(encodingsFor('camera', { svc: 'L3T3_KEY' })).toEqual(encodingsFor('camera', {}));
  expect(encodingsFor('camera', { svc: 'L1T3' })).toHaveLength(3);
  expect(encodingsFor('camera', { svc: 'L1T3' })[0]).toMatchObject({ rid: 'q', scalabilityMode: 'L1T3' });
  expect(encodingsFor('screen', { svc: 'L3T3_KEY' })[0]).not.toHaveProperty('scalabilityMode');
  expect(['L3T3_KEY', 'L1T3', 'L2T1', 'L1T3_KEY', 'L4T1', 'l3t3', ''].filter(isScalabilityMode)).toEqual([
    'L3T3_KEY', 'L1T3', 'L2T1',
  ]);
});

it('statistics: rates and losses since the summary before', () => {
  const reader = new StatsReader();
  const inbound = (bytes: number, packets: number, lost: number) => ({
    type: 'inbound-rtp', bytesReceived: bytes, packetsReceived: packets, packetsLost: lost, freezeCount: 1,
  });
  reader.summarize([inbound(1_000, 10, 0)], 1_000);
  const second = reader.summarize([inbound(2_000, 19, 1)], 2_000);
  expect(second).toMatchObject({ receiveBitrate: 8_000, lossReceived: 0.1, freezes: 1 });
});
