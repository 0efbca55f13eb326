// Profiles of one's own: what is checked before the helper sees the file, how refusals look, and that nothing is kept.
import { mockIPC, mockWindows } from '@tauri-apps/api/mocks';
import { fireEvent, render, screen, waitFor, within } from '@testing-library/svelte';
import axe from 'axe-core';
import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import type { ProfileEntry } from '../../src/bridge/types';
import { intents } from '../../src/state/intents.svelte';
import { link } from '../../src/state/link.svelte';
import { listing as listingState } from '../../src/state/listing.svelte';
import { route } from '../../src/state/route.svelte';
import { speakLanguage } from '../../src/text/language.svelte';
import { browsing } from '../../src/views/servers/browsing.svelte';
import { isProfileName, lineOf, nameFromFile, remarkWords, textOf } from '../../src/views/servers/profile-file';
import { profiles } from '../../src/views/servers/profiles.svelte';
import Servers from '../../src/views/servers/Servers.svelte';
import { hostile } from '../fixtures/hostile';
import { links, statusWith } from '../fixtures/links';
import { listing } from '../fixtures/listing';

const secret = 'PrivateKey = SOSECRETSOSECRETSOSECRETSOSECRETSOSECRETSOS=';
const entry = (name: string, changes: Partial<ProfileEntry> = {}): ProfileEntry => ({
  name,
  endpoint: '203.0.113.9:51820',
  ipv4: true,
  ipv6: false,
  dns: true,
  remarks: [],
  ...changes
});
const problem = (code: string, detail: string) => ({
  type: '',
  title: 'refused',
  status: 422,
  code,
  detail,
  action: 'do it'
});

let stored: ProfileEntry[] = [];
let refusal: unknown = null;
let asked: { command: string; args: unknown }[] = [];

beforeEach(() => {
  stored = [entry('home', { remarks: [{ line: 7, code: 'ignored_key', message: 'ignored' }] })];
  refusal = null;
  asked = [];
  mockWindows('main');
  mockIPC(
    (command, args) => {
      asked.push({ command, args });
      if (command === 'profiles') return { profiles: stored };
      if (command === 'import_profile' || command === 'remove_profile') {
        if (refusal) throw refusal;
        if (command === 'import_profile') {
          const { name } = (args as { request: { name: string } }).request;
          stored = [...stored.filter((profile) => profile.name !== name), entry(name)];
        } else stored = stored.filter((profile) => profile.name !== (args as { name: string }).name);
        return { profiles: stored };
      }
      if (command === 'connect') return { changed: true, status: statusWith() };
      return null;
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
  profiles.reset();
  intents.reset();
  browsing.reset();
  browsing.tab = 'profiles';
  route.view = 'servers';
});

const file = (name = 'Café Södra.conf', content: BlobPart = `[Interface]\n${secret}\n`) => new File([content], name);
const chooseFile = (chosen: File) =>
  fireEvent.change(screen.getByTestId('profile-file'), { target: { files: [chosen] } });
const submit = () => fireEvent.submit(screen.getByTestId('import-name').closest('form')!);
const imports = () => asked.filter((call) => call.command === 'import_profile');

describe('names and texts', () => {
  it('makes a valid name of any file name', () => {
    expect(nameFromFile('Café Södra.conf')).toBe('Cafe Sodra');
    expect(nameFromFile('C:\\dir\\wg0.CONF')).toBe('wg0');
    expect(nameFromFile('..conf.d')).toBe('conf.d');
    expect(nameFromFile('日本.conf')).toBe('profile');
    for (const name of hostile) expect(isProfileName(nameFromFile(name)), name).toBe(true);
  });

  it('knows which names the helper takes', () => {
    for (const name of ['a', 'My office_1.2', 'x'.repeat(32)]) expect(isProfileName(name), name).toBe(true);
    for (const name of ['', ' a', '.a', '-a', 'a ', 'a.', 'å', 'a/b', 'x'.repeat(33)])
      expect(isProfileName(name), name).toBe(false);
  });

  it('reads UTF-8 and nothing else', async () => {
    expect(await textOf(new Blob(['[Interface]']))).toBe('[Interface]');
    expect(await textOf(new Blob([new Uint8Array([0xff, 0xfe, 0x5b, 0x00])]))).toBeNull();
  });

  it('says what is wrong with a line in the language of the window, and a new code as the helper says it', () => {
    const fault = { line: 12, code: 'runs_programs', message: 'Bad.', action: 'Fix it.' };
    const refused = { ...problem('profile_invalid', 'line 12: Bad. Fix it.') };
    speakLanguage('sv');
    expect(lineOf({ ...refused, fault } as never)).toMatchObject({ line: 12, known: true });
    expect(lineOf({ ...refused, fault } as never)?.words).toContain('root');
    expect(lineOf({ ...refused, fault: { ...fault, code: 'from_the_future' } } as never)).toEqual({
      line: 12,
      words: 'Bad. Fix it.',
      known: false
    });
    expect(lineOf(refused as never)).toBeNull();
    const remark = { line: 7, code: 'ignored_key', message: 'ignored' };
    expect(remarkWords(remark).words).toMatch(/^Rad 7: ListenPort/);
    expect(remarkWords({ ...remark, code: 'from_the_future' })).toEqual({ words: 'Rad 7: ignored', known: false });
    expect(remarkWords({ code: 'no_dns', message: '' }).words).toContain('DNS');
    speakLanguage('en');
  });

  it('has words for every language, none of them left in English', () => {
    const english = JSON.parse(readFileSync('messages/en/profiles.json', 'utf8')) as Record<string, string>;
    for (const language of ['sv', 'de', 'nl', 'nb', 'da', 'fi', 'fr', 'es', 'ar']) {
      const own = JSON.parse(readFileSync(`messages/${language}/profiles.json`, 'utf8')) as Record<string, string>;
      expect(Object.keys(own), language).toEqual(Object.keys(english));
      const same = Object.keys(english).filter((key) => own[key] === english[key]);
      expect(same, language).toEqual([]);
      // What stands in the file stands in the sentence as it is there.
      for (const name of [
        '[Interface]',
        '[Peer]',
        'PrivateKey',
        'PublicKey',
        'AllowedIPs',
        'SaveConfig',
        '0.0.0.0/0',
        'UTF-8'
      ])
        for (const key of Object.keys(english)) {
          if (english[key]?.includes(name)) expect(own[key], `${language} ${key}`).toContain(name);
        }
    }
  });
});

describe('import', () => {
  it('hands the text to the helper and neither keeps nor shows it', async () => {
    render(Servers);
    await screen.findByTestId('profile-card');
    await chooseFile(file());
    expect((screen.getByTestId('import-name') as HTMLInputElement).value).toBe('Cafe Sodra');
    expect(imports()).toEqual([]);
    await submit();
    await waitFor(() => expect(imports()).toHaveLength(1));
    expect(imports()[0]?.args).toEqual({
      request: { name: 'Cafe Sodra', conf: `[Interface]\n${secret}\n`, replace: false }
    });
    await waitFor(() => expect(screen.getAllByTestId('profile-card')).toHaveLength(2));
    expect(document.documentElement.outerHTML).not.toContain('SOSECRET');
  });

  it('shows the line that the helper names, without the text of the file', async () => {
    const fault = { line: 7, code: 'runs_programs', message: 'in the words of the helper', action: '' };
    refusal = { ...problem('profile_invalid', 'line 7: in the words of the helper'), fault };
    render(Servers);
    await chooseFile(file());
    await submit();
    const line = await screen.findByTestId('import-line');
    expect(line.textContent).toContain('Line 7');
    expect(line.textContent).toContain('run a program as root');
    expect(document.documentElement.outerHTML).not.toContain('SOSECRET');
    expect(
      (await axe.run(document.body, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } }))
        .violations
    ).toEqual([]);
  });

  it('shows any other refusal as what it is', async () => {
    refusal = problem('not_allowed', 'profiles are forbidden by the policy');
    render(Servers);
    await chooseFile(file());
    await submit();
    await waitFor(() => expect(screen.getByRole('alert').textContent).toContain('profiles are forbidden'));
  });

  it('refuses a file that is too large without reading it', async () => {
    const large = file('big.conf', 'x'.repeat(64 * 1024 + 1));
    render(Servers);
    await chooseFile(large);
    expect(screen.getByRole('alert').textContent).toContain('64 KiB');
    expect(screen.queryByTestId('import-submit')).toBeNull();
  });

  it('refuses what is no text', async () => {
    render(Servers);
    await chooseFile(file('x.conf', new Uint8Array([0xff, 0xfe, 0x00])));
    await submit();
    await waitFor(() => expect(screen.getByRole('alert').textContent).toContain('UTF-8'));
    expect(imports()).toEqual([]);
  });

  it('does not send a name that cannot be one, and says when it replaces', async () => {
    render(Servers);
    await screen.findByTestId('profile-card');
    await chooseFile(file());
    await fireEvent.input(screen.getByTestId('import-name'), { target: { value: '-no' } });
    await submit();
    expect(imports()).toEqual([]);
    expect(screen.getByTestId('import-name').getAttribute('aria-invalid')).toBe('true');
    await fireEvent.input(screen.getByTestId('import-name'), { target: { value: 'home' } });
    expect(screen.getByTestId('import-submit').textContent).toContain('Replace');
    await submit();
    await waitFor(() => expect(imports()[0]?.args).toMatchObject({ request: { name: 'home', replace: true } }));
  });

  it('takes a file that is dropped anywhere, on any tab', async () => {
    browsing.tab = 'all';
    render(Servers);
    const dataTransfer = { types: ['Files'], files: [file('dropped.conf')] };
    const over = new Event('dragover', { cancelable: true });
    Object.assign(over, { dataTransfer });
    window.dispatchEvent(over);
    expect(over.defaultPrevented).toBe(true);
    const drop = new Event('drop', { cancelable: true });
    Object.assign(drop, { dataTransfer });
    window.dispatchEvent(drop);
    expect(drop.defaultPrevented).toBe(true);
    await waitFor(() => expect((screen.getByTestId('import-name') as HTMLInputElement).value).toBe('dropped'));
    expect(browsing.tab).toBe('profiles');
  });

  it('leaves a dragged text alone', () => {
    render(Servers);
    const drop = new Event('drop', { cancelable: true });
    Object.assign(drop, { dataTransfer: { types: ['text/plain'], files: [] } });
    window.dispatchEvent(drop);
    expect(drop.defaultPrevented).toBe(false);
  });
});

describe('the list', () => {
  it('says what a profile is, connects and asks before it removes', async () => {
    render(Servers);
    const card = await screen.findByTestId('profile-card');
    for (const text of [
      'home',
      '203.0.113.9:51820',
      'IPv4 only',
      'Own DNS',
      '1 remark',
      'Line 7: ListenPort and FwMark are ignored'
    ]) {
      expect(card.textContent).toContain(text);
    }
    expect(
      (await axe.run(document.body, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } }))
        .violations
    ).toEqual([]);
    await fireEvent.click(within(card).getByRole('button', { name: 'Remove home' }));
    expect(asked.some((call) => call.command === 'remove_profile')).toBe(false);
    refusal = problem('conflict', 'That profile is in use; disconnect first.');
    await fireEvent.click(screen.getByTestId('profile-remove-confirm'));
    await waitFor(() => expect(screen.getByRole('alert').textContent).toContain('in use'));
    refusal = null;
    await fireEvent.click(screen.getByTestId('profile-remove-confirm'));
    await waitFor(() => expect(screen.queryByTestId('profile-card')).toBeNull());
  });

  it('connects to a profile', async () => {
    render(Servers);
    const card = await screen.findByTestId('profile-card');
    await fireEvent.click(within(card).getByRole('button', { name: 'Connect to home' }));
    await waitFor(() => expect(asked.find((call) => call.command === 'connect')).toBeDefined());
    expect(asked.find((call) => call.command === 'connect')?.args).toEqual({
      request: { destination: { kind: 'profile', name: 'home' }, if_needed: false }
    });
    expect(route.view).toBe('connect');
  });
});
