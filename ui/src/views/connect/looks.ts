// How every state looks and what it says. The state itself is decided in state/screen.ts.
import type { IconName } from '../../parts/icons';
import type { Intent } from '../../state/intents.svelte';
import type { Action, Screen, ScreenKind } from '../../state/screen';
import type { Phase } from '../../bridge/types';
import { lookup } from '../../text/codes';
import { m } from '../../text/messages';

export interface Look {
  icon: IconName;
  /** The state in one or two words. */
  word: () => string;
  /** What it means for the user; reasons of blocked states come from their codes instead. */
  reason: () => string;
}

export const looks: Record<ScreenKind, Look> = {
  loading: { icon: 'wait', word: m.connect_state_loading, reason: m.connect_reason_loading },
  unreachable: { icon: 'question', word: m.connect_state_unreachable, reason: m.connect_reason_unreachable },
  untrusted: { icon: 'alarm', word: m.connect_state_untrusted, reason: m.connect_reason_untrusted },
  not_allowed: { icon: 'key', word: m.connect_state_not_allowed, reason: m.connect_reason_not_allowed },
  incompatible: { icon: 'info', word: m.connect_state_incompatible, reason: m.connect_reason_incompatible },
  signed_out: { icon: 'person', word: m.connect_state_signed_out, reason: m.connect_reason_signed_out },
  disconnected: { icon: 'shield_open', word: m.connect_state_disconnected, reason: m.connect_reason_disconnected },
  locked: { icon: 'lock', word: m.connect_state_locked, reason: m.connect_reason_locked },
  connecting: { icon: 'wait', word: m.connect_state_connecting, reason: m.connect_reason_connecting },
  reconnecting: { icon: 'refresh', word: m.connect_state_reconnecting, reason: m.connect_reason_reconnecting },
  connected: { icon: 'shield_check', word: m.connect_state_connected, reason: m.connect_reason_connected },
  degraded: { icon: 'shield', word: m.connect_state_degraded, reason: m.connect_reason_degraded },
  disconnecting: { icon: 'wait', word: m.connect_state_disconnecting, reason: m.connect_reason_disconnecting },
  blocked: { icon: 'lock', word: m.connect_state_blocked, reason: m.connect_reason_blocked },
  offline: { icon: 'offline', word: m.connect_state_offline, reason: m.connect_reason_offline },
  not_protected: { icon: 'alarm', word: m.connect_state_not_protected, reason: m.connect_reason_not_protected }
};

/** Why there is no tunnel, or what the state means. */
export function reasonOf(screen: Screen): string {
  if (screen.reason) return lookup(`codes_problem_${screen.reason}`) ?? looks[screen.kind].reason();
  if (screen.kind === 'disconnected' && screen.notes.includes('no_provider') && screen.actions[0] === 'choose_place') {
    return m.connect_reason_no_provider();
  }
  return looks[screen.kind].reason();
}

/** What the user can do about the reason, or what Hamn does by itself. */
export function adviceOf(screen: Screen): string | null {
  if (screen.reason === 'internal' && screen.retrying) return m.connect_retrying();
  if (screen.reason) return lookup(`codes_action_${screen.reason}`) ?? null;
  switch (screen.kind) {
    case 'unreachable':
      return m.connect_advice_unreachable();
    case 'untrusted':
      return m.connect_advice_untrusted();
    case 'not_allowed':
      return m.connect_advice_not_allowed();
    case 'incompatible':
      return m.connect_advice_incompatible();
    case 'not_protected':
      return m.connect_advice_not_protected();
    default:
      return null;
  }
}

export interface Guard {
  icon: IconName;
  text: string;
}

/** What holds at this moment: the one sentence about leaks. Null where the state word already says everything. */
export function guardOf(screen: Screen, allowLan: boolean): Guard | null {
  switch (screen.kind) {
    case 'degraded':
      return { icon: 'lock', text: m.connect_guard_tunnel() };
    case 'locked':
    case 'blocked':
    case 'offline':
      return { icon: 'lock', text: allowLan ? m.connect_guard_closed_lan() : m.connect_guard_closed() };
    case 'connecting':
    case 'reconnecting':
      return screen.protected
        ? { icon: 'lock', text: allowLan ? m.connect_guard_until_lan() : m.connect_guard_until() }
        : { icon: 'shield_open', text: m.connect_guard_not_yet() };
    case 'unreachable':
      return { icon: 'lock', text: m.connect_guard_unknown() };
    case 'untrusted':
      return { icon: 'question', text: m.connect_guard_untrusted() };
    case 'not_allowed':
    case 'incompatible':
      if (screen.protected === null) return { icon: 'lock', text: m.connect_guard_unknown() };
      return screen.protected
        ? { icon: 'lock', text: m.connect_guard_said_protected() }
        : { icon: 'shield_open', text: m.connect_guard_said_open() };
    case 'not_protected':
      return { icon: 'alarm', text: m.connect_guard_leaks() };
    case 'loading':
    case 'connected':
    case 'disconnecting':
    case 'signed_out':
    case 'disconnected':
      return null;
  }
}

/** The steps of an attempt, in order. */
export const phases: readonly Phase[] = ['securing', 'preparing', 'admitting', 'verifying', 'routing'];

export const phaseWords: Record<Phase, () => string> = {
  securing: m.connect_phase_securing,
  preparing: m.connect_phase_preparing,
  admitting: m.connect_phase_admitting,
  verifying: m.connect_phase_verifying,
  routing: m.connect_phase_routing
};

export const actionWords: Record<Action, () => string> = {
  connect: m.connect_action_connect,
  cancel: m.connect_action_cancel,
  disconnect: m.connect_action_disconnect,
  reconnect: m.connect_action_reconnect,
  sign_in: m.connect_action_sign_in,
  choose_place: m.connect_action_choose_place,
  manage_devices: m.connect_action_manage_devices,
  open_settings: m.connect_action_open_settings,
  restore_network: m.connect_action_restore_network,
  retry: m.connect_action_retry,
  show_versions: m.connect_action_show_versions,
  diagnose: m.connect_action_diagnose
};

/** What a button says while the helper is asked. */
export const pendingWords: Record<Intent, () => string> = {
  connect: m.connect_pending_connect,
  cancel: m.connect_pending_cancel,
  disconnect: m.connect_pending_disconnect,
  reconnect: m.connect_pending_reconnect,
  restore_network: m.connect_pending_restore_network,
  retry: m.connect_pending_retry
};

/** An action's word, as this screen means it: "connect again" after a failure is a new try. */
export function wordOf(action: Action, screen: Screen): string {
  if (action === 'reconnect' && screen.reason) return m.connect_action_try_again();
  if (action === 'choose_place' && screen.notes.includes('no_provider')) return m.connect_action_add_profile();
  if (action === 'disconnect' && (screen.kind === 'blocked' || screen.kind === 'offline'))
    return m.connect_action_disconnect_open();
  return actionWords[action]();
}
