/** Texts in the person's language: two dictionaries and a function are all that two languages need. */

import { computed, effect, signal } from '@preact/signals';
import { en } from './en';
import { ru } from './ru';

export type Language = 'en' | 'ru';
export type TextKey = keyof typeof en;
type Values = Record<string, string | number>;

export const LANGUAGES: { code: Language; name: string }[] = [
  { code: 'en', name: 'English' },
  { code: 'ru', name: 'Русский' },
];

const dictionaries: Record<Language, Record<TextKey, string>> = { en, ru };
const STORED = 'veche.language';

export const language = signal<Language>(initialLanguage());
const plurals = computed(() => new Intl.PluralRules(language.value));

/** Keeps the page's language attribute, and the choice for the next visit. */
export function followLanguage(): void {
  effect(() => {
    document.documentElement.lang = language.value;
  });
}

export function chooseLanguage(code: Language): void {
  language.value = code;
  try {
    localStorage.setItem(STORED, code);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

/** The text for a key. */
export function t(key: TextKey, values: Values = {}): string {
  return fill(dictionaries[language.value][key], values);
}

/** The text for a number of things. */
export function tn(stem: 'call.people' | 'file.sent' | 'waiting.count', count: number): string {
  const form = plurals.value.select(count);
  const key = `${stem}.${form}` as TextKey;
  const known = key in en ? key : (`${stem}.other` as TextKey);
  return t(known, { count });
}

/** Whether there is a text with this key; for keys made of what a server says. */
export function isKey(key: string): key is TextKey {
  return Object.hasOwn(en, key);
}

export function fill(text: string, values: Values): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

function initialLanguage(): Language {
  let stored: string | null = null;
  try {
    stored = localStorage.getItem(STORED);
  } catch {
    // No storage, no choice.
  }
  const wished = [stored, ...(globalThis.navigator?.languages ?? [])];
  for (const code of wished) {
    const short = code?.slice(0, 2);
    if (short === 'en' || short === 'ru') return short;
  }
  return 'en';
}
