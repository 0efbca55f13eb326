// The commands of the bridge, typed: one function per command of src-tauri, and nothing else asks the helper.
import { invoke } from '@tauri-apps/api/core';
import { listen, type UnlistenFn } from '@tauri-apps/api/event';
import type {
  AccountInfo,
  ConnectRequest,
  DeepLink,
  DeviceList,
  ImportProfile,
  IntentResult,
  Ladder,
  Link,
  LoginRequest,
  LogView,
  Navigate,
  PolicyView,
  Preferences,
  PreferencesPatch,
  Problem,
  ProfileList,
  Report,
  ResetSettings,
  Saved,
  ServerListing,
  SettingsPatch,
  SettingsView,
  VerifyReport,
  Versions,
  Words
} from './types';

/** A refused command, with the problem document that the helper (or the bridge) gave. */
export class BridgeError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.title);
    this.name = 'BridgeError';
  }
}

const internal = (detail: string): Problem => ({
  type: 'urn:hamn:problem:internal',
  title: 'Something unexpected failed inside Hamn',
  status: 500,
  code: 'internal',
  detail,
  action: ''
});

/** What was thrown, as a problem: the window never shows a bare exception. */
export function problemOf(error: unknown): Problem {
  if (error instanceof BridgeError) return error.problem;
  if (typeof error === 'object' && error !== null && 'code' in error && 'title' in error) return error as Problem;
  return internal(error instanceof Error ? error.message : String(error));
}

async function ask<T>(command: string, args?: Record<string, unknown>): Promise<T> {
  try {
    return await invoke<T>(command, args);
  } catch (error) {
    throw new BridgeError(problemOf(error));
  }
}

export const commands = {
  link: () => ask<Link>('link'),
  connect: (request: ConnectRequest) => ask<IntentResult>('connect', { request }),
  disconnect: () => ask<IntentResult>('disconnect'),
  reconnect: () => ask<IntentResult>('reconnect'),
  servers: () => ask<ServerListing>('servers'),
  login: (request: LoginRequest) => ask<AccountInfo>('login', { request }),
  logout: () => ask<AccountInfo>('logout'),
  account: () => ask<AccountInfo>('account'),
  devices: () => ask<DeviceList>('devices'),
  removeDevice: (id: string) => ask<DeviceList>('remove_device', { id }),
  rotateKey: () => ask<DeviceList>('rotate_key'),
  profiles: () => ask<ProfileList>('profiles'),
  importProfile: (request: ImportProfile) => ask<ProfileList>('import_profile', { request }),
  removeProfile: (name: string) => ask<ProfileList>('remove_profile', { name }),
  settings: () => ask<SettingsView>('settings'),
  changeSettings: (patch: SettingsPatch) => ask<SettingsView>('change_settings', { patch }),
  resetSettings: (request: ResetSettings) => ask<SettingsView>('reset_settings', { request }),
  policy: () => ask<PolicyView>('policy'),
  verify: () => ask<VerifyReport>('verify'),
  diagnose: () => ask<Ladder>('diagnose'),
  log: (lines: number) => ask<LogView>('log', { lines }),
  report: () => ask<Report>('report'),
  restoreNetwork: () => ask<IntentResult>('restore_network'),
  versions: () => ask<Versions>('versions'),
  preferences: () => ask<Preferences>('preferences'),
  changePreferences: (patch: PreferencesPatch) => ask<Preferences>('change_preferences', { patch }),
  saveReport: (text: string) => ask<Saved>('save_report', { text }),
  saveSettings: (text: string) => ask<Saved>('save_settings', { text }),
  speak: (words: Words) => ask<null>('speak', { words }),
  ready: () => ask<null>('ready'),
  showWindow: () => ask<null>('show_window'),
  quit: () => ask<null>('quit')
};

export const events = {
  link: (handler: (link: Link) => void): Promise<UnlistenFn> => listen<Link>('link', (event) => handler(event.payload)),
  navigate: (handler: (navigate: Navigate) => void): Promise<UnlistenFn> =>
    listen<Navigate>('navigate', (event) => handler(event.payload)),
  deepLink: (handler: (link: DeepLink) => void): Promise<UnlistenFn> =>
    listen<DeepLink>('deep_link', (event) => handler(event.payload)),
  preferences: (handler: (preferences: Preferences) => void): Promise<UnlistenFn> =>
    listen<Preferences>('preferences', (event) => handler(event.payload))
};
