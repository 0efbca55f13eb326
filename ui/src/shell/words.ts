// The words that the bridge needs for the tray and for notifications, in the language of the window.
import type { BlockReason, Destination, Words } from '../bridge/types';
import { commands } from '../bridge/commands';
import { lookup } from '../text/codes';
import { m } from '../text/messages';
import { destinationWords } from '../text/places';

/** Every reason; a test compares them with the schema. */
export const reasons: readonly BlockReason[] = [
  'offline',
  'no_provider',
  'api_unreachable',
  'logged_out',
  'credentials_rejected',
  'account_expired',
  'too_many_devices',
  'device_revoked',
  'no_server',
  'no_profile',
  'gateway_silent',
  'tunnel_device',
  'cannot_protect',
  'intent_unreadable',
  'clock_wrong',
  'internal'
];

/** The one text that means a destination, as the helper and its command line write it. */
export function destinationText(destination: Destination): string {
  switch (destination.kind) {
    case 'best':
      return 'best';
    case 'country':
      return destination.country;
    case 'city':
      return `city:${destination.city}`;
    case 'server':
      return `server:${destination.server}${destination.exit ? `/${destination.exit}` : ''}`;
    case 'profile':
      return `profile:${destination.name}`;
  }
}

/** Every word that the bridge may show outside the window, and the names of these places. */
export function outsideWords(places: readonly Destination[]): Words {
  // The bridge fills these holes itself, with names that this page does not see.
  const place = '{place}';
  const words: Words = {
    state_unknown: m.shell_tray_state_unknown(),
    state_disconnected: m.connect_state_disconnected(),
    state_locked: m.shell_tray_state_locked(),
    state_connecting: m.connect_state_connecting(),
    state_connected: m.shell_tray_state_connected({ place }),
    state_disconnecting: m.connect_state_disconnecting(),
    state_blocked: m.shell_tray_state_blocked(),
    state_unprotected: m.connect_state_not_protected(),
    connect: m.connect_action_connect(),
    disconnect: m.connect_action_disconnect(),
    best: m.connect_place_best(),
    favourites: m.shell_tray_favourites(),
    recents: m.shell_tray_recents(),
    open: m.shell_tray_open(),
    quit: m.shell_tray_quit(),
    notify_connected: m.shell_tray_state_connected({ place }),
    notify_blocked: m.shell_notify_blocked(),
    notify_blocked_body: '{reason}',
    notify_unprotected: m.shell_notify_unprotected(),
    notify_unprotected_body: m.shell_notify_unprotected_body()
  };
  for (const reason of reasons) words[`reason:${reason}`] = lookup(`codes_problem_${reason}`) ?? '';
  for (const destination of places) {
    if (destination.kind === 'best' || destination.kind === 'profile') continue;
    const { name } = destinationWords(destination);
    const key = `place:${destinationText(destination)}`;
    // A name that is only the id says nothing that the bridge does not know; a foreign key would refuse all of them.
    if (/^place:[a-z0-9:/._-]{1,120}$/i.test(key)) words[key] = name;
  }
  return words;
}

/** Tells the bridge. A place that it does not take must not cost the user's language. */
export async function tellOutside(places: readonly Destination[]): Promise<void> {
  try {
    await commands.speak(outsideWords(places));
  } catch {
    await commands.speak(outsideWords([])).catch(() => undefined);
  }
}
