// Settings as a file: what is written, and what of a foreign file is taken. Pure; nothing is applied here.
import type { Preferences, PreferencesPatch, SettingKey, SettingsPatch, SettingsView } from '../../bridge/types';
import { isPreference, isSetting, preferenceKeys, settingKeys, type PreferenceKey } from './values';

export const maxFileBytes = 64 * 1024;
const format = 'hamn-settings';
const version = 1;

/** The file's text. It holds no secret: no account, no key, no profile, no place that was used. */
export function settingsFile(view: SettingsView, preferences: Preferences): string {
  const settings = Object.fromEntries(view.settings.map((entry) => [entry.key, entry.value]));
  const window = Object.fromEntries(preferenceKeys.map((key) => [key, preferences[key]]));
  return `${JSON.stringify({ format, version, settings, window }, null, 2)}\n`;
}

export type FileFault =
  { fault: 'not_json' | 'not_ours' | 'newer' | 'too_large' } | { fault: 'unknown_key' | 'bad_value'; key: string };

/** One line of the difference. */
export interface Change {
  area: 'settings' | 'window';
  key: SettingKey | PreferenceKey;
  now: unknown;
  after: unknown;
  /** The administrator's policy fixes it, so it stays. */
  locked: boolean;
}

export interface Difference {
  changes: Change[];
  settings: SettingsPatch;
  window: PreferencesPatch;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Two values are the same setting, whatever the order of their fields. */
export function same(left: unknown, right: unknown): boolean {
  return canonical(left) === canonical(right);
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (isRecord(value)) {
    // An absent exit and a null one are the same exit.
    const fields = Object.keys(value).filter((key) => value[key] !== null && value[key] !== undefined);
    return `{${fields
      .sort()
      .map((key) => `${key}:${canonical(value[key])}`)
      .join(',')}}`;
  }
  return JSON.stringify(value) ?? 'null';
}

/** Reads a file and says what it would change. Unknown keys and bad values refuse the whole file. */
export function differenceOf(
  text: string,
  view: SettingsView,
  preferences: Preferences,
  languages: readonly string[]
): Difference | FileFault {
  if (text.length > maxFileBytes) return { fault: 'too_large' };
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    return { fault: 'not_json' };
  }
  if (!isRecord(file) || file.format !== format) return { fault: 'not_ours' };
  if (typeof file.version !== 'number' || file.version < 1) return { fault: 'not_ours' };
  if (file.version > version) return { fault: 'newer' };
  const stray = Object.keys(file).find((key) => !['format', 'version', 'settings', 'window'].includes(key));
  if (stray !== undefined) return { fault: 'unknown_key', key: stray };
  const [settings, window] = [file.settings ?? {}, file.window ?? {}];
  if (!isRecord(settings)) return { fault: 'bad_value', key: 'settings' };
  if (!isRecord(window)) return { fault: 'bad_value', key: 'window' };

  const result: Difference = { changes: [], settings: {}, window: {} };
  for (const [key, after] of Object.entries(settings)) {
    const known = settingKeys.find((name) => name === key);
    const entry = view.settings.find((candidate) => candidate.key === key);
    if (!known || !entry) return { fault: 'unknown_key', key };
    if (!isSetting(known, after)) return { fault: 'bad_value', key };
    if (same(entry.value, after)) continue;
    result.changes.push({ area: 'settings', key: known, now: entry.value, after, locked: entry.locked });
    if (!entry.locked) Object.assign(result.settings, { [known]: after });
  }
  for (const [key, after] of Object.entries(window)) {
    const known = preferenceKeys.find((name) => name === key);
    if (!known) return { fault: 'unknown_key', key };
    if (!isPreference(known, after, languages)) return { fault: 'bad_value', key };
    if (same(preferences[known], after)) continue;
    result.changes.push({ area: 'window', key: known, now: preferences[known], after, locked: false });
    Object.assign(result.window, { [known]: after });
  }
  return result;
}
