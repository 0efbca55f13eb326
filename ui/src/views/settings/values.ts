// Which values each setting can have. The helper decides in the end; this catches what it would refuse anyway. Pure.
import type {
  Destination,
  Dns,
  KillSwitch,
  Preferences,
  PreferencesPatch,
  SettingKey,
  SettingsPatch
} from '../../bridge/types';
import { resolversOf } from './addresses';

export const killSwitches: readonly KillSwitch[] = ['off', 'while_connected', 'always'];
export const themes: readonly Preferences['theme'][] = ['system', 'light', 'dark'];
export const graphWindows: readonly number[] = [60, 300, 3600];
export const mtuRange = { least: 1280, most: 1500 };
export const rotationRange = { least: 1, most: 90 };
export const textScale = { least: 100, most: 200, step: 10 };

/** In the order in which they are shown. */
export const settingKeys: readonly SettingKey[] = [
  'auto_connect',
  'destination',
  'ipv6',
  'mtu',
  'key_rotation_days',
  'kill_switch',
  'allow_lan',
  'dns'
];

/** The window's preferences that a file may carry: not what was used lately, and not what is only a mark of this window. */
export const preferenceKeys = [
  'theme',
  'language',
  'text_scale_pct',
  'reduce_motion',
  'notifications',
  'autostart',
  'start_hidden',
  'close_to_tray',
  'graph_window_s',
  'favourites'
] as const satisfies readonly (keyof PreferencesPatch)[];
export type PreferenceKey = (typeof preferenceKeys)[number];

export function isWholeIn(value: unknown, range: { least: number; most: number }): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= range.least && value <= range.most;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function hasOnly(value: Record<string, unknown>, keys: readonly string[]): boolean {
  return Object.keys(value).every((key) => keys.includes(key));
}

const isId = (value: unknown): value is string => typeof value === 'string' && /^[a-z0-9][a-z0-9-]{0,63}$/.test(value);

export function isDestination(value: unknown): value is Destination {
  if (!isRecord(value)) return false;
  switch (value.kind) {
    case 'best':
      return hasOnly(value, ['kind']);
    case 'country':
      return (
        hasOnly(value, ['kind', 'country']) && typeof value.country === 'string' && /^[a-z]{2}$/.test(value.country)
      );
    case 'city':
      return hasOnly(value, ['kind', 'city']) && isId(value.city);
    case 'server':
      return (
        hasOnly(value, ['kind', 'server', 'exit']) && isId(value.server) && (value.exit == null || isId(value.exit))
      );
    case 'profile':
      return (
        hasOnly(value, ['kind', 'name']) &&
        typeof value.name === 'string' &&
        /^[A-Za-z0-9][A-Za-z0-9 _.-]{0,31}$/.test(value.name)
      );
    default:
      return false;
  }
}

export function isDns(value: unknown): value is Dns {
  if (!isRecord(value)) return false;
  if (value.use === 'provider') return hasOnly(value, ['use']);
  if (value.use !== 'custom' || !hasOnly(value, ['use', 'addresses']) || !Array.isArray(value.addresses)) return false;
  const all = value.addresses.every((address) => typeof address === 'string' && !/[\s,;]/.test(address));
  return all && resolversOf(value.addresses.join(' ')).fault === null;
}

/** A value for a setting, or not. */
export function isSetting(key: SettingKey, value: unknown): boolean {
  switch (key) {
    case 'kill_switch':
      return killSwitches.some((mode) => mode === value);
    case 'auto_connect':
    case 'allow_lan':
    case 'ipv6':
      return typeof value === 'boolean';
    case 'dns':
      return isDns(value);
    case 'mtu':
      return value === null || isWholeIn(value, mtuRange);
    case 'destination':
      return isDestination(value);
    case 'key_rotation_days':
      return isWholeIn(value, rotationRange);
  }
}

/** A value for a preference, or not. */
export function isPreference(key: PreferenceKey, value: unknown, languages: readonly string[]): boolean {
  switch (key) {
    case 'theme':
      return themes.some((theme) => theme === value);
    case 'language':
      return value === null || (typeof value === 'string' && languages.includes(value));
    case 'text_scale_pct':
      return isWholeIn(value, textScale);
    case 'graph_window_s':
      return graphWindows.some((seconds) => seconds === value);
    case 'favourites':
      return Array.isArray(value) && value.length <= 500 && value.every(isDestination);
    default:
      return typeof value === 'boolean';
  }
}

/** A patch with one setting. */
export function patchOf(key: SettingKey, value: unknown): SettingsPatch {
  return { [key]: value };
}
