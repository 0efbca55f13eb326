// The introduction: three steps, by keyboard alone, skippable, and never in the way.
import { render, screen, waitFor } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { route } from '../../src/state/route.svelte';
import FirstRun from '../../src/views/account/FirstRun.svelte';
import { links } from '../fixtures/links';
import { account, bridge, expectAccessible, refuse, signedIn, start } from './account.kit';

const preferences = {
  theme: 'system',
  language: null,
  favourites: [],
  recents: [],
  notifications: true,
  autostart: false,
  start_hidden: false,
  close_to_tray: true,
  graph_window_s: 60,
  first_run_done: true,
  reduce_motion: false,
  text_scale_pct: 100
};
const answers = () => ({ ...signedIn(), change_preferences: () => preferences });
const heading = () => screen.getByRole('heading', { level: 1 });

beforeEach(() => start(links.signed_out!()));

describe('first run', () => {
  it('explains the kill switch in its first step and takes the focus at each', async () => {
    const user = userEvent.setup();
    bridge(answers());
    const { container } = render(FirstRun);
    expect(screen.getByText('Step 1 of 3')).toBeTruthy();
    expect(screen.getByText(/the kill switch lets nothing past the tunnel/)).toBeTruthy();
    expect(document.activeElement).toBe(heading());
    await expectAccessible(container);
    await user.click(screen.getByTestId('first-run-next'));
    expect(heading().textContent).toBe('Your account');
    expect(document.activeElement).toBe(heading());
    await expectAccessible(container);
    await user.click(screen.getByTestId('first-run-next'));
    expect(heading().textContent).toBe('Everything is ready');
    expect(screen.getByText(/not signed in/)).toBeTruthy();
    await user.click(screen.getByRole('button', { name: 'Back' }));
    expect(screen.getByText('Step 2 of 3')).toBeTruthy();
  });

  it('goes from start to end with the keyboard alone', async () => {
    const user = userEvent.setup();
    const { of } = bridge({ ...answers(), login: () => account() });
    render(FirstRun);
    const reach = async (testid: string) => {
      for (let presses = 0; presses < 20; presses += 1) {
        await user.tab();
        if ((document.activeElement as HTMLElement).dataset.testid === testid) return;
      }
      throw new Error(`${testid} cannot be reached`);
    };
    await reach('first-run-next');
    await user.keyboard('{Enter}');
    await reach('login-account');
    await user.keyboard('1234 5678{Enter}');
    await waitFor(() => expect(heading().textContent).toBe('Everything is ready'));
    expect(of('login')).toEqual([{ request: { account: '12345678' } }]);
    await reach('first-run-done');
    await user.keyboard(' ');
    await waitFor(() => expect(of('change_preferences')).toEqual([{ patch: { first_run_done: true } }]));
    expect(route.view).toBe('connect');
  });

  it.each([0, 1])('can be skipped at step %s', async (step) => {
    const user = userEvent.setup();
    const ondone = vi.fn();
    const { of } = bridge(answers());
    render(FirstRun, { ondone });
    for (let n = 0; n < step; n += 1) await user.click(screen.getByTestId('first-run-next'));
    await user.click(screen.getByTestId('first-run-skip'));
    await waitFor(() => expect(ondone).toHaveBeenCalledOnce());
    expect(of('change_preferences')).toEqual([{ patch: { first_run_done: true } }]);
  });

  it('leads to the import of a profile', async () => {
    const user = userEvent.setup();
    bridge(answers());
    render(FirstRun);
    await user.click(screen.getByTestId('first-run-next'));
    await user.click(screen.getByRole('button', { name: 'Import a profile' }));
    await waitFor(() => expect(route.view).toBe('servers'));
  });

  it('says that no provider is configured, and that somebody is signed in already', async () => {
    const user = userEvent.setup();
    start(links.no_provider!());
    bridge(answers());
    const { container, unmount } = render(FirstRun);
    await user.click(screen.getByTestId('first-run-next'));
    expect(screen.getByText('No provider is configured')).toBeTruthy();
    expect(screen.queryByTestId('login-account')).toBeNull();
    await expectAccessible(container);
    unmount();
    start(links.disconnected!());
    render(FirstRun);
    await user.click(screen.getByTestId('first-run-next'));
    expect(screen.getByText('You are signed in already.')).toBeTruthy();
    expect(screen.queryByRole('button', { name: 'Import a profile' })).toBeNull();
  });

  it('does not keep anybody when the preference cannot be stored or the helper is away', async () => {
    const user = userEvent.setup();
    const ondone = vi.fn();
    start(links.unreachable!());
    bridge({ change_preferences: refuse('internal') });
    render(FirstRun, { ondone });
    await user.click(screen.getByTestId('first-run-next'));
    expect(screen.getByRole('alert')).toBeTruthy();
    await user.click(screen.getByTestId('first-run-next'));
    await user.click(screen.getByTestId('first-run-done'));
    await waitFor(() => expect(ondone).toHaveBeenCalledOnce());
  });
});
