/** After the call. */

import { t } from '../i18n';
import { Icon } from '../parts/icons';
import { explainClose } from '../problems';
import { ending, goHome, joining, rejoin } from '../session';

export function LeftPage() {
  const reason = ending.value;
  const byChoice = !reason || reason.code === 'left';
  return (
    <main class="left" data-testid="left" data-code={reason?.code ?? 'left'}>
      <div class="card">
        <span class="logo large">
          <Icon name="bell" size={34} />
        </span>
        <h1>{t(byChoice ? 'left.title' : 'left.ended')}</h1>
        {!byChoice && <p data-testid="left-reason">{explainClose(reason)}</p>}
        <div class="row">
          {reason?.code !== 'banned' && (
            <button type="button" class="button primary" data-testid="rejoin-button" disabled={joining.value} onClick={rejoin}>
              {t('left.rejoin')}
            </button>
          )}
          <button type="button" class="button quiet" data-testid="home-button" onClick={goHome}>
            {t('left.home')}
          </button>
        </div>
      </div>
    </main>
  );
}
