// The account view: signed out, signed in, devices, key, sign-out, a full account, and every state without an answer.
import { render, screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { tick } from 'svelte';
import { beforeEach, describe, expect, it } from 'vitest';
import type { AccountInfo, DeviceList } from '../../src/bridge/types';
import { link } from '../../src/state/link.svelte';
import { route } from '../../src/state/route.svelte';
import Account from '../../src/views/account/Account.svelte';
import { withoutSpaces } from '../../src/views/account/words';
import { hostile } from '../fixtures/hostile';
import { blockedFor, links, linkWith, statusWith } from '../fixtures/links';
import {
  account,
  bridge,
  device,
  devices,
  expectAccessible,
  expectInert,
  later,
  problem,
  refuse,
  signedIn,
  start,
  threeDevices
} from './account.kit';

const linkOf = (name: string) => links[name]!();
const field = () => screen.getByTestId<HTMLInputElement>('login-account');
const signedOutStatus = () => statusWith({ provider: { ...statusWith().provider, logged_in: false } });

beforeEach(() => start(linkOf('disconnected')));

describe('signed out', () => {
  beforeEach(() => start(linkOf('signed_out')));

  it('asks for the account alone, masked, and shows the rest on demand', async () => {
    const user = userEvent.setup();
    bridge();
    const { container } = render(Account);
    expect(field().type).toBe('password');
    expect(field().autocomplete).toBe('username');
    expect(screen.queryByTestId('login-password')).toBeNull();
    await user.click(screen.getByRole('button', { name: /password or one-time code/ }));
    const password = screen.getByTestId<HTMLInputElement>('login-password');
    expect(document.activeElement).toBe(password);
    expect(password.autocomplete).toBe('current-password');
    expect(screen.getByTestId<HTMLInputElement>('login-otp').autocomplete).toBe('one-time-code');
    await expectAccessible(container);
  });

  it('shows and hides what is typed', async () => {
    const user = userEvent.setup();
    bridge();
    render(Account);
    await user.click(screen.getByRole('button', { name: 'Show the account number' }));
    expect(field().type).toBe('text');
    await user.click(screen.getByRole('button', { name: 'Hide the account number' }));
    expect(field().type).toBe('password');
  });

  it('sends a pasted number without its spaces when Enter is pressed', async () => {
    const user = userEvent.setup();
    const { of } = bridge({ ...signedIn(), login: () => account() });
    render(Account);
    await user.click(field());
    await user.paste(' 1234 5678\u00a09012\u200b 3456 ');
    await user.keyboard('{Enter}');
    await waitFor(() => expect(of('login')).toEqual([{ request: { account: '1234567890123456' } }]));
  });

  it('leaves the spaces of a password alone and strips those of a code', async () => {
    const user = userEvent.setup();
    const { of } = bridge({ ...signedIn(), login: () => account() });
    render(Account);
    await user.type(field(), 'harbour');
    await user.click(screen.getByRole('button', { name: /password or one-time code/ }));
    await user.type(screen.getByTestId('login-password'), ' a b ');
    await user.type(screen.getByTestId('login-otp'), '123 456');
    await user.click(screen.getByTestId('login-submit'));
    await waitFor(() =>
      expect(of('login')).toEqual([{ request: { account: 'harbour', password: ' a b ', otp: '123456' } }])
    );
  });

  it('sends nothing without an account, and says so', async () => {
    const user = userEvent.setup();
    const { of } = bridge({ login: () => account() });
    const { container } = render(Account);
    await user.type(field(), '   ');
    await user.click(screen.getByTestId('login-submit'));
    expect(screen.getByRole('alert').textContent).toContain('Enter your account number');
    expect(field().getAttribute('aria-invalid')).toBe('true');
    expect(document.activeElement).toBe(field());
    expect(of('login')).toEqual([]);
    await expectAccessible(container);
  });

  it('empties password and code at the moment of sending, and everything once signed in', async () => {
    const user = userEvent.setup();
    const answer = later<AccountInfo>();
    bridge({ ...signedIn(), login: () => answer.promise });
    const { container } = render(Account);
    const input = field();
    await user.type(input, '1234567890');
    await user.click(screen.getByRole('button', { name: /password or one-time code/ }));
    const password = screen.getByTestId<HTMLInputElement>('login-password');
    const otp = screen.getByTestId<HTMLInputElement>('login-otp');
    await user.type(password, 'correct horse');
    await user.type(otp, '654321');
    await user.click(screen.getByTestId('login-submit'));
    expect([password.value, otp.value]).toEqual(['', '']);
    answer.resolve(account());
    await screen.findByText('Your plan');
    expect(input.value).toBe('');
    expect(container.innerHTML).not.toMatch(/1234567890|correct horse|654321/);
    expect(JSON.stringify(link.current)).not.toContain('1234567890');
  });

  it('asks once while an answer is awaited', async () => {
    const user = userEvent.setup();
    const { of } = bridge({ login: () => later<AccountInfo>().promise });
    render(Account);
    await user.type(field(), '1234{Enter}');
    await user.click(screen.getByTestId('login-submit'));
    await user.type(field(), '{Enter}');
    expect(of('login')).toHaveLength(1);
    expect(screen.getByTestId('login-submit').getAttribute('aria-busy')).toBe('true');
  });

  it.each([
    'credentials_rejected',
    'api_unreachable',
    'offline',
    'too_many_requests',
    'account_expired',
    'internal',
    'unknown'
  ])('says what to do about %s and keeps only the account number, to be corrected', async (code) => {
    const user = userEvent.setup();
    bridge({ login: refuse(code, 'Title of the helper', '<b>detail</b>') });
    const { container } = render(Account);
    await user.click(screen.getByRole('button', { name: /password or one-time code/ }));
    await user.type(screen.getByTestId('login-password'), 'hunter2');
    await user.type(field(), '1234 5678{Enter}');
    const alert = await screen.findByRole('alert');
    expect(alert.textContent).toContain('<b>detail</b>');
    expect(alert.querySelectorAll('p').length).toBeGreaterThanOrEqual(3);
    expect(field().value).toBe('1234 5678');
    expect(screen.getByTestId<HTMLInputElement>('login-password').value).toBe('');
    expect(document.activeElement).toBe(field());
    expectInert(container);
    await expectAccessible(container);
  });

  it('moves to the plan and says so, then follows the link', async () => {
    const user = userEvent.setup();
    bridge({ ...signedIn(), login: () => account() });
    render(Account);
    await user.type(field(), '1234{Enter}');
    const plan = await screen.findByText('Your plan');
    await waitFor(() => expect(document.activeElement).toBe(plan));
    expect(screen.getByText('You are signed in.')).toBeTruthy();
    link.take(linkWith(statusWith()));
    await tick();
    expect(screen.getByText('Your plan')).toBeTruthy();
    link.take(linkWith(signedOutStatus()));
    expect(await screen.findByTestId('login-account')).toBeTruthy();
  });
});

describe('signed in', () => {
  it('shows plan, days, limit, extras and this computer', async () => {
    bridge({ ...signedIn(), account: () => account({ addons: ['static-ip', 'port'] }) });
    const { container } = render(Account);
    expect((await screen.findByTestId('account-status')).textContent).toContain('Active');
    expect(screen.getByText('11 days left')).toBeTruthy();
    expect(screen.getByText('static-ip')).toBeTruthy();
    const meter = await screen.findByRole('meter', { name: 'Devices in use' });
    expect([meter.getAttribute('aria-valuenow'), meter.getAttribute('aria-valuemax')]).toEqual(['3', '5']);
    expect(screen.getByText('3 of 5 devices')).toBeTruthy();
    const rows = screen.getAllByTestId('device-row');
    expect(within(rows[1]!).getByText('This computer')).toBeTruthy();
    expect(within(rows[1]!).queryByRole('button')).toBeNull();
    await expectAccessible(container);
  });

  it.each([
    ['active', 'Active', 'active'],
    ['expired', 'Expired', 'expired'],
    ['suspended <i>', 'suspended <i>', 'other'],
    [null, 'Unknown', 'other']
  ])('says the status %s in words', async (status, words, kind) => {
    bridge({ ...signedIn(), account: () => account({ status }) });
    render(Account);
    const shown = await screen.findByTestId('account-status');
    expect(shown.textContent?.trim()).toBe(words);
    expect(shown.dataset.status).toBe(kind);
    expect(shown.querySelector('svg')).toBeTruthy();
  });

  it.each([
    [0.5, '1 day left'],
    [-0.5, 'Ends today'],
    [-3, 'This time is over']
  ])('counts %s days', async (days, words) => {
    const paid_until = new Date(Date.now() + days * 86_400_000).toISOString();
    bridge({ ...signedIn(), account: () => account({ paid_until }) });
    render(Account);
    expect(await screen.findByText(words)).toBeTruthy();
  });

  it('shows a date that is none as it is, and a missing one in words', async () => {
    const { answers } = bridge({ ...signedIn(), account: () => account({ paid_until: '<b>soon</b>' }) });
    const { container, unmount } = render(Account);
    expect(await screen.findByText('<b>soon</b>')).toBeTruthy();
    expectInert(container);
    unmount();
    answers.account = () => account({ paid_until: null });
    render(Account);
    expect(await screen.findByText('The provider does not say')).toBeTruthy();
  });

  it('waits in words, then says what failed and asks again', async () => {
    const user = userEvent.setup();
    const answer = later<AccountInfo>();
    const { answers } = bridge({ ...signedIn(), account: () => answer.promise, devices: refuse('offline') });
    const { container } = render(Account);
    expect(screen.getByText(/Asking the provider/)).toBeTruthy();
    answer.reject(problem('api_unreachable'));
    const plan = screen.getByText('Your plan').closest('section')!;
    await within(plan).findByRole('alert');
    await expectAccessible(container);
    Object.assign(answers, signedIn());
    await user.click(within(plan).getByRole('button', { name: 'Try again' }));
    expect((await screen.findByTestId('account-status')).textContent).toContain('Active');
    expect(await screen.findAllByTestId('device-row')).toHaveLength(3);
    expect(screen.queryByRole('alert')).toBeNull();
  });

  it('says that no device is registered', async () => {
    bridge({ ...signedIn(), devices: () => devices() });
    render(Account);
    expect(await screen.findByText(/No device is registered/)).toBeTruthy();
    expect(screen.getByText(/gets its key when it connects/)).toBeTruthy();
  });

  it('shows the sign-in form when the helper says that nobody is signed in after all', async () => {
    bridge({ ...signedIn(), account: () => account({ logged_in: false }) });
    render(Account);
    expect(await screen.findByTestId('login-account')).toBeTruthy();
  });

  it.each(['device_revoked', 'credentials_rejected', 'logged_out'] as const)(
    'offers to sign in again after %s',
    async (reason) => {
      const user = userEvent.setup();
      start(blockedFor(reason));
      const { of } = bridge({ ...signedIn(), login: () => account() });
      const { container } = render(Account);
      await user.click(await screen.findByRole('button', { name: 'Sign in again' }));
      await waitFor(() => expect(document.activeElement?.id).toBe('account-sign-in'));
      await expectAccessible(container);
      await user.type(field(), '1234{Enter}');
      await waitFor(() => expect(of('login')).toHaveLength(1));
      expect(await screen.findByText('Your plan')).toBeTruthy();
    }
  );

  it('drops an answer that a later question overtook', async () => {
    const first = later<AccountInfo>();
    const { answers } = bridge({ ...signedIn(), account: () => first.promise });
    render(Account);
    await waitFor(() => expect(screen.getByText(/Asking the provider/)).toBeTruthy());
    answers.account = () => account({ status: 'expired' });
    link.take(linkOf('signed_out'));
    await screen.findByTestId('login-account');
    link.take(linkOf('disconnected'));
    await screen.findByText('Expired');
    first.resolve(account());
    await tick();
    expect(screen.getByTestId('account-status').textContent).toContain('Expired');
  });
});

describe('devices', () => {
  const removeButton = (id: string) => screen.getByRole('button', { name: new RegExp(`Remove .*Device ${id}`) });

  it('asks before it removes one, and gives the focus back when the answer is no', async () => {
    const user = userEvent.setup();
    const { of } = bridge(signedIn());
    const { container } = render(Account);
    await screen.findAllByTestId('device-row');
    const button = removeButton('d1');
    await user.click(button);
    const dialog = screen.getByRole('dialog', { name: 'Remove this device?' });
    expect(within(dialog).getByText('Device d1')).toBeTruthy();
    await expectAccessible(container);
    await user.click(within(dialog).getByRole('button', { name: 'Cancel' }));
    expect(document.activeElement).toBe(button);
    expect(of('remove_device')).toEqual([]);
  });

  it('removes it, says so, and moves the focus to the next one, the last one, then the heading', async () => {
    const user = userEvent.setup();
    let left = threeDevices.devices;
    const { of } = bridge({
      ...signedIn(),
      remove_device: ({ id }) => {
        left = left.filter((one) => one.id !== id);
        return devices(...left);
      }
    });
    render(Account);
    await screen.findAllByTestId('device-row');
    await user.click(removeButton('d1'));
    await user.click(within(screen.getByRole('dialog')).getByRole('button', { name: 'Remove' }));
    await waitFor(() => expect(screen.getAllByTestId('device-row')).toHaveLength(2));
    expect(of('remove_device')).toEqual([{ id: 'd1' }]);
    expect(screen.getByText(/Removed: .*Device d1/)).toBeTruthy();
    await waitFor(() => expect(document.activeElement).toBe(removeButton('d3')));
    await user.click(removeButton('d3'));
    await user.click(within(screen.getByRole('dialog')).getByRole('button', { name: 'Remove' }));
    await waitFor(() => expect(document.activeElement?.id).toBe('account-devices'));
  });

  it('says in the question why it could not', async () => {
    const user = userEvent.setup();
    bridge({ ...signedIn(), remove_device: refuse('not_found') });
    const { container } = render(Account);
    await screen.findAllByTestId('device-row');
    await user.click(removeButton('d3'));
    const dialog = screen.getByRole('dialog');
    await user.click(within(dialog).getByRole('button', { name: 'Remove' }));
    expect(await within(dialog).findByRole('alert')).toBeTruthy();
    expect(screen.getAllByTestId('device-row')).toHaveLength(3);
    await expectAccessible(container);
  });

  it('can be asked again after Escape closed the question while it was working', async () => {
    const user = userEvent.setup();
    const answer = later<DeviceList>();
    bridge({ ...signedIn(), remove_device: () => answer.promise });
    render(Account);
    await screen.findAllByTestId('device-row');
    await user.click(removeButton('d1'));
    const dialog = screen.getByRole<HTMLDialogElement>('dialog');
    await user.click(within(dialog).getByRole('button', { name: 'Remove' }));
    dialog.close();
    answer.reject(problem('internal'));
    expect(await screen.findByRole('alert')).toBeTruthy();
    await user.click(removeButton('d3'));
    expect(within(screen.getByRole('dialog')).getByText('Device d3')).toBeTruthy();
  });

  it('warns in words when all places are taken', async () => {
    bridge({ ...signedIn(), devices: () => ({ ...threeDevices, limit: 3 }) });
    render(Account);
    expect(await screen.findByText(/All places are taken/)).toBeTruthy();
  });

  it('shows a thousand hostile names as text, in lists of bounded length', async () => {
    for (let at = 0; at < hostile.length; at += 200) {
      const names = hostile.slice(at, at + 200);
      start(linkOf('disconnected'));
      bridge({
        ...signedIn(),
        account: () => account({ status: names[0]!, id: names[1]!, addons: names.slice(0, 60), paid_until: names[2]! }),
        // Equal ids too: nothing of the provider's is a key.
        devices: () => devices(...names.map((name) => device('same', { name, platform: name, created_at: name })))
      });
      const { container, unmount } = render(Account);
      const rows = await screen.findAllByTestId('device-row');
      expect(rows).toHaveLength(names.length);
      rows.forEach((row, index) => {
        const name = names[index]!;
        const shown = row.querySelector('.name')?.textContent?.trim();
        expect(shown).toBe(withoutSpaces(name) ? name.trim() : 'Device without a name');
      });
      expectInert(container);
      unmount();
    }
  }, 60_000);

  it('cuts a list that is longer than any account', async () => {
    bridge({ ...signedIn(), devices: () => devices(...Array.from({ length: 5000 }, (_, n) => device(`x${n}`))) });
    render(Account);
    expect(await screen.findAllByTestId('device-row')).toHaveLength(200);
    expect(screen.getByText(/longer than the window shows/)).toBeTruthy();
  }, 30_000);
});

describe('too many devices', () => {
  it('lets choose a device, removes it, and connects to where the user wanted', async () => {
    const user = userEvent.setup();
    start(blockedFor('too_many_devices'));
    const full = devices(device('d1'), device('d3'), device('d4'));
    const { of } = bridge({
      ...signedIn(),
      devices: () => full,
      remove_device: () => devices(device('d1'), device('d4')),
      connect: () => ({ changed: true, status: statusWith() })
    });
    const { container } = render(Account);
    const flow = await screen.findByTestId('too-many-devices');
    const go = await within(flow).findByRole('button', { name: 'Remove and connect' });
    expect(go.getAttribute('aria-disabled')).toBe('true');
    await user.click(go);
    expect(of('remove_device')).toEqual([]);
    await expectAccessible(container);
    await user.click(within(flow).getByRole('radio', { name: /Device d3/ }));
    await user.click(go);
    await waitFor(() =>
      expect(of('connect')).toEqual([{ request: { destination: { kind: 'city', city: 'malmo' }, if_needed: true } }])
    );
    expect(of('remove_device')).toEqual([{ id: 'd3' }]);
    expect(screen.getByText('Removed. Hamn connects.')).toBeTruthy();
    await waitFor(() => expect(document.activeElement?.id).toBe('account-devices'));
  });

  it('appears when the helper answers so, and says why a removal failed', async () => {
    const user = userEvent.setup();
    const { of } = bridge({
      ...signedIn(),
      account: refuse('too_many_devices'),
      remove_device: refuse('api_unreachable')
    });
    render(Account);
    const flow = await screen.findByTestId('too-many-devices');
    await user.click(await within(flow).findByRole('radio', { name: /Device d1/ }));
    expect(within(flow).queryByRole('radio', { name: /Device d2/ })).toBeNull();
    await user.click(within(flow).getByRole('button', { name: 'Remove and connect' }));
    expect(await within(flow).findByRole('alert')).toBeTruthy();
    expect(of('connect')).toEqual([]);
  });
});

describe('key', () => {
  it('is replaced on request, with its age and rhythm in words', async () => {
    const user = userEvent.setup();
    const { of } = bridge({ ...signedIn(), rotate_key: () => threeDevices });
    const { container } = render(Account);
    expect(await screen.findByText('every 7 days')).toBeTruthy();
    await user.click(await screen.findByRole('button', { name: /Replace this computer/ }));
    await waitFor(() => expect(of('rotate_key')).toHaveLength(1));
    expect((await screen.findAllByText(/The key is replaced/)).length).toBeGreaterThan(0);
    await expectAccessible(container);
    await user.click(screen.getByRole('button', { name: 'Change in Settings' }));
    expect(route.view).toBe('settings');
  });

  it('says why it was not, and who fixes the rhythm', async () => {
    const user = userEvent.setup();
    const { answers } = bridge({ ...signedIn(), rotate_key: refuse('api_unreachable') });
    answers.settings = () => ({
      settings: [
        { key: 'key_rotation_days', value: 1, default: 7, source: 'managed', locked: true, needs_admin: false }
      ]
    });
    render(Account);
    expect(await screen.findByText('every day')).toBeTruthy();
    expect(screen.getByText('Managed by your organisation')).toBeTruthy();
    expect(screen.queryByRole('button', { name: 'Change in Settings' })).toBeNull();
    await user.click(await screen.findByRole('button', { name: /Replace this computer/ }));
    expect(await screen.findByRole('alert')).toBeTruthy();
  });
});

describe('sign-out', () => {
  const target = (kind: 'best' | 'profile') => ({
    want: 'connected' as const,
    destination: kind === 'best' ? { kind } : { kind, name: 'own' }
  });
  const protection = (kill_switch: 'off' | 'while_connected' | 'always') => ({
    ...statusWith().protection,
    kill_switch
  });

  it.each([
    ['ends, unprotected', { target: target('best') }, /kill switch ends with it/],
    [
      'ends without kill switch',
      { target: target('best'), protection: protection('off') },
      /Your tunnel ends\. After that/
    ],
    [
      'ends under lockdown',
      { target: target('best'), protection: protection('always') },
      /Your tunnel ends\. Lockdown stays on/
    ],
    ['profile', { target: target('profile') }, /profile of your own/],
    ['idle', {}, /No tunnel is up/],
    ['idle under lockdown', { protection: protection('always') }, /^\s*Lockdown stays on/]
  ])('says what happens: %s', async (_, changes, words) => {
    const user = userEvent.setup();
    start(linkWith(statusWith(changes)));
    bridge(signedIn());
    const { container } = render(Account);
    await user.click(await screen.findByTestId('sign-out'));
    expect(screen.getByTestId('sign-out-effect').textContent).toMatch(words);
    await expectAccessible(container);
  });

  it('signs out, says so, and puts the focus on the form', async () => {
    const user = userEvent.setup();
    const { of } = bridge({ ...signedIn(), logout: () => account({ logged_in: false }) });
    render(Account);
    await user.click(await screen.findByTestId('sign-out'));
    await user.click(within(screen.getByRole('dialog')).getByRole('button', { name: 'Sign out' }));
    await waitFor(() => expect(document.activeElement?.id).toBe('account-sign-in'));
    expect(of('logout')).toHaveLength(1);
    expect(screen.getByText('You are signed out.')).toBeTruthy();
    expect(document.body.innerHTML).not.toContain('acc_1');
  });

  it('says why it may not', async () => {
    const user = userEvent.setup();
    bridge({ ...signedIn(), logout: refuse('not_allowed') });
    render(Account);
    const button = await screen.findByTestId('sign-out');
    await user.click(button);
    const dialog = screen.getByRole('dialog');
    await user.click(within(dialog).getByRole('button', { name: 'Sign out' }));
    expect(await within(dialog).findByRole('alert')).toBeTruthy();
    await user.click(within(dialog).getByRole('button', { name: 'Cancel' }));
    expect(document.activeElement).toBe(button);
  });
});

describe('without a status', () => {
  it('offers the import of a profile when no provider is configured', async () => {
    const user = userEvent.setup();
    start(linkOf('no_provider'));
    const { calls } = bridge();
    const { container } = render(Account);
    expect(screen.getByText('No provider is configured')).toBeTruthy();
    await expectAccessible(container);
    await user.click(screen.getByRole('button', { name: 'Import a profile' }));
    expect(route.view).toBe('servers');
    expect(calls.filter((call) => !call.command.startsWith('plugin:'))).toEqual([]);
  });

  it.each(['unreachable', 'untrusted', 'not_allowed', 'incompatible'])('says %s and asks again', async (name) => {
    const user = userEvent.setup();
    start(linkOf(name));
    bridge({ ...signedIn(), link: () => linkOf('disconnected') });
    const { container } = render(Account);
    expect(screen.getByRole('alert')).toBeTruthy();
    await expectAccessible(container);
    await user.click(screen.getByRole('button', { name: 'Try again' }));
    expect(await screen.findByText('Your plan')).toBeTruthy();
  });

  it('waits in words at the start', async () => {
    start();
    bridge();
    const { container } = render(Account);
    expect(screen.getByText('Asking the helper…')).toBeTruthy();
    await expectAccessible(container);
  });
});
