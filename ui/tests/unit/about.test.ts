// About: versions, licence, what is sent, keys, and the licences of others, with nothing that leads outside.
import { execFileSync } from 'node:child_process';
import { render, screen, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { beforeEach, describe, expect, it } from 'vitest';
import packageJson from '../../package.json';
import About from '../../src/views/about/About.svelte';
import licences from '../../src/views/about/licences.json';
import { links } from '../fixtures/links';
import { bridge, expectAccessible, refuse, start } from './account.kit';

const versions = { window: '0.1.0', tauri: '2.12.5', webview: '2.50.6', helper: { helper: '0.1.0', api: 1 } };

beforeEach(() => start(links.connected!()));

describe('about', () => {
  it('names versions, licence, data and keys, and holds no link', async () => {
    bridge({ versions: () => versions });
    const { container } = render(About);
    const list = await screen.findByTestId('versions');
    expect(list.textContent).toContain('2.50.6');
    expect(screen.getByText(/Mozilla Public License 2.0/)).toBeTruthy();
    expect(screen.getByText(/Nothing about you without your asking/)).toBeTruthy();
    const keys = within(screen.getByRole('table'))
      .getAllByRole('row')
      .map((row) => row.querySelector('td')?.textContent?.replace(/\s+/g, '') ?? '');
    expect(keys.slice(1)).toEqual(['Ctrl+1toCtrl+6', 'Ctrl+K', 'Ctrl+Enter', 'EscorAlt+←']);
    expect(container.querySelectorAll('a, img, iframe')).toHaveLength(0);
    await expectAccessible(container);
  });

  it('opens the licence of each package', async () => {
    const user = userEvent.setup();
    bridge({ versions: () => versions });
    const { container } = render(About);
    const all = within(screen.getByTestId('licences')).getAllByRole('listitem');
    expect(all).toHaveLength(licences.packages.length);
    await user.click(all[0]!.querySelector('summary')!);
    expect(all[0]!.textContent).toContain(licences.packages[0]!.licence);
    await expectAccessible(container);
  });

  it('says why it has no versions and asks again', async () => {
    const user = userEvent.setup();
    const { answers } = bridge({ versions: refuse('internal') });
    render(About);
    expect(await screen.findByRole('alert')).toBeTruthy();
    answers.versions = () => versions;
    await user.click(screen.getByRole('button', { name: 'Try again' }));
    expect(await screen.findByTestId('versions')).toBeTruthy();
  });
});

describe('licences of others', () => {
  it('name every run-time package, with a licence and its text', () => {
    const names = licences.packages.map((entry) => entry.name);
    expect(names).toEqual(expect.arrayContaining([...Object.keys(packageJson.dependencies), 'svelte']));
    for (const entry of licences.packages) {
      expect(entry.licence).toMatch(/^[A-Za-z0-9.\- ()]+$/);
      expect(entry.text.length, entry.name).toBeGreaterThan(100);
    }
  });

  it('are those of the lock file', () => {
    execFileSync(process.execPath, ['scripts/licences.mjs', '--check'], { stdio: 'pipe' });
  });
});
