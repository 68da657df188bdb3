/** Short messages, and the voice of the page for those who do not see it. */

import { announcement, dismiss, toasts } from '../toasts';
import { t } from '../i18n';
import { Icon } from './icons';

export function Toasts() {
  return (
    <>
      <div class="toasts">
        {toasts.value.map(({ id, text, kind, action }) => (
          <div key={id} class={`toast ${kind}`} data-testid="toast">
            <span>{text}</span>
            {action && (
              <button
                type="button"
                class="toast-action"
                data-testid="toast-action"
                onClick={() => {
                  dismiss(id);
                  action.run();
                }}
              >
                {action.label}
              </button>
            )}
            <button type="button" class="toast-close" aria-label={t('control.close')} onClick={() => dismiss(id)}>
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
