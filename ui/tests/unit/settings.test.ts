// The Settings view: every control as the helper gives it, locked, for administrators and refused; files of settings.
import { mockIPC, mockWindows } from '@tauri-apps/api/mocks';
import { fireEvent, render, screen, waitFor, within } from '@testing-library/svelte';
import axe from 'axe-core';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Preferences, SettingKey, SettingsPatch, SettingsView } from '../../src/bridge/types';
import { chosen } from '../../src/state/chosen.svelte';
import { link } from '../../src/state/link.svelte';
import { listing as listingState } from '../../src/state/listing.svelte';
import { preferences } from '../../src/state/preferences.svelte';
import { toasts } from '../../src/state/toasts.svelte';
import { addressFault, resolversOf } from '../../src/views/settings/addresses';
import { settings } from '../../src/views/settings/settings.svelte';
import Settings from '../../src/views/settings/Settings.svelte';
import { differenceOf, same, settingsFile, type Difference } from '../../src/views/settings/transfer';
import { isDestination, isSetting, settingKeys } from '../../src/views/settings/values';
import { windowSettings } from '../../src/views/settings/window.svelte';
import { policyWords } from '../../src/views/settings/words';
import { answers, preferences as answeredPreferences, settings as answeredSettings } from '../fixtures/answers';
import { hostile } from '../fixtures/hostile';
import { links, statusWith } from '../fixtures/links';
import { listing } from '../fixtures/listing';

const locales = ['en', 'sv', 'ar'];
let view: SettingsView;
let kept: Preferences;
let asked: { command: string; args: unknown }[];
let refusal: unknown;

const refused = (code: string, detail = 'because') => ({
  type: '',
  title: 'refused',
  status: 403,
  code,
  detail,
  action: 'ask'
});

function withEntries(changes: Partial<Record<SettingKey, object>>, managed_by: string | null = null): SettingsView {
  return { managed_by, settings: answeredSettings.settings.map((entry) => ({ ...entry, ...changes[entry.key] })) };
}

function applied(patch: SettingsPatch): SettingsView {
  view = {
    ...view,
    settings: view.settings.map((entry) =>
      entry.key in patch ? { ...entry, value: patch[entry.key], source: 'user' as const } : entry
    )
  };
  return view;
}

beforeEach(async () => {
  view = withEntries({});
  kept = answeredPreferences;
  asked = [];
  refusal = null;
  mockWindows('main');
  mockIPC(
    (command, args) => {
      asked.push({ command, args });
      if (
        refusal &&
        ['change_settings', 'reset_settings', 'change_preferences', 'restore_network', 'settings', 'policy'].includes(
          command
        )
      )
        throw refusal;
      if (command === 'settings') return view;
      if (command === 'change_settings') return applied((args as { patch: SettingsPatch }).patch);
      if (command === 'reset_settings') return (view = withEntries({}));
      if (command === 'preferences') return kept;
      if (command === 'change_preferences')
        return (kept = { ...kept, ...(args as { patch: Partial<Preferences> }).patch });
      if (command === 'restore_network') return { changed: true, status: statusWith() };
      return answers[command] ?? null;
    },
    { shouldMockEvents: true }
  );
  HTMLDialogElement.prototype.showModal ??= function showModal(this: HTMLDialogElement) {
    this.open = true;
  };
  HTMLDialogElement.prototype.close ??= function close(this: HTMLDialogElement) {
    this.open = false;
    this.dispatchEvent(new Event('close'));
  };
  link.reset();
  link.take(links.disconnected!());
  listingState.reset();
  listingState.take(listing);
  chosen.reset();
  settings.reset();
  windowSettings.reset();
  toasts.clear();
  await (
    await preferences.start()
  )();
});

async function show(): Promise<void> {
  render(Settings);
  await screen.findByTestId('setting-kill_switch');
}

const row = (key: string) => screen.getByTestId(`setting-${key}`);
const toggleOf = (key: string) => within(row(key)).getByRole('switch');
const patches = () =>
  asked
    .filter((call) => call.command === 'change_settings')
    .map((call) => (call.args as { patch: SettingsPatch }).patch);
const windowPatches = () =>
  asked
    .filter((call) => call.command === 'change_preferences')
    .map((call) => (call.args as { patch: Partial<Preferences> }).patch);
const settled = () => waitFor(() => expect(settings.pending.size + windowSettings.pending.size).toBe(0));
const chooseFile = (content: string) =>
  fireEvent.change(screen.getByTestId('settings-file'), { target: { files: [new File([content], 's.json')] } });

async function violations(): Promise<string[]> {
  const result = await axe.run(document.body, {
    rules: { 'color-contrast': { enabled: false }, region: { enabled: false } }
  });
  return result.violations.map(
    (violation) => `${violation.id}: ${violation.nodes.map((node) => node.html).join(' | ')}`
  );
}

describe('each control', () => {
  it.each(['auto_connect', 'allow_lan', 'ipv6'] as const)(
    '%s is a switch that applies at once and says so',
    async (key) => {
      await show();
      const before = toggleOf(key).getAttribute('aria-checked') === 'true';
      await fireEvent.click(toggleOf(key));
      await settled();
      expect(patches()).toEqual([{ [key]: !before }]);
      expect(toggleOf(key).getAttribute('aria-checked')).toBe(String(!before));
      await waitFor(() => expect(row(key).textContent).toContain('Saved'));
      await waitFor(() => expect(screen.getByTestId('settings-saved').textContent).toContain('saved'));
    }
  );

  it.each(['auto_connect', 'allow_lan', 'ipv6'] as const)(
    '%s goes back when it is refused, and says why',
    async (key) => {
      await show();
      const before = toggleOf(key).getAttribute('aria-checked');
      refusal = refused('not_allowed', 'no administrator agreed');
      await fireEvent.click(toggleOf(key));
      await settled();
      expect(toggleOf(key).getAttribute('aria-checked')).toBe(before);
      expect(within(row(key)).getByRole('alert').textContent).toContain('no administrator agreed');
      expect(row(key).textContent).not.toContain('Saved');
      refusal = null;
      await fireEvent.click(toggleOf(key));
      await settled();
      expect(within(row(key)).queryByRole('alert')).toBeNull();
    }
  );

  it('the kill switch is three cards; arrows move, only Space, Enter or a click choose', async () => {
    await show();
    const cards = within(row('kill_switch')).getAllByRole('radio');
    expect(cards.map((card) => card.getAttribute('aria-label'))).toEqual(['Off', 'While connected', 'Always']);
    expect(cards.map((card) => card.getAttribute('aria-checked'))).toEqual(['false', 'true', 'false']);
    expect(cards.map((card) => card.tabIndex)).toEqual([-1, 0, -1]);
    cards[1]!.focus();
    await fireEvent.keyDown(cards[1]!, { key: 'ArrowRight' });
    expect(document.activeElement).toBe(cards[2]);
    expect(patches()).toEqual([]);
    await fireEvent.click(cards[2]!);
    await settled();
    expect(patches()).toEqual([{ kill_switch: 'always' }]);
    expect(cards[2]!.getAttribute('aria-checked')).toBe('true');
    refusal = refused('not_allowed');
    await fireEvent.click(cards[0]!);
    await settled();
    expect(cards.map((card) => card.getAttribute('aria-checked'))).toEqual(['false', 'false', 'true']);
  });

  it('packet size: automatic, or a number within its bounds', async () => {
    await show();
    await fireEvent.click(within(row('mtu')).getByRole('radio', { name: 'My own' }));
    const field = within(row('mtu')).getByRole('textbox') as HTMLInputElement;
    await fireEvent.input(field, { target: { value: '99999' } });
    expect(within(row('mtu')).getByRole('alert').textContent).toContain('1280');
    await fireEvent.submit(field.closest('form')!);
    await fireEvent.input(field, { target: { value: '12e3' } });
    await fireEvent.submit(field.closest('form')!);
    expect(patches()).toEqual([]);
    await fireEvent.input(field, { target: { value: '1400' } });
    await fireEvent.submit(field.closest('form')!);
    await settled();
    await fireEvent.click(within(row('mtu')).getByRole('radio', { name: 'Automatic' }));
    await settled();
    expect(patches()).toEqual([{ mtu: 1400 }, { mtu: null }]);
  });

  it('device keys: a number of days', async () => {
    await show();
    const field = within(row('key_rotation_days')).getByRole('textbox') as HTMLInputElement;
    expect(field.value).toBe('7');
    await fireEvent.input(field, { target: { value: '91' } });
    await fireEvent.submit(field.closest('form')!);
    await fireEvent.input(field, { target: { value: '30' } });
    await fireEvent.submit(field.closest('form')!);
    await settled();
    expect(patches()).toEqual([{ key_rotation_days: 30 }]);
  });

  it('resolvers: checked before they are sent, kept when they are refused', async () => {
    await show();
    await fireEvent.click(within(row('dns')).getByRole('radio', { name: 'My own' }));
    expect(patches()).toEqual([]);
    const field = screen.getByTestId('dns-addresses') as HTMLTextAreaElement;
    for (const bad of ['', '127.0.0.1', 'dns.example', '9.9.9.9 9.9.9.9', 'fe80::1', '1.2.3.256']) {
      await fireEvent.input(field, { target: { value: bad } });
      await fireEvent.submit(field.closest('form')!);
      expect(within(row('dns')).getByRole('alert').textContent, bad).not.toBe('');
    }
    expect(patches()).toEqual([]);
    await fireEvent.input(field, { target: { value: '9.9.9.9\n2620:fe::fe' } });
    refusal = refused('invalid_value', 'not that one');
    await fireEvent.submit(field.closest('form')!);
    await settled();
    expect(within(row('dns')).getByRole('alert').textContent).toContain('not that one');
    expect((screen.getByTestId('dns-addresses') as HTMLTextAreaElement).value).toBe('9.9.9.9\n2620:fe::fe');
    refusal = null;
    await fireEvent.submit(field.closest('form')!);
    await settled();
    expect(patches().at(-1)).toEqual({ dns: { use: 'custom', addresses: ['9.9.9.9', '2620:fe::fe'] } });
    await fireEvent.click(within(row('dns')).getByRole('radio', { name: 'Your provider’s' }));
    await settled();
    expect(patches().at(-1)).toEqual({ dns: { use: 'provider' } });
  });

  it('the default place is picked from the list with the same search', async () => {
    await show();
    expect(screen.getByTestId('destination-pick').textContent).toContain('Best server');
    await fireEvent.click(screen.getByTestId('destination-pick'));
    const search = await screen.findByTestId('destination-search');
    await fireEvent.input(search, { target: { value: 'malmo' } });
    const options = screen.getAllByRole('option');
    expect(options[0]!.textContent).toContain('Malmö');
    expect(search.getAttribute('aria-activedescendant')).toBe(options[0]!.id);
    expect(await violations()).toEqual([]);
    await fireEvent.keyDown(search, { key: 'ArrowDown' });
    await fireEvent.keyDown(search, { key: 'Enter' });
    await settled();
    expect(patches()).toEqual([{ destination: { kind: 'server', server: 'vpn05' } }]);
    expect(screen.getByTestId('destination-pick').textContent).toContain('vpn05, Malmö');
  });

  it('what the helper does not offer is not shown', async () => {
    view = {
      managed_by: null,
      settings: view.settings.filter((entry) => !['mtu', 'allow_lan', 'dns'].includes(entry.key))
    };
    await show();
    for (const key of ['mtu', 'allow_lan', 'dns']) expect(screen.queryByTestId(`setting-${key}`)).toBeNull();
  });
});

describe('locked and for administrators', () => {
  it('a locked control says who manages it, stays reachable and does nothing', async () => {
    view = withEntries(
      Object.fromEntries(settingKeys.map((key) => [key, { locked: true, needs_admin: true, source: 'managed' }])),
      'Harbour Works AB'
    );
    await show();
    expect(screen.getByTestId('settings-managed').textContent).toContain('Harbour Works AB');
    for (const name of ['Kill switch', 'Default place', 'Packet size']) {
      expect(screen.getByTestId('settings-managed').textContent).toContain(name);
    }
    for (const key of settingKeys) {
      expect(row(key).textContent, key).toContain('Managed by Harbour Works AB');
      expect(row(key).textContent, key).not.toContain('administrator');
      const controls = [...row(key).querySelectorAll<HTMLElement>('button, input, textarea')];
      expect(controls.length, key).toBeGreaterThan(0);
      expect(
        controls.some((control) => control.tabIndex === 0 && !control.hasAttribute('disabled')),
        key
      ).toBe(true);
      for (const control of controls) {
        expect(control.getAttribute('aria-disabled'), key).toBe('true');
        await fireEvent.click(control);
      }
      const described = row(key).querySelector('[aria-describedby*="-lock"]')?.getAttribute('aria-describedby') ?? '';
      const lock = described.split(' ').find((id) => id.endsWith('-lock'));
      expect(document.getElementById(lock ?? '')?.textContent, key).toContain('Harbour Works AB');
    }
    expect(patches()).toEqual([]);
    expect(screen.queryByRole('dialog')).toBeNull();
    expect(await violations()).toEqual([]);
  });

  it('says that the system will ask for an administrator, and an unnamed organisation by that word', async () => {
    view = withEntries({ kill_switch: { needs_admin: true }, ipv6: { locked: true } });
    await show();
    expect(row('kill_switch').textContent).toContain('ask for an administrator');
    expect(row('allow_lan').textContent).not.toContain('administrator');
    expect(row('ipv6').textContent).toContain('Managed by your organisation');
    const group = within(row('kill_switch')).getByRole('radiogroup');
    const note = (group.getAttribute('aria-describedby') ?? '').split(' ').find((id) => id.endsWith('-admin'));
    expect(document.getElementById(note ?? '')?.textContent).toContain('administrator');
  });
});

describe('the window', () => {
  it.each(['reduce_motion', 'notifications', 'autostart', 'start_hidden', 'close_to_tray'] as const)(
    '%s is a switch',
    async (key) => {
      await show();
      const before = kept[key];
      await fireEvent.click(toggleOf(key));
      await settled();
      expect(windowPatches()).toEqual([{ [key]: !before }]);
      expect(toggleOf(key).getAttribute('aria-checked')).toBe(String(!before));
    }
  );

  it('theme, language, text size and graph apply through the preferences', async () => {
    await show();
    await fireEvent.click(within(row('theme')).getByRole('radio', { name: 'Dark' }));
    await settled();
    expect(document.documentElement.dataset.theme).toBe('dark');
    await fireEvent.input(within(row('text_scale_pct')).getByRole('slider'), { target: { value: '150' } });
    expect(document.documentElement.style.fontSize).toBe('100%');
    await fireEvent.change(within(row('text_scale_pct')).getByRole('slider'), { target: { value: '150' } });
    await settled();
    expect(document.documentElement.style.fontSize).toBe('150%');
    await fireEvent.click(within(row('graph_window_s')).getByRole('radio', { name: '1 hour' }));
    await settled();
    await fireEvent.change(within(row('language')).getByRole('combobox'), { target: { value: 'ar' } });
    await settled();
    expect(document.documentElement.dir).toBe('rtl');
    expect(windowPatches()).toEqual([
      { theme: 'dark' },
      { text_scale_pct: 150 },
      { graph_window_s: 3600 },
      { language: 'ar' }
    ]);
  });

  it('goes back when the bridge refuses', async () => {
    await show();
    refusal = refused('internal', 'disk full');
    await fireEvent.click(toggleOf('notifications'));
    await settled();
    expect(toggleOf('notifications').getAttribute('aria-checked')).toBe('true');
    expect(within(row('notifications')).getByRole('alert').textContent).toContain('disk full');
  });

  it('works without the helper, which says so', async () => {
    refusal = refused('helper_unreachable', 'no socket');
    render(Settings);
    const error = await screen.findByTestId('settings-error');
    expect(error.textContent).toContain('no socket');
    refusal = null;
    await fireEvent.click(toggleOf('close_to_tray'));
    await settled();
    expect(windowPatches()).toEqual([{ close_to_tray: false }]);
    await fireEvent.click(within(error).getByRole('button'));
    await screen.findByTestId('setting-kill_switch');
    expect(await violations()).toEqual([]);
  });
});

describe('rules in force', () => {
  it('says them in words and whether they are in force', async () => {
    await show();
    await fireEvent.click(screen.getByTestId('rules-toggle'));
    await waitFor(() => expect(screen.getByTestId('rules-state').textContent).toContain('are in force'));
    expect(document.body.textContent).toContain('blocks nothing');
    expect(await violations()).toEqual([]);
  });

  it('words every part of a policy', () => {
    const words = policyWords({
      api: [{ address: '203.0.113.1:443', transport: 'tcp' }],
      endpoints: [{ address: '198.51.100.1:51820', transport: 'udp' }],
      lan: ['192.168.1.0/24'],
      tunnel: {
        addresses: [],
        interface: 'hamn0',
        lan_resolvers: ['192.168.1.1'],
        resolvers: ['10.64.0.1'],
        traffic: { use: 'everything', carries: ['0.0.0.0/0'] }
      }
    }).join('\n');
    for (const part of [
      'hamn0',
      '10.64.0.1',
      '192.168.1.1',
      '198.51.100.1:51820',
      '203.0.113.1:443',
      '192.168.1.0/24'
    ]) {
      expect(words).toContain(part);
    }
    expect(policyWords({ api: [], endpoints: [], lan: [], tunnel: null })[0]).toContain('nothing reaches the internet');
  });
});

describe('values', () => {
  it('judges addresses as the helper does', () => {
    for (const good of ['9.9.9.9', '10.0.0.1', '192.168.1.1', '2620:fe::fe', 'fd00::53', '2001:db8:0:0:0:0:0:1']) {
      expect(addressFault(good), good).toBeNull();
    }
    const bad = {
      '127.0.0.1': 'loopback',
      '::1': 'loopback',
      '0.0.0.0': 'unspecified',
      '::': 'unspecified',
      '224.0.0.1': 'multicast',
      'ff02::1': 'multicast',
      '255.255.255.255': 'broadcast',
      '169.254.1.1': 'link_local',
      'fe80::1': 'link_local',
      '240.0.0.1': 'reserved',
      '::ffff:9.9.9.9': 'embedded_v4'
    };
    for (const [address, fault] of Object.entries(bad)) expect(addressFault(address), address).toBe(fault);
    for (const none of [
      '',
      '1.2.3',
      '01.2.3.4',
      '1.2.3.4.5',
      'a::b::c',
      'fe80::1%eth0',
      ':::',
      '1:2:3:4:5:6:7:8:9',
      'g::1',
      ...hostile.slice(0, 100)
    ]) {
      expect(addressFault(none), none).toBe('not_an_address');
    }
    expect(resolversOf('2620:fe::fe 2620:FE:0::fe').fault?.fault).toBe('twice');
    expect(resolversOf(Array.from({ length: 11 }, (_, n) => `9.9.9.${n}`).join(' ')).fault?.fault).toBe('too_many');
  });

  it('knows what each setting can be', () => {
    for (const entry of answeredSettings.settings) expect(isSetting(entry.key, entry.value), entry.key).toBe(true);
    for (const key of settingKeys)
      for (const bad of [undefined, 'x', -1, 1.5, [], {}, Number.NaN]) expect(isSetting(key, bad), key).toBe(false);
    expect(isDestination({ kind: 'server', server: 'vpn05', exit: null })).toBe(true);
    expect(isDestination({ kind: 'server', server: '../x' })).toBe(false);
    expect(isDestination({ kind: 'best', more: 1 })).toBe(false);
  });
});

describe('files', () => {
  const read = (text: string, of = view) => differenceOf(text, of, kept, locales);
  const file = (more: object) => JSON.stringify({ format: 'hamn-settings', version: 1, ...more });

  it('what is exported changes nothing when it is imported, and holds no place that was used', () => {
    const text = settingsFile(view, kept);
    expect(read(text)).toMatchObject({ changes: [], settings: {}, window: {} });
    expect(text).not.toContain('recents');
    expect(text).not.toContain('vpn01');
    expect(same({ kind: 'server', server: 'a' }, { exit: null, server: 'a', kind: 'server' })).toBe(true);
  });

  it('refuses what is not ours, newer, unknown or impossible', () => {
    expect(read('{')).toEqual({ fault: 'not_json' });
    expect(read('[]')).toEqual({ fault: 'not_ours' });
    expect(read('{"settings":{}}')).toEqual({ fault: 'not_ours' });
    expect(read(JSON.stringify({ format: 'hamn-settings', version: 2 }))).toEqual({ fault: 'newer' });
    expect(read(file({ settings: { mut: 1400 } }))).toEqual({ fault: 'unknown_key', key: 'mut' });
    expect(read(file({ window: { recents: [] } }))).toEqual({ fault: 'unknown_key', key: 'recents' });
    expect(read(file({ extra: 1 }))).toEqual({ fault: 'unknown_key', key: 'extra' });
    expect(read('{"format":"hamn-settings","version":1,"settings":{"__proto__":{"x":1}}}')).toEqual({
      fault: 'unknown_key',
      key: '__proto__'
    });
    expect(read(file({ settings: { mtu: 70 } }))).toEqual({ fault: 'bad_value', key: 'mtu' });
    expect(read(file({ window: { language: 'xx' } }))).toEqual({ fault: 'bad_value', key: 'language' });
    expect(read(file({ window: { theme: 'toString' } }))).toEqual({ fault: 'bad_value', key: 'theme' });
    expect(read(' '.repeat(70_000))).toEqual({ fault: 'too_large' });
    for (const text of hostile) expect(read(text)).toHaveProperty('fault');
  });

  it('says what differs, and leaves locked settings alone', () => {
    const locked = withEntries({ kill_switch: { locked: true } });
    const found = read(
      file({ settings: { kill_switch: 'off', ipv6: false, allow_lan: false }, window: { theme: 'dark' } }),
      locked
    ) as Difference;
    expect(found.changes.map((change) => [change.key, change.locked])).toEqual([
      ['kill_switch', true],
      ['ipv6', false],
      ['theme', false]
    ]);
    expect(found.settings).toEqual({ ipv6: false });
    expect(found.window).toEqual({ theme: 'dark' });
  });

  it('exports through the bridge and names the file', async () => {
    await show();
    await fireEvent.click(screen.getByTestId('settings-export'));
    await waitFor(() => expect(screen.getByTestId('exported').textContent).toContain('hamn-settings.json'));
    const text = (asked.find((call) => call.command === 'save_settings')?.args as { text: string }).text;
    expect(read(text)).toMatchObject({ changes: [] });
  });

  it('shows the difference before anything is applied', async () => {
    await show();
    await chooseFile(file({ settings: { kill_switch: 'always', mtu: 1400 }, window: { theme: 'dark' } }));
    const table = await screen.findByTestId('import-difference');
    for (const text of ['Kill switch', 'While connected', 'Always', 'Automatic', '1,400 bytes', 'Dark']) {
      expect(table.textContent).toContain(text);
    }
    expect(patches()).toEqual([]);
    expect(windowPatches()).toEqual([]);
    expect(await violations()).toEqual([]);
    refusal = refused('not_allowed', 'no administrator');
    await fireEvent.click(screen.getByTestId('import-apply'));
    await waitFor(() => expect(screen.getByRole('alert').textContent).toContain('no administrator'));
    expect(windowPatches()).toEqual([]);
    refusal = null;
    await fireEvent.click(screen.getByTestId('import-apply'));
    await waitFor(() => expect(screen.queryByTestId('import-difference')).toBeNull());
    expect(patches().at(-1)).toEqual({ kill_switch: 'always', mtu: 1400 });
    expect(windowPatches()).toEqual([{ theme: 'dark' }]);
  });

  it('says clearly what is wrong with a file', async () => {
    await show();
    await chooseFile(file({ settings: { split: [] } }));
    await waitFor(() => expect(screen.getByTestId('import-fault').textContent).toContain('split'));
    await chooseFile('PNG');
    await waitFor(() => expect(screen.getByTestId('import-fault').textContent).toContain('not a settings file'));
    await chooseFile(file({ settings: { ipv6: true } }));
    await waitFor(() => expect(screen.getByRole('dialog').textContent).toContain('already like that'));
    expect(screen.queryByTestId('import-apply')).toBeNull();
  });
});

describe('starting over', () => {
  it('resets after a question', async () => {
    view = withEntries({ allow_lan: { value: true } });
    await show();
    await fireEvent.click(screen.getByTestId('settings-reset'));
    expect(asked.some((call) => call.command === 'reset_settings')).toBe(false);
    await fireEvent.click(screen.getByTestId('danger-confirm'));
    await waitFor(() => expect(toggleOf('allow_lan').getAttribute('aria-checked')).toBe('false'));
    expect(asked.find((call) => call.command === 'reset_settings')?.args).toEqual({ request: { keys: null } });
  });

  it('restores the network after saying what that means, and shows a refusal', async () => {
    await show();
    await fireEvent.click(screen.getByTestId('network-restore'));
    expect(screen.getByRole('dialog').textContent).toContain('unprotected');
    refusal = refused('not_allowed', 'ask the administrator');
    await fireEvent.click(screen.getByTestId('danger-confirm'));
    await waitFor(() => expect(screen.getByRole('alert').textContent).toContain('ask the administrator'));
    refusal = null;
    await fireEvent.click(screen.getByTestId('danger-confirm'));
    await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
    expect(asked.filter((call) => call.command === 'restore_network')).toHaveLength(2);
  });
});
