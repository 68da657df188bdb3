/** The texts of this page, in the language that the person has chosen in the client. */

import { fill, language } from '../../i18n';
import { en } from './en';
import { ru } from './ru';

export type TextKey = keyof typeof en;
export type Values = Record<string, string | number>;

export const dictionaries = { en, ru } satisfies Record<string, Record<TextKey, string>>;

/** The text for a key. */
export function t(key: TextKey, values: Values = {}): string {
  return fill(dictionaries[language.value][key], values);
}
