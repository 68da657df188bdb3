/** The way to the page that finds out why somebody cannot get in. */

import { t } from '../i18n';
import { doctorAddress } from '../options';
import { options, roomName } from '../session';

/** `beside`: in a tab of its own, so that the call goes on. */
export function DoctorLink({ beside = false }: { beside?: boolean }) {
  const address = doctorAddress(roomName.value, options.accessToken);
  return (
    <a class="doctor-link" data-testid="doctor-link" href={address} target={beside ? '_blank' : undefined}>
      {t('join.doctor')}
    </a>
  );
}
