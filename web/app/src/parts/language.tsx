/** The choice of language. */

import { chooseLanguage, language, LANGUAGES, t, type Language } from '../i18n';

export function LanguageChoice() {
  return (
    <label class="field">
      <span>{t('control.language')}</span>
      <select
        data-testid="language-select"
        value={language.value}
        onChange={(event) => chooseLanguage(event.currentTarget.value as Language)}
      >
        {LANGUAGES.map(({ code, name }) => (
          <option key={code} value={code} lang={code}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

/** The same in a word: the other language, one click away. */
export function LanguageSwitch() {
  const other = LANGUAGES.find(({ code }) => code !== language.value);
  if (!other) return null;
  return (
    <button
      type="button"
      class="text-button"
      lang={other.code}
      data-testid="language-switch"
      onClick={() => chooseLanguage(other.code)}
    >
      {other.name}
    </button>
  );
}
