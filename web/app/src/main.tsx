/** The page's beginning. */

import { effect } from '@preact/signals';
import { render } from 'preact';
import { followLanguage } from './i18n';
import { CallPage } from './pages/call';
import { JoinPage } from './pages/join';
import { LeftPage } from './pages/left';
import { Toasts } from './parts/toasts';
import { begin, page, roomName } from './session';
import './style/base.css';
import './style/join.css';
import './style/call.css';

function App() {
  return (
    <>
      {page.value === 'join' && <JoinPage />}
      {page.value === 'call' && <CallPage />}
      {page.value === 'left' && <LeftPage />}
      <Toasts />
    </>
  );
}

followLanguage();
effect(() => {
  document.title = page.value === 'call' ? `${roomName.value} · Veche` : 'Veche';
});
begin();
render(<App />, document.getElementById('app') as HTMLElement);
