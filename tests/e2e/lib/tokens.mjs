// Tokens as an operator's own service would make them: HS256, good for an hour.

import { createHmac } from 'node:crypto';

const SECRET = 'a secret of the browser tests, long enough';

/** The settings of a server that knows these tokens; who shows none is a guest, who moderates nothing. */
export const access = { secrets: [SECRET] };

/** What somebody needs to take part in rooms; `moderate` is one more. */
export const TAKE_PART = ['join', 'publish', 'subscribe', 'send', 'upload'];

/** A token for a user, with these actions in all rooms, or in one. */
export function token(user, actions = TAKE_PART, room = '*') {
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const text = [
    { alg: 'HS256', typ: 'JWT' },
    { sub: user, name: user, exp, veche: { rooms: { [room]: actions } } },
  ].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

/** The option of a page whose person moderates. */
export const moderator = (user) => ({ token: token(user, [...TAKE_PART, 'moderate']) });
