// The Connect view and the shell, in every state: what they say, which button is first, what keys do, what axe finds.
import { emit } from '@tauri-apps/api/event';
import { render, screen as page, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { tick } from 'svelte';
import { beforeEach, describe, expect, it } from 'vitest';
import App from '../../src/App.svelte';
import { link } from '../../src/state/link.svelte';
import { route } from '../../src/state/route.svelte';
import { screenOf } from '../../src/state/screen';
import Connect from '../../src/views/connect/Connect.svelte';
import { cameraOn, dotsOf, height, pointOf, width } from '../../src/views/connect/map';
import { wishOf } from '../../src/shell/keyboard';
import { preferences } from '../fixtures/answers';
import { hostile } from '../fixtures/hostile';
import { connected, links, linkWith, tunnel } from '../fixtures/links';
import { listing } from '../fixtures/listing';
import { bridge, faultsOf, linkOf, type Asked } from './bridge';

const commandsOf = (asked: Asked[], ...names: string[]) => asked.filter((call) => names.includes(call.command));

async function app(first: string, changes: Record<string, unknown> = {}): Promise<Asked[]> {
  const asked = bridge({ link: linkOf(first), ...changes });
  render(App);
  await waitFor(() => expect(asked.some((call) => call.command === 'ready')).toBe(true));
  await tick();
  return asked;
}

describe('Connect', () => {
  beforeEach(() => void bridge());

  it.each(Object.keys(links))('%s: a word, a reason, one first button, no fault', async (name) => {
    const now = linkOf(name);
    if (name !== 'loading') link.take(now);
    const { container } = render(Connect);
    expect(page.getByTestId('state').textContent?.trim()).not.toBe('');
    expect(page.getByTestId('reason').textContent?.trim()).not.toBe('');
    expect(container.querySelectorAll('[data-primary]')).toHaveLength(1);
    const screen = screenOf(now);
    for (const action of screen.actions) expect(page.getByTestId(action)).toBeTruthy();
    expect(container.querySelectorAll('h1')).toHaveLength(1);
    expect(await faultsOf(container)).toEqual([]);
  });

  it('shows the addresses that the world sees, and says so when nobody knows them', async () => {
    link.take(linkOf('connected'));
    render(Connect);
    expect(page.getByTestId('exit-v4').textContent).toBe('198.51.100.1');
    expect(page.getByTestId('exit-v6').textContent?.trim()).toBe('2001:db8:5::1');
    link.take(linkWith({ ...connected, tunnel: { ...tunnel, exit_addresses: [] } }));
    await tick();
    expect(page.getByTestId('exit-v4').textContent).toBe('Not known yet');
    link.take(
      linkWith({ ...connected, tunnel: { ...tunnel, exit_addresses: ['198.51.100.1'], addresses: ['10.64.0.7/32'] } })
    );
    await tick();
    expect(page.getByTestId('exit-v6').textContent?.trim()).toBe('IPv6 is blocked');
  });

  it('says at once that it asks, and never guesses the state', async () => {
    let answer: (value: unknown) => void = () => undefined;
    bridge({ connect: () => new Promise((resolve) => (answer = resolve)) });
    link.take(linkOf('disconnected'));
    render(Connect);
    await userEvent.click(page.getByTestId('connect'));
    expect(page.getByTestId('connect').textContent).toContain('Connecting…');
    expect(page.getByTestId('connect').getAttribute('aria-busy')).toBe('true');
    expect(page.getByTestId('state').textContent).toBe('Not connected');
    expect(page.getByTestId('reason').textContent).toBe('Asking the helper…');
    link.take(linkOf('connecting'));
    answer(null);
    await waitFor(() => expect(page.getByTestId('state').textContent).toBe('Connecting'));
    expect(page.getByTestId('progress').textContent).toContain('Step 4 of 5');
    expect(page.getByTestId('cancel')).toBeTruthy();
  });

  it('shows a refusal with what to do', async () => {
    bridge({ connect: () => Promise.reject({ code: 'no_server', title: 'none', status: 404, type: 'x', action: '' }) });
    link.take(linkOf('disconnected'));
    render(Connect);
    await userEvent.click(page.getByTestId('connect'));
    expect((await page.findByRole('alert')).textContent).toContain('No server fits what you asked for.');
  });

  it('shows the traffic as a table for those who cannot see a graph', async () => {
    link.take(linkOf('connected'));
    render(Connect);
    const traffic = page.getByTestId('traffic');
    expect(within(traffic).getByRole('img').getAttribute('aria-label')).toContain('Traffic of the last 1 minute');
    await userEvent.click(within(traffic).getByRole('button', { name: 'Show as a table' }));
    expect(within(traffic).getByRole('table')).toBeTruthy();
  });

  it('shows hostile words as words', async () => {
    const place = { ...tunnel.place, city: hostile[0]!, server_name: hostile[1]!, country: hostile[2]! };
    link.take(
      linkWith({
        ...connected,
        tunnel: { ...tunnel, place },
        managed_by: hostile[3]!,
        warnings: [{ code: hostile[5]!, message: hostile[1]! }]
      })
    );
    const { container } = render(Connect);
    expect(container.querySelector('script, img, iframe, svg[onload]')).toBeNull();
    expect(container.textContent).toContain(hostile[0]);
  });
});

describe('App', () => {
  it('speaks, in one polite place, and titles the window with the state', async () => {
    const asked = await app('disconnected');
    await emit('link', linkOf('connected'));
    await tick();
    expect(page.getByTestId('live').textContent).toBe('Connected, Malmö');
    expect(document.title).toBe('Connected – Hamn');
    const words = commandsOf(asked, 'speak').at(-1)?.args as { words: Record<string, string> };
    expect(words.words.quit).toBe('Quit');
  });

  it('goes everywhere by keyboard, focuses each title, and comes back', async () => {
    await app('disconnected');
    const user = userEvent.setup();
    for (const [n, view] of ['connect', 'servers', 'settings', 'account', 'diagnostics', 'about'].entries()) {
      await user.keyboard(`{Control>}${n + 1}{/Control}`);
      expect(route.view).toBe(view);
      await waitFor(() => expect(document.activeElement?.tagName).toBe('H1'));
      expect(document.querySelectorAll('h1')).toHaveLength(1);
      expect(page.getByTestId(`nav-${view}`).getAttribute('aria-current')).toBe('page');
    }
    await user.keyboard('{Escape}');
    expect(route.view).toBe('diagnostics');
    await user.keyboard('{Alt>}{ArrowLeft}{/Alt}');
    expect(route.view).toBe('account');
    await user.keyboard('{Control>}k{/Control}');
    expect(route.view).toBe('servers');
    await waitFor(() => expect(document.activeElement?.getAttribute('data-testid')).toBe('server-search'));
  });

  it('connects and disconnects by Ctrl+Enter', async () => {
    const asked = await app('disconnected');
    const user = userEvent.setup();
    await user.keyboard('{Control>}{Enter}{/Control}');
    await emit('link', linkOf('connected'));
    await tick();
    await user.keyboard('{Control>}{Enter}{/Control}');
    expect(commandsOf(asked, 'connect', 'disconnect').map((call) => call.command)).toEqual(['connect', 'disconnect']);
    expect(commandsOf(asked, 'connect')[0]?.args).toEqual({
      request: { destination: { kind: 'best' }, if_needed: false }
    });
  });

  it('asks before a link from outside changes anything', async () => {
    const asked = await app('disconnected');
    await emit('deep_link', { destination: { kind: 'city', city: 'mma' } });
    await tick();
    expect(commandsOf(asked, 'connect')).toHaveLength(0);
    await waitFor(() => expect(document.querySelector('dialog')?.textContent).toContain('Malmö'));
    await userEvent.click(page.getByTestId('deep-link-accept'));
    expect(commandsOf(asked, 'connect')[0]?.args).toEqual({
      request: { destination: { kind: 'city', city: 'mma' }, if_needed: false }
    });
    expect(document.querySelector('dialog')?.textContent).toBe('');
  });

  it('is loud about lost protection in every view', async () => {
    await app('not_protected');
    for (const view of ['connect', 'servers', 'settings', 'account', 'diagnostics', 'about'] as const) {
      route.go(view);
      await tick();
      const banner = page.getAllByTestId('banner').find((entry) => entry.dataset.kind === 'not_protected');
      expect([banner?.getAttribute('role'), banner?.getAttribute('aria-live')]).toEqual(['alert', 'assertive']);
    }
  });

  it('follows the bridge to a view, and shows the first run alone', async () => {
    await app('disconnected', { preferences: { ...preferences, first_run_done: false } });
    expect(page.queryByTestId('nav-connect')).toBeNull();
    expect(document.querySelectorAll('h1')).toHaveLength(1);
    await emit('preferences', preferences);
    await emit('navigate', { view: 'about' });
    await tick();
    expect(route.view).toBe('about');
    expect(page.getByTestId('nav-about')).toBeTruthy();
  });

  it('keeps favourites and recents one click away, each once', async () => {
    const asked = await app('disconnected', {
      preferences: {
        ...preferences,
        recents: [...preferences.favourites, { kind: 'server', server: 'vpn01', exit: null }]
      }
    });
    await waitFor(() => expect(page.getAllByTestId('quick-place')).toHaveLength(4));
    await userEvent.click(page.getByRole('button', { name: /Germany/ }));
    expect(commandsOf(asked, 'connect')[0]?.args).toEqual({
      request: { destination: { kind: 'country', country: 'de' }, if_needed: false }
    });
  });
});

describe('keys', () => {
  const press = (key: string, more: KeyboardEventInit = {}, target: EventTarget = document.body) => {
    const event = new KeyboardEvent('keydown', { key, bubbles: true, ...more });
    Object.defineProperty(event, 'target', { value: target });
    return wishOf(event, false);
  };

  it('leaves alone what belongs to fields and dialogs', () => {
    const input = document.createElement('input');
    expect(press('Escape', {}, input)).toBeNull();
    expect(press('Escape')).toEqual({ wish: 'back' });
    expect(press('k')).toBeNull();
    expect(press('7', { ctrlKey: true })).toBeNull();
    expect(press('Enter', { ctrlKey: true, shiftKey: true })).toBeNull();
  });

  it('turns the way back around in right-to-left languages', () => {
    expect(wishOf(new KeyboardEvent('keydown', { key: 'ArrowRight', altKey: true }), true)).toEqual({ wish: 'back' });
    expect(wishOf(new KeyboardEvent('keydown', { key: 'ArrowLeft', altKey: true }), true)).toBeNull();
  });
});

describe('map', () => {
  it('puts cities on the drawing and no nonsense', () => {
    const dots = dotsOf(listing);
    expect(dots).toHaveLength(4);
    for (const dot of dots) expect(dot.x > 0 && dot.x < width && dot.y > 0 && dot.y < height).toBe(true);
    expect([pointOf(200, 0), pointOf(Number.NaN, 0)]).toEqual([null, null]);
  });

  it('never moves past its edges', () => {
    for (const point of [
      [0, 0],
      [width, height],
      [480, 100]
    ] as [number, number][]) {
      const camera = cameraOn(point, 2.4);
      expect(
        camera.x <= 0 && camera.x >= width - width * 2.4 && camera.y <= 0 && camera.y >= height - height * 2.4
      ).toBe(true);
    }
    expect(cameraOn(null, 2.4).scale).toBe(1);
  });
});
