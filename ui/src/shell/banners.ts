// Decides which banners stand above a view. Pure; what a view says about itself is not said twice.
import type { IconName } from '../parts/icons';
import type { Screen } from '../state/screen';
import type { View } from '../state/route.svelte';

export type BannerKind =
  | 'unreachable'
  | 'untrusted'
  | 'not_allowed'
  | 'incompatible'
  | 'not_protected'
  | 'kill_switch'
  | 'provisional'
  | 'managed';

export interface Banner {
  kind: BannerKind;
  /** Spoken at once, interrupting what is being said: only for lost or doubtful protection. */
  loud: boolean;
  tone: 'danger' | 'wait' | 'closed' | 'plain';
  icon: IconName;
}

const banner: Record<BannerKind, Banner> = {
  unreachable: { kind: 'unreachable', loud: false, tone: 'wait', icon: 'question' },
  untrusted: { kind: 'untrusted', loud: true, tone: 'danger', icon: 'alarm' },
  not_allowed: { kind: 'not_allowed', loud: false, tone: 'wait', icon: 'key' },
  incompatible: { kind: 'incompatible', loud: false, tone: 'wait', icon: 'info' },
  not_protected: { kind: 'not_protected', loud: true, tone: 'danger', icon: 'alarm' },
  kill_switch: { kind: 'kill_switch', loud: false, tone: 'closed', icon: 'lock' },
  provisional: { kind: 'provisional', loud: false, tone: 'wait', icon: 'clock' },
  managed: { kind: 'managed', loud: false, tone: 'plain', icon: 'building' }
};

/** True when the kill switch, and not a tunnel, is what keeps traffic inside. */
export function killSwitchHolds(screen: Screen): boolean {
  return screen.protected === true && ['locked', 'blocked', 'offline', 'reconnecting'].includes(screen.kind);
}

/** The banners of a view, the most urgent first. */
export function bannersOf(screen: Screen, view: View): Banner[] {
  const shown: Banner[] = [];
  const elsewhere = view !== 'connect';
  if (screen.kind === 'not_protected') shown.push(banner.not_protected);
  if (screen.kind === 'untrusted') shown.push(banner.untrusted);
  if (elsewhere && (screen.kind === 'unreachable' || screen.kind === 'not_allowed' || screen.kind === 'incompatible')) {
    shown.push(banner[screen.kind]);
  }
  if (elsewhere && killSwitchHolds(screen)) shown.push(banner.kill_switch);
  if (screen.notes.includes('provisional')) shown.push(banner.provisional);
  // The settings say it themselves, beside what is locked.
  if (screen.managedBy !== null && view !== 'settings') shown.push(banner.managed);
  return shown;
}
