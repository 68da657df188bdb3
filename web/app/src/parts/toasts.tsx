/** Short messages, and the voice of the page for those who do not see it. */

import { announcement, dismiss, toasts } from '../toasts';
import { t } from '../i18n';
import { Icon } from './icons';

export function Toasts() {
  return (
    <>
      <div class="toasts">
        {toasts.value.map(({ id, text, kind }) => (
          <div key={id} class={`toast ${kind}`} data-testid="toast">
            <span>{text}</span>
            <button type="button" aria-label={t('control.close')} onClick={() => dismiss(id)}>
              <Icon name="close" size={16} />
            </button>
          </div>
        ))}
      </div>
      <div class="unseen" role="status" aria-live="polite" data-testid="announcer">
        {announcement.value}
      </div>
    </>
  );
}
