// Pure decisions of the account view: what is typed, what is left, and what signing out does.
import type { AccountInfo, DeviceList, LoginRequest, Status } from '../../bridge/types';

const DAY_MS = 86_400_000;
/** More devices than any account has; a list beyond that is cut, so that a hostile one cannot hang the window. */
export const MOST_DEVICES = 200;

/** Account numbers and codes are pasted with spaces of all kinds, and with marks that nobody sees. */
export function withoutSpaces(text: string): string {
  return text.replace(/[\s\u200b-\u200f\u2060\ufeff]+/gu, '');
}

/** What a form says, ready to send; null when no account is named. Passwords may hold spaces and stay as they are. */
export function loginRequest(account: string, password: string, otp: string): LoginRequest | null {
  const named = withoutSpaces(account);
  if (!named) return null;
  const code = withoutSpaces(otp);
  return { account: named, ...(password ? { password } : {}), ...(code ? { otp: code } : {}) };
}

/** Whole days until then, rounded up; null when that is no date. */
export function daysLeft(paidUntil: string | null | undefined, nowMs: number): number | null {
  const at = Date.parse(paidUntil ?? '');
  return Number.isNaN(at) ? null : Math.ceil((at - nowMs) / DAY_MS);
}

export type Standing = 'active' | 'expired' | 'other';

/** The provider's word, as far as the window knows it. */
export function standing(account: AccountInfo): Standing {
  return account.status === 'active' || account.status === 'expired' ? account.status : 'other';
}

/** Places in use and in all; null when the provider names no limit. */
export function places(
  devices: DeviceList | null,
  account: AccountInfo | null
): { used: number; limit: number } | null {
  const limit = devices?.limit ?? account?.device_limit ?? null;
  return devices && limit !== null && limit > 0 ? { used: devices.devices.length, limit } : null;
}

export type SignOutEffect = 'ends_open' | 'ends_off' | 'ends_locked' | 'profile' | 'idle_open' | 'idle_locked';

/** What signing out does to tunnel and kill switch: a tunnel of the provider's ends with the session, lockdown stays. */
export function signOutEffect(status: Status): SignOutEffect {
  const locked = status.protection.kill_switch === 'always';
  if (status.target.want === 'disconnected') return locked ? 'idle_locked' : 'idle_open';
  if (status.target.destination.kind === 'profile') return 'profile';
  if (status.protection.kill_switch === 'off') return 'ends_off';
  return locked ? 'ends_locked' : 'ends_open';
}

/** A date or name inside a sentence, so that its direction does not turn the sentence's. */
export function isolated(text: string): string {
  return `\u2068${text}\u2069`;
}

/** A name that shows something; null when it holds only spaces and invisible marks. */
export function visibleName(name: string): string | null {
  return withoutSpaces(name) ? name : null;
}
