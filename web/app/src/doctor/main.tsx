/** `/doctor`: the page for whoever cannot get in. `?room=` and `#token=` say for which room. */

import { effect } from '@preact/signals';
import { render } from 'preact';
import { followLanguage } from '../i18n';
import { readOptions } from '../options';
import { lineUp } from './checks';
import { DoctorPage } from './page';
import { t } from './texts';
import '../style/base.css';
import './style.css';

const { room, accessToken } = readOptions(location.href);
const visit = { origin: location.origin, room, token: accessToken };
followLanguage();
effect(() => {
  document.title = `${t('page.title')} · Veche`;
});
lineUp(visit);
render(<DoctorPage visit={visit} />, document.getElementById('app') as HTMLElement);
