/** The page's beginning. */

import { effect } from '@preact/signals';
import { render } from 'preact';
import { followLanguage, t } from './i18n';
import { CallPage } from './pages/call';
import { JoinPage } from './pages/join';
import { LeftPage } from './pages/left';
import { WaitingPage } from './pages/waiting';
import { Toasts } from './parts/toasts';
import { begin, page, roomName } from './session';
import './style/base.css';
import './style/join.css';
import './style/call.css';

function App() {
  return (
    <>
      {page.value === 'join' && <JoinPage />}
      {page.value === 'waiting' && <WaitingPage />}
      {page.value === 'call' && <CallPage />}
      {page.value === 'left' && <LeftPage />}
      <Toasts />
    </>
  );
}

followLanguage();
effect(() => {
  const before = { join: '', left: '', waiting: `${t('waiting.title')} · `, call: `${roomName.value} · ` }[page.value];
  document.title = `${before}Veche`;
});
begin();
render(<App />, document.getElementById('app') as HTMLElement);
