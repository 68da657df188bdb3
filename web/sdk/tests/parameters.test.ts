import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SenderParameters } from '../src/parameters';
import type { Layer } from '../src/protocol';
import { FakeSender, turns } from './fakes';

const only = (...wanted: string[]): Layer[] => ['q', 'h', 'f'].map((rid) => ({ rid, active: wanted.includes(rid) }));
let sender: FakeSender;
let parameters: SenderParameters;

beforeEach(() => {
  sender = new FakeSender([{ rid: 'q', maxBitrate: 150_000 }, { rid: 'h' }, { rid: 'f' }]);
  parameters = new SenderParameters(sender);
});

afterEach(() => vi.restoreAllMocks());

describe('layers', () => {
  it('are sent or not, each by its name, and nothing else of them changes', async () => {
    parameters.setLayers(only('q', 'f').reverse());
    await turns();
    expect(sender.active).toEqual([true, false, true]);
    expect(sender.encodings[0]).toEqual({ rid: 'q', maxBitrate: 150_000, active: true });
  });

  it('that nobody names stay as they are', async () => {
    parameters.setLayers([{ rid: 'h', active: false }, { rid: 'other', active: false }, { active: false }]);
    await turns();
    expect(sender.active).toEqual([true, false, true]);
  });

  it('may all be off, and come back', async () => {
    parameters.setLayers(only());
    await turns();
    expect(sender.active).toEqual([false, false, false]);
    parameters.setLayers(only('q', 'h', 'f'));
    await turns();
    expect(sender.active).toEqual([true, true, true]);
  });

  it('of a track without simulcast have no name', async () => {
    sender = new FakeSender([{ maxBitrate: 1 }]);
    new SenderParameters(sender).setLayers([{ active: false }]);
    await turns();
    expect(sender.active).toEqual([false]);
  });

  it('are not written again when they are so already', async () => {
    parameters.setLayers(only('q', 'h', 'f'));
    parameters.apply();
    await turns();
    expect(sender.written).toEqual([]);
  });

  it('that changed many times while the browser was busy are written once more, as they are last', async () => {
    let finish = () => {};
    sender.slow = new Promise((resolve) => (finish = resolve));
    parameters.setLayers(only('q'));
    await turns();
    for (const rid of ['h', 'f', 'h', 'q']) parameters.setLayers(only(rid));
    parameters.setLayers(only('f'));
    finish();
    await turns();
    expect(sender.active).toEqual([false, false, true]);
    expect(sender.written).toHaveLength(2);
  });

  it('that are refused are tried again with fresh parameters, once', async () => {
    const warned = vi.spyOn(console, 'warn').mockImplementation(() => {});
    sender.refusals = 1;
    parameters.setLayers(only('q'));
    await turns();
    expect(sender.active).toEqual([true, false, false]);
    expect(warned).not.toHaveBeenCalled();

    sender.refusals = 2;
    parameters.setLayers(only('h'));
    await turns();
    expect(sender.active).toEqual([true, false, false]);
    expect(sender.refusals).toBe(0);
    expect(warned).toHaveBeenCalledTimes(1);
    // The next occasion is another try.
    parameters.apply();
    await turns();
    expect(sender.active).toEqual([false, true, false]);
  });

  describe('that are refused twice', () => {
    let warned: number;

    beforeEach(() => {
      vi.useFakeTimers();
      warned = 0;
      vi.spyOn(console, 'warn').mockImplementation(() => void (warned += 1));
    });

    afterEach(() => vi.useRealTimers());

    async function refuse(refusals: number): Promise<void> {
      sender.refusals = refusals;
      parameters.setLayers(only('h'));
      await turns();
    }

    it('are tried again after a second, and then after more, until they are taken', async () => {
      await refuse(4);
      await vi.advanceTimersByTimeAsync(999);
      expect(sender.refusals).toBe(2);
      await vi.advanceTimersByTimeAsync(1);
      expect(sender.refusals).toBe(0);
      await vi.advanceTimersByTimeAsync(1_999);
      expect(sender.active).toEqual([true, true, true]);
      await vi.advanceTimersByTimeAsync(1);
      expect(sender.active).toEqual([false, true, false]);
      expect(vi.getTimerCount()).toBe(0);
      // From the beginning again.
      await refuse(0);
      sender.refusals = 2;
      parameters.setLayers(only('q'));
      await vi.advanceTimersByTimeAsync(1_000);
      expect(sender.active).toEqual([true, false, false]);
    });

    it('are given up in the end, until something else is wished', async () => {
      await refuse(1_000);
      await vi.advanceTimersByTimeAsync(600_000);
      expect(warned).toBe(6);
      await refuse(2);
      await vi.advanceTimersByTimeAsync(1_000);
      expect(sender.active).toEqual([false, true, false]);
    });

    it('are not tried again where the wish has come true, or was replaced, or the track ended', async () => {
      await refuse(2);
      sender.encodings = sender.encodings.map((encoding) => ({ ...encoding, active: encoding.rid === 'h' }));
      await vi.advanceTimersByTimeAsync(600_000);
      expect(sender.written).toEqual([]);

      parameters.setLayers(only('f'));
      await turns();
      await refuse(2);
      parameters.setLayers(only('q'));
      await vi.advanceTimersByTimeAsync(600_000);
      expect(sender.active).toEqual([true, false, false]);
      expect(sender.written).toHaveLength(2);

      await refuse(2);
      parameters.close();
      await vi.advanceTimersByTimeAsync(600_000);
      expect(sender.active).toEqual([true, false, false]);
      expect(vi.getTimerCount()).toBe(0);
    });
  });

  it('that the browser has lost, as with a negotiation, are set again', async () => {
    parameters.setLayers(only('q'));
    await turns();
    for (const encoding of sender.encodings) encoding.active = true;
    parameters.apply();
    await turns();
    expect(sender.active).toEqual([true, false, false]);
  });
});

it('changes of different things do not undo each other', async () => {
  void parameters.keepSharp();
  parameters.setLayers(only('q'));
  void parameters.keepSharp();
  await turns();
  expect(sender.active).toEqual([true, false, false]);
  expect(sender.degradationPreference).toBe('maintain-resolution');
  expect(sender.written).toHaveLength(3);
});
