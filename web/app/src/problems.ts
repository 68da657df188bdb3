/** What went wrong, in plain words. */

import type { ErrorBody, LocalMedia, MediaProblem, TrackSource } from '@veche/sdk';
import { isKey, t } from './i18n';

/** Whoever is sent out may be told a moderator's reason. */
const SENT_OUT = new Set(['removed', 'banned']);

/** Why the room cannot be entered, or was left. */
export function explainClose({ code, message }: ErrorBody): string {
  const key = `error.${code}`;
  const reason = SENT_OUT.has(code) ? reasonIn(message) : '';
  if (reason && isKey(key)) return `${t(key)} ${t('error.reason', { reason })}`;
  return isKey(key) ? t(key, { message }) : t('error.other', { message: message || code });
}

/** What people have decided, or will decide. */
const DECIDED = new Set([...SENT_OUT, 'not_admitted', 'room_full', 'room_locked', 'room_deleted', 'replaced']);

/** Whether looking for a fault in devices and networks may help. */
export function mayBeTechnical({ code }: ErrorBody): boolean {
  return !DECIDED.has(code);
}

/** The server writes what has happened, and the moderator's own words after a colon. */
function reasonIn(message: string): string {
  return /^[^:]*: (.+)$/s.exec(message)?.[1] ?? '';
}

/** Why a source cannot be had. */
export function explainMedia(source: TrackSource | 'both', problem: MediaProblem): string {
  if (problem === 'insecure') return t('problem.insecure');
  const named = source === 'screen-audio' ? 'screen' : source;
  for (const key of [`problem.${named}.${problem}`, `problem.${named}.other`]) if (isKey(key)) return t(key);
  return t('problem.camera.other');
}

/** The problems of microphone and camera, told once where they are the same. */
export function mediaProblems(media: LocalMedia): string[] {
  const microphone = media.get('microphone').problem;
  const camera = media.get('camera').problem;
  if (microphone && microphone === camera && (microphone === 'denied' || microphone === 'missing')) {
    return [explainMedia('both', microphone)];
  }
  const texts = [microphone && explainMedia('microphone', microphone), camera && explainMedia('camera', camera)];
  return [...new Set(texts.filter((text) => text !== undefined))];
}
