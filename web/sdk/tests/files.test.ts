import { describe, expect, it, vi } from 'vitest';
import type { Channel } from '../src/data';
import { Emitter } from '../src/emitter';
import { FileSharing, type FileState, type FileTransfer } from '../src/files';

type Data = string | Uint8Array;

/** A room of channels with the same label: what one sends, the others get, in order and a turn later. */
class Hub {
  readonly members = new Map<string, Member>();
  /** Bytes that were sent to somebody and not yet delivered to them. */
  inFlight = 0;
  mostInFlight = 0;

  join(peerId: string): { sharing: FileSharing; member: Member } {
    const member = new Member(this, peerId);
    this.members.set(peerId, member);
    return { sharing: new FileSharing(member as unknown as Channel), member };
  }
}

class Member extends Emitter<{ message: { from: string; data: Data }; open: void; closed: { reason: string } }> {
  readonly hub: Hub;
  readonly peerId: string;
  isOpen = true;
  /** Holds what arrives back, until it is resolved. */
  held: Promise<void> | undefined;
  spoil = false;
  #queue: Promise<void> = Promise.resolve();

  constructor(hub: Hub, peerId: string) {
    super();
    this.hub = hub;
    this.peerId = peerId;
  }

  async send(data: Data, { to = '' } = {}): Promise<void> {
    if (!this.isOpen) throw new Error('not open');
    for (const member of this.hub.members.values()) {
      if (member !== this && (to === '' || to === member.peerId)) member.deliver(this.peerId, data);
    }
  }

  deliver(from: string, data: Data): void {
    const size = data.length;
    this.hub.inFlight += size;
    this.hub.mostInFlight = Math.max(this.hub.mostInFlight, this.hub.inFlight);
    this.#queue = this.#queue.then(async () => {
      await this.held;
      this.hub.inFlight -= size;
      if (!this.isOpen) return;
      const spoiled = this.spoil && typeof data !== 'string' ? data.map((byte, at) => (at === 30 ? byte ^ 1 : byte)) : data;
      this.emit('message', { from, data: spoiled });
    });
  }

  reopen(): void {
    this.isOpen = true;
    this.emit('open', undefined);
  }
}

const content = (length: number) => Uint8Array.from({ length }, (_, index) => (index * 31 + (index >> 8)) & 255);

/** Compares without printing megabytes. */
async function isContent(blob: Blob | undefined, length: number): Promise<boolean> {
  const expected = content(length);
  const bytes = new Uint8Array((await blob?.arrayBuffer()) ?? []);
  return bytes.length === length && bytes.every((byte, index) => byte === expected[index]);
}

function until(sharing: FileSharing, state: FileState): Promise<FileTransfer> {
  return new Promise((resolve) => {
    sharing.on('change', (file) => file.state === state && resolve(file));
  });
}

const acceptAll = (sharing: FileSharing) => sharing.on('offer', (file) => queueMicrotask(() => sharing.accept(file.id)));

describe('a file', () => {
  it.each([0, 1, 3_000_000])('of %i bytes arrives as it was', async (length) => {
    const hub = new Hub();
    const ann = hub.join('ann').sharing;
    const bob = hub.join('bob').sharing;
    acceptAll(bob);
    const got = until(bob, 'done');
    const sent = until(ann, 'done');
    await ann.send({ blob: new Blob([content(length)], { type: 'text/x' }), name: 'a/../b\u202e\u200b.txt' });
    const { blob, name, mime, peerId } = await got;
    expect(blob?.type).toBe('application/octet-stream');
    expect({ name, mime, peerId }).toEqual({ name: 'a_.._b.txt', mime: 'text/x', peerId: 'ann' });
    expect(await isContent(blob, length)).toBe(true);
    expect((await sent).receivers).toEqual({ accepted: 1, done: 1 });
  });

  it('to a slow receiver keeps to the window, and does not hold up the fast one', async () => {
    const hub = new Hub();
    const ann = hub.join('ann').sharing;
    const fast = hub.join('fast').sharing;
    const slow = hub.join('slow');
    acceptAll(fast);
    acceptAll(slow.sharing);
    let letGo = () => {};
    let first = true;
    slow.sharing.on('change', (file) => {
      if (first && file.bytes > 0) {
        first = false;
        slow.member.held = new Promise((resolve) => (letGo = resolve));
      }
    });
    const slowDone = until(slow.sharing, 'done');
    const fastDone = until(fast, 'done');
    await ann.send({ blob: new Blob([content(4_000_000)]), name: 'x' });
    await fastDone;
    expect(slow.sharing.transfers[0]?.state).toBe('active');
    expect(ann.transfers[0]?.receivers.accepted).toBe(2);
    expect(hub.inFlight).toBeLessThan(1_200_000);
    expect(hub.mostInFlight).toBeLessThan(2_400_000);
    slow.member.held = undefined;
    letGo();
    expect((await slowDone).bytes).toBe(4_000_000);
  });

  it('goes on from where it was after the channel was lost', async () => {
    const hub = new Hub();
    const ann = hub.join('ann').sharing;
    const bob = hub.join('bob');
    acceptAll(bob.sharing);
    const done = until(bob.sharing, 'done');
    let broken = false;
    bob.sharing.on('change', (file) => {
      if (broken || file.bytes < 500_000) return;
      broken = true;
      bob.member.isOpen = false;
      setTimeout(() => bob.member.reopen(), 20);
    });
    await ann.send({ blob: new Blob([content(2_000_000)]), name: 'x' });
    const { blob } = await done;
    expect(broken).toBe(true);
    expect(await isContent(blob, 2_000_000)).toBe(true);
  });

  it('goes on from where it was after the sender\'s channel was lost, though acknowledgements are lost too', async () => {
    const hub = new Hub();
    const ann = hub.join('ann');
    const bob = hub.join('bob').sharing;
    acceptAll(bob);
    const done = until(bob, 'done');
    const sent = until(ann.sharing, 'done');
    let broken = false;
    bob.on('change', (file) => {
      if (broken || file.bytes < 500_000) return;
      broken = true;
      ann.member.isOpen = false;
      setTimeout(() => ann.member.reopen(), 20);
    });
    await ann.sharing.send({ blob: new Blob([content(2_000_000)]), name: 'x' });
    expect(await isContent((await done).blob, 2_000_000)).toBe(true);
    expect((await sent).receivers).toEqual({ accepted: 1, done: 1 });
  });

  it('is asked for again when nothing comes', async () => {
    vi.useFakeTimers();
    try {
      const hub = new Hub();
      const bob = hub.join('bob').sharing;
      const { member: eve } = hub.join('eve');
      const asked: unknown[] = [];
      eve.on('message', ({ data }) => asked.push(JSON.parse(data as string)));
      acceptAll(bob);
      const id = 'a'.repeat(32);
      await eve.send(JSON.stringify({ type: 'offer', id, name: 'x', mime: '', size: 5 }));
      await vi.advanceTimersByTimeAsync(9_000);
      expect(asked).toEqual([{ type: 'accept', id, offset: 0 }]);
      await vi.advanceTimersByTimeAsync(2_000);
      expect(asked).toHaveLength(2);
      bob.close();
      await vi.advanceTimersByTimeAsync(60_000);
      expect(asked).toHaveLength(3);
      expect(asked[2]).toEqual({ type: 'cancel', id });
    } finally {
      vi.useRealTimers();
    }
  });

  it('is not sent faster for acknowledgements of what was not sent', async () => {
    const hub = new Hub();
    const ann = hub.join('ann').sharing;
    const { member: eve } = hub.join('eve');
    let got = 0;
    eve.on('message', ({ data }) => {
      if (typeof data !== 'string') got += data.length;
    });
    const { id } = await ann.send({ blob: new Blob([content(4_000_000)]), name: 'x' });
    await eve.send(JSON.stringify({ type: 'accept', id, offset: 0 }));
    for (const bytes of [4e9, -1, 1.5, '2000000', null]) await eve.send(JSON.stringify({ type: 'ack', id, bytes }));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(got).toBeLessThan(1_100_000);
    expect(ann.transfers[0]?.bytes).toBe(0);
    ann.close();
  });

  it('for everybody is offered to those who come later too', async () => {
    const hub = new Hub();
    const ann = hub.join('ann').sharing;
    const bob = hub.join('bob').sharing;
    await ann.send({ blob: new Blob([content(10)]), name: 'x' });
    await ann.send({ blob: new Blob([content(10)]), name: 'secret' }, { to: 'bob' });
    const late = hub.join('late').sharing;
    acceptAll(late);
    expect((await until(late, 'done')).name).toBe('x');
    expect(late.transfers).toHaveLength(1);
    expect(bob.transfers).toHaveLength(2);
  });

  it('that was changed on its way is not passed on', async () => {
    const hub = new Hub();
    const ann = hub.join('ann').sharing;
    const bob = hub.join('bob');
    bob.member.spoil = true;
    acceptAll(bob.sharing);
    const failed = until(bob.sharing, 'failed');
    await ann.send({ blob: new Blob([content(1_000)]), name: 'x' });
    expect((await failed).blob).toBeUndefined();
  });

  it('to one is offered to nobody else, and can be declined', async () => {
    const hub = new Hub();
    const ann = hub.join('ann').sharing;
    const bob = hub.join('bob').sharing;
    const eve = hub.join('eve').sharing;
    bob.on('offer', (file) => queueMicrotask(() => bob.decline(file.id)));
    const declined = until(ann, 'declined');
    await ann.send({ blob: new Blob([content(10)]), name: 'x' }, { to: 'bob' });
    await declined;
    expect(eve.transfers).toEqual([]);
  });

  it('whose sender leaves fails, and one that is cancelled ends on both sides', async () => {
    const hub = new Hub();
    const ann = hub.join('ann').sharing;
    const bob = hub.join('bob').sharing;
    const offered = until(bob, 'offered');
    const first = await ann.send({ blob: new Blob([content(10)]), name: 'x' });
    await offered;
    const cancelled = until(bob, 'cancelled');
    ann.cancel(first.id);
    expect((await cancelled).id).toBe(first.id);
    const again = until(bob, 'offered');
    await ann.send({ blob: new Blob([content(10)]), name: 'y' });
    await again;
    bob.forget('ann');
    expect(bob.transfers.map((file) => file.state)).toEqual(['cancelled', 'failed']);
  });

  it('offers are bounded and senseless ones ignored', async () => {
    const hub = new Hub();
    const bob = hub.join('bob').sharing;
    const { member: eve } = hub.join('eve');
    const offer = (id: string, size: unknown) => eve.send(JSON.stringify({ type: 'offer', id, name: 'x', mime: '', size }));
    for (const size of [-1, 1.5, '9', 1e30, null]) await offer('0'.repeat(32), size);
    await offer('../../etc', 5);
    for (const text of ['', 'null', '{"type":"offer"}', '{"type":3,"id":"x"}']) await eve.send(text);
    await eve.send(new Uint8Array(3));
    for (let index = 0; index < 300; index++) await offer(index.toString(16).padStart(32, '0'), 5);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(bob.transfers).toHaveLength(20);
  });

  it('on their way are not forgotten for new offers', async () => {
    const hub = new Hub();
    const bob = hub.join('bob').sharing;
    const { member: eve } = hub.join('eve');
    bob.on('offer', (file) => bob.accept(file.id));
    const offer = (index: number) => {
      const id = index.toString(16).padStart(32, '0');
      return eve.send(JSON.stringify({ type: 'offer', id, name: 'x', mime: '', size: 5 }));
    };
    for (let index = 0; index < 130; index++) await offer(index);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(bob.transfers).toHaveLength(100);
    expect(bob.transfers[0]?.id).toBe('0'.repeat(32));
    bob.cancel(bob.transfers[3]!.id);
    await offer(200);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(bob.transfers.at(-1)?.id).toBe((200).toString(16).padStart(32, '0'));
    bob.close();
    expect(bob.transfers).toEqual([]);
  });
});
