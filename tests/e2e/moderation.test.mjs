// Moderators and those they moderate: what each of them sees. The server knows tokens; who has none is a guest.

import assert from 'node:assert/strict';
import { stage } from './lib/call.mjs';
import { allMeet } from './lib/participant.mjs';
import { access, moderator, token } from './lib/tokens.mjs';
import { until } from './lib/until.mjs';

/** Little to encode: here it is not about pictures. */
const SMALL = { camera: { width: 320, height: 180, frameRate: 8 } };
/** So is one size of it. */
const PLAIN = { simulcast: '0' };

/** Waits until a page says this somewhere. */
async function reads(person, pattern, within = 10_000) {
  await until(
    `${person.name} reads ${pattern}`,
    async () => {
      const text = await person.text();
      return { ok: pattern.test(text), text };
    },
    { within },
  );
}

/** Somebody in the call. */
const joined = (call, name, options = {}) => call.joined(name, { ...PLAIN, ...options }, SMALL);

/** Waits until all see each other's tiles. */
const allAreHere = (people) =>
  Promise.all(people.map((one) => one.seesExactly(people.filter((other) => other !== one).map(({ name }) => name))));

/** Opens the room's page and clicks “Join”. */
async function knocks(call, person, options = {}) {
  await person.opens(call.server.url, call.room, { ...PLAIN, ...options });
  await person.click('join-button');
}

/** Chooses from a person's menu in the list of people. */
async function chooses(person, name, item) {
  if (!(await person.exists('[data-testid=people-panel]'))) await person.click('people-button');
  await person.page.click(`[data-testid=person][data-name=${name}] [data-testid=person-menu]`);
  await person.click(item);
}

/** Sends somebody out, with a reason. */
async function sendsOut(person, name, item, reason) {
  await chooses(person, name, item);
  await person.page.fill('[data-testid=reason-input]', reason);
  await person.click('confirm-button');
}

const isDisabled = (person, testid) =>
  person.evaluate((testid) => document.querySelector(`[data-testid=${testid}]`).ariaDisabled === 'true', testid);

stage({ settings: { access } }, (story) => {
  story('a waiting room: one is let in, another is turned away', async (call) => {
    const ann = await joined(call, 'Ann', moderator('ann'));
    await ann.click('people-button');
    await ann.click('waiting-room-switch');
    await until('the waiting room is on', () => ann.page.isChecked('[data-testid=waiting-room-switch]'));
    await ann.click('people-button');

    const bob = await call.person('Bob', SMALL);
    await knocks(call, bob);
    await reads(bob, /Waiting to be let in/);
    assert.match(await bob.text(), /The host of .* will let you in/);
    await reads(ann, /Bob wants to come in/);
    await until('the badge counts Bob', async () => (await ann.text('[data-testid=waiting-count]')) === '1');
    assert.deepEqual(await ann.firstPictures(), [], 'who waits is in the call already');

    await ann.click('toast-action');
    await ann.page.click('[data-testid=waiting-person][data-name=Bob] [data-testid=admit-button]');
    await bob.isInCall();
    await allMeet([ann, bob]);
    await until('the badge is gone', async () => !(await ann.exists('[data-testid=waiting-count]')));
    assert.ok(!(await bob.exists('[data-testid=person-menu]')), 'a guest is offered to moderate');

    const cid = await call.person('Cid', SMALL);
    await knocks(call, cid);
    await ann.page.click('[data-testid=waiting-person][data-name=Cid] [data-testid=deny-button]');
    await until('Cid is told', () => cid.exists('[data-testid=join-error][data-code=not_admitted]'));
    assert.match(await cid.text('[data-testid=join-error]'), /You were not let in/);

    // Whoever does not want to wait any longer is waited for no longer.
    await cid.click('join-button');
    await until('Cid waits', () => cid.exists('[data-testid=waiting]'));
    await until('Ann sees Cid wait', () => ann.exists('[data-testid=waiting-person][data-name=Cid]'));
    await cid.click('stop-waiting-button');
    await until('Cid is back at the beginning', () => cid.exists('[data-testid=join-button]'));
    assert.ok(!(await cid.exists('[data-testid=join-error]')), 'leaving is told as an error');
    await until('nobody waits', async () => !(await ann.exists('[data-testid=waiting-person]')));
    await ann.seesExactly(['Bob']);
  });

  story('who is muted is told, is silent, and can speak again', async (call) => {
    const [ann, bob] = [await joined(call, 'Ann', moderator('ann')), await joined(call, 'Bob')];
    await allMeet([ann, bob]);
    await chooses(ann, 'Bob', 'mute-microphone');
    await until('Ann sees that Bob is muted', async () => (await ann.tile('Bob')).muted);
    await reads(bob, /Your microphone was muted by Ann/);
    await until('Bob sees it on the button', async () => (await bob.evaluate(() => document.querySelector('[data-testid=mic-button]').dataset.on)) === 'false');
    await chooses(ann, 'Bob', 'mute-camera');
    await until('Bob has no picture any more', async () => !(await ann.tile('Bob')).hasVideo);
    await reads(bob, /Your camera was switched off by Ann/);
    await bob.click('mic-button');
    await until('Ann sees that Bob speaks again', async () => !(await ann.tile('Bob')).muted);
    await ann.hears('Bob');
    await bob.click('camera-button');
    await ann.seesMoving('Bob');
  });

  story('what is taken cannot be switched on, and says why', async (call) => {
    const [ann, bob] = [await joined(call, 'Ann', moderator('ann')), await joined(call, 'Bob')];
    await allMeet([ann, bob]);
    const grant = (grants) =>
      ann.evaluate(
        ([peerId, grants]) => window.veche.moderation.grant(peerId, grants),
        [bobId, grants],
      );
    const bobId = await bob.peerId();
    await grant(['join', 'subscribe', 'publish_video', 'send']);
    await until('Ann sees that Bob is muted', async () => (await ann.tile('Bob')).muted);
    await reads(bob, /A moderator has taken from you: microphone, sharing the screen, writing messages/);
    assert.ok(await isDisabled(bob, 'mic-button'), 'the microphone can be switched on');
    assert.ok(!(await isDisabled(bob, 'camera-button')), 'the camera cannot be switched off');
    await bob.page.keyboard.press('m');
    await reads(bob, /You may not speak in this room/);
    assert.ok((await ann.tile('Bob')).muted, 'Bob is heard');
    await ann.seesMoving('Bob');
    await bob.click('chat-button');
    await reads(bob, /You may read, but not write/);

    await grant(['join', 'subscribe', 'publish_audio', 'publish_video', 'publish_data', 'send']);
    await reads(bob, /You are allowed now: microphone, writing messages/);
    assert.ok(!(await isDisabled(bob, 'mic-button')), 'the microphone stays forbidden');
    await bob.click('mic-button');
    await ann.hears('Bob');
  });

  story('who is removed is told why, and comes back', async (call) => {
    const [ann, bob] = [await joined(call, 'Ann', moderator('ann')), await joined(call, 'Bob')];
    await allAreHere([ann, bob]);
    await sendsOut(ann, 'Bob', 'remove', 'a break of ten minutes');
    await until('Bob sees the last page', () => bob.exists('[data-testid=left][data-code=removed]'));
    assert.match(await bob.text('[data-testid=left-reason]'), /A moderator has removed you.*a break of ten minutes/);
    await ann.seesExactly([]);
    await reads(ann, /A moderator removed Bob/);
    await bob.click('rejoin-button');
    await bob.isInCall();
    await allMeet([ann, bob]);
  });

  story('a ban holds until it is lifted, for users and for guests', async (call) => {
    const ann = await joined(call, 'Ann', moderator('ann'));
    const bob = await joined(call, 'Bob', { token: token('bob') });
    const cid = await joined(call, 'Cid');
    await allAreHere([ann, bob, cid]);
    for (const one of [bob, cid]) {
      await sendsOut(ann, one.name, 'ban', '');
      await until(`${one.name} sees the last page`, () => one.exists('[data-testid=left][data-code=removed]'));
      await one.click('rejoin-button');
      await until(`${one.name} is told`, () => one.exists('[data-testid=join-error][data-code=banned]'));
    }
    await ann.seesExactly([]);
    // A user is known in any window.
    const again = await call.person('Bobby', SMALL);
    await knocks(call, again, { token: token('bob') });
    await until('Bob is told again', () => again.exists('[data-testid=join-error][data-code=banned]'));
    for (const one of [bob, cid]) {
      await ann.page.click(`[data-testid=banned-person][data-name=${one.name}] [data-testid=unban-button]`);
      await until('the ban is gone', async () => !(await ann.exists(`[data-testid=banned-person][data-name=${one.name}]`)));
      await one.click('join-button');
      await one.isInCall();
    }
    await allAreHere([ann, bob, cid]);
  });

  story('a locked room takes in nobody new', async (call) => {
    const [ann, bob] = [await joined(call, 'Ann', moderator('ann')), await joined(call, 'Bob')];
    await allAreHere([ann, bob]);
    await ann.click('people-button');
    await ann.click('lock-switch');
    await until('Bob sees the lock', () => bob.exists('[data-testid=lock-mark]'));
    await reads(bob, /The room is locked now/);
    const cid = await call.person('Cid', SMALL);
    await knocks(call, cid);
    await until('Cid is told', () => cid.exists('[data-testid=join-error][data-code=room_locked]'));
    assert.match(await cid.text('[data-testid=join-error]'), /The room is locked\. Ask somebody/);
    // Who has a place comes back to it.
    await bob.reload();
    await ann.seesMoving('Bob');
    await ann.click('lock-switch');
    await until('Bob sees no lock', async () => !(await bob.exists('[data-testid=lock-mark]')));
    await cid.click('join-button');
    await cid.isInCall();
    await ann.seesExactly(['Bob', 'Cid']);
  });

  story('moderating by keyboard alone', async (call) => {
    const [ann, bob] = [await joined(call, 'Ann', moderator('ann')), await joined(call, 'Bob')];
    await allAreHere([ann, bob]);
    const { keyboard } = ann.page;
    const focused = () => ann.evaluate(() => document.activeElement?.dataset.testid ?? '');
    await keyboard.press('u');
    await until('the list has the focus', async () => (await focused()) === 'people-panel');
    await keyboard.press('Tab');
    await keyboard.press('Tab');
    assert.equal(await focused(), 'person-menu');
    await keyboard.press('Enter');
    await until('the menu has the focus', async () => (await focused()) === 'mute-microphone');
    await keyboard.press('ArrowUp');
    assert.equal(await focused(), 'ban');
    await keyboard.press('Escape');
    await until('the menu is closed', async () => (await focused()) === 'person-menu');
    assert.ok(await ann.exists('[data-testid=people-panel]'), 'Esc has closed the list as well');
    await keyboard.press('Enter');
    await until('the menu has the focus again', async () => (await focused()) === 'mute-microphone');
    await keyboard.press('Enter');
    await until('Ann sees that Bob is muted', async () => (await ann.tile('Bob')).muted);
    await keyboard.press('Escape');
    await until('the list is closed', async () => !(await ann.exists('[data-testid=people-panel]')));
  });
});
