// Decides, from the newest link alone, what the window says about protection. Pure: no other place decides that.
import type {
  AttemptStatus,
  BlockReason,
  Destination,
  Link,
  Phase,
  Place,
  Status,
  TunnelStatus
} from '../bridge/types';

/** Every state that has a screen of its own. */
export type ScreenKind =
  | 'loading'
  | 'unreachable'
  | 'untrusted'
  | 'not_allowed'
  | 'incompatible'
  | 'signed_out'
  | 'disconnected'
  | 'locked'
  | 'connecting'
  | 'reconnecting'
  | 'connected'
  | 'degraded'
  | 'disconnecting'
  | 'blocked'
  | 'offline'
  | 'not_protected';

/** How a state feels; each has a colour, an icon and a word of its own. */
export type Tone = 'unknown' | 'open' | 'safe' | 'wait' | 'closed' | 'danger';

/** The one thing to do first, and what else is possible. */
export type Action =
  | 'connect'
  | 'cancel'
  | 'disconnect'
  | 'reconnect'
  | 'sign_in'
  | 'choose_place'
  | 'manage_devices'
  | 'open_settings'
  | 'restore_network'
  | 'retry'
  | 'show_versions'
  | 'diagnose';

/** Things worth saying beside the state. */
export type Note =
  'provisional' | 'managed' | 'no_ipv6' | 'tampered' | 'list_stale' | 'no_provider' | 'kill_switch_off';

export interface Screen {
  kind: ScreenKind;
  tone: Tone;
  /** Nothing leaves outside the tunnel; null when the window cannot know. */
  protected: boolean | null;
  /** Why there is no tunnel. */
  reason: BlockReason | null;
  /** Hamn tries again by itself. */
  retrying: boolean;
  phase: Phase | null;
  attempt: AttemptStatus | null;
  destination: Destination | null;
  place: Place | null;
  tunnel: TunnelStatus | null;
  actions: Action[];
  notes: Note[];
  managedBy: string | null;
}

const nothing: Screen = {
  kind: 'loading',
  tone: 'unknown',
  protected: null,
  reason: null,
  retrying: false,
  phase: null,
  attempt: null,
  destination: null,
  place: null,
  tunnel: null,
  actions: [],
  notes: [],
  managedBy: null
};

/** What the window shows for a link. `chosen` is where "Connect" would go, when that is known. */
export function screenOf(link: Link, chosen: Destination | null = null): Screen {
  const known = link.public ? link.public.protected : null;
  switch (link.state) {
    case 'connecting':
      return nothing;
    case 'unreachable':
      return { ...nothing, kind: 'unreachable', actions: ['retry'] };
    case 'untrusted':
      return { ...nothing, kind: 'untrusted', tone: 'danger', actions: ['retry'] };
    case 'not_allowed':
      return { ...nothing, kind: 'not_allowed', protected: known, actions: ['retry'] };
    case 'incompatible':
      return { ...nothing, kind: 'incompatible', protected: known, actions: ['show_versions', 'retry'] };
    case 'up':
      return link.status ? screenOfStatus(link.status, chosen) : nothing;
  }
}

function screenOfStatus(status: Status, chosen: Destination | null): Screen {
  const tunnel = status.tunnel ?? null;
  const base: Screen = {
    ...nothing,
    protected: status.protected,
    destination: status.destination ?? null,
    tunnel,
    place: tunnel?.place ?? null,
    attempt: status.attempt ?? null,
    phase: status.attempt?.phase ?? null,
    notes: notesOf(status),
    managedBy: status.managed_by ?? null
  };
  switch (status.state) {
    case 'disconnected':
      return disconnected(status, base, chosen);
    case 'connecting':
      return connecting(status, base);
    case 'connected':
      return connected(status, base);
    case 'disconnecting':
      return { ...base, kind: 'disconnecting', tone: 'wait' };
    case 'blocked':
      return blocked(status, base);
  }
}

function disconnected(status: Status, base: Screen, chosen: Destination | null): Screen {
  // A profile needs neither an account nor a provider.
  const ownProfile = chosen?.kind === 'profile';
  const signedOut = Boolean(status.provider.url) && !status.provider.logged_in && !ownProfile;
  const actions: Action[] = signedOut
    ? ['sign_in']
    : !status.provider.url && !ownProfile
      ? ['choose_place']
      : ['connect'];
  if (status.protection.enforcing) {
    // Lockdown whose rules are not in force protects nothing.
    if (!status.protected) return { ...base, kind: 'not_protected', tone: 'danger', actions: ['diagnose', ...actions] };
    return { ...base, kind: 'locked', tone: 'closed', actions };
  }
  return { ...base, kind: signedOut ? 'signed_out' : 'disconnected', tone: 'open', actions };
}

function connecting(status: Status, base: Screen): Screen {
  if (status.protection.error) {
    return { ...base, kind: 'not_protected', tone: 'danger', actions: ['cancel', 'diagnose'] };
  }
  const again = (status.attempt?.failures ?? 0) > 0;
  return { ...base, kind: again ? 'reconnecting' : 'connecting', tone: 'wait', retrying: again, actions: ['cancel'] };
}

function connected(status: Status, base: Screen): Screen {
  if (!status.protected) {
    return { ...base, kind: 'not_protected', tone: 'danger', actions: ['disconnect', 'diagnose'] };
  }
  const kind = base.tunnel?.stalled ? 'degraded' : 'connected';
  return { ...base, kind, tone: kind === 'degraded' ? 'wait' : 'safe', actions: ['disconnect', 'reconnect'] };
}

const firstAction: Record<BlockReason, Action[]> = {
  offline: [],
  no_provider: ['choose_place'],
  api_unreachable: ['reconnect'],
  logged_out: ['sign_in'],
  credentials_rejected: ['sign_in'],
  account_expired: ['sign_in'],
  too_many_devices: ['manage_devices'],
  device_revoked: ['sign_in'],
  no_server: ['choose_place'],
  no_profile: ['choose_place'],
  gateway_silent: ['choose_place', 'reconnect'],
  tunnel_device: ['diagnose', 'reconnect'],
  cannot_protect: ['diagnose', 'reconnect'],
  intent_unreadable: ['connect'],
  clock_wrong: ['reconnect'],
  internal: ['reconnect', 'diagnose']
};

function blocked(status: Status, base: Screen): Screen {
  const reason = status.blocked?.code ?? 'internal';
  const shared = { ...base, reason, retrying: status.blocked?.retrying ?? false };
  const actions: Action[] = [...firstAction[reason], 'disconnect'];
  if (!status.protected) return { ...shared, kind: 'not_protected', tone: 'danger', actions };
  return { ...shared, kind: reason === 'offline' ? 'offline' : 'blocked', tone: 'closed', actions };
}

function notesOf(status: Status): Note[] {
  const notes: Note[] = [];
  if (status.tunnel?.provisional) notes.push('provisional');
  if (status.managed_by) notes.push('managed');
  if (
    status.tunnel &&
    status.state === 'connected' &&
    !status.tunnel.addresses.some((address) => address.includes(':'))
  ) {
    notes.push('no_ipv6');
  }
  if (status.protection.tampered > 0) notes.push('tampered');
  if (status.provider.list_stale) notes.push('list_stale');
  if (!status.provider.url) notes.push('no_provider');
  if (status.protection.kill_switch === 'off') notes.push('kill_switch_off');
  return notes;
}
