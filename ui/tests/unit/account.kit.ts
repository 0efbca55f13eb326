// What the tests of account, diagnostics and about share: a bridge that answers, dialogs that jsdom lacks, and axe.
import { mockIPC, mockWindows } from '@tauri-apps/api/mocks';
import axe from 'axe-core';
import { expect } from 'vitest';
import type { AccountInfo, Check, CheckResult, DeviceEntry, DeviceList, Link, Problem } from '../../src/bridge/types';
import { link } from '../../src/state/link.svelte';
import { route } from '../../src/state/route.svelte';
import { session } from '../../src/views/account/session.svelte';

export type Answers = Record<string, (args: Record<string, unknown>) => unknown>;

export interface Bridge {
  calls: { command: string; args: Record<string, unknown> }[];
  of: (command: string) => Record<string, unknown>[];
  answers: Answers;
}

/** A bridge that gives these answers; a command without one is refused. */
export function bridge(answers: Answers = {}): Bridge {
  const calls: Bridge['calls'] = [];
  mockWindows('main');
  mockIPC(
    (command, payload) => {
      const args = (payload ?? {}) as Record<string, unknown>;
      calls.push({ command, args: structuredClone(args) });
      const answer = answers[command];
      if (!answer) throw problem('unknown', `no answer for ${command}`);
      return answer(args);
    },
    { shouldMockEvents: true }
  );
  return { calls, answers, of: (command) => calls.filter((call) => call.command === command).map((call) => call.args) };
}

/** Everything as at the start, with this link. */
export function start(current?: Link): void {
  link.reset();
  session.reset();
  route.view = 'connect';
  if (current) link.take(current);
  fillDialogs();
}

// jsdom cannot draw, and says so each time that axe measures an icon.
HTMLCanvasElement.prototype.getContext = () => null;

// jsdom knows the element, not its methods. The browser gives the focus back to whoever had it; so does this.
function fillDialogs(): void {
  const before = new WeakMap<HTMLDialogElement, Element | null>();
  HTMLDialogElement.prototype.showModal = function () {
    before.set(this, document.activeElement);
    this.setAttribute('open', '');
    this.querySelector<HTMLElement>('button')?.focus();
  };
  HTMLDialogElement.prototype.close = function () {
    if (!this.open) return;
    this.removeAttribute('open');
    const element = before.get(this);
    if (element instanceof HTMLElement) element.focus();
    this.dispatchEvent(new Event('close'));
  };
}

export const problem = (code: string, title = 'Title', detail: string | null = null): Problem => ({
  type: `urn:hamn:problem:${code}`,
  title,
  status: 500,
  code: code as Problem['code'],
  detail,
  action: 'What to do.'
});

export const refuse = (code: string, title?: string, detail?: string) => (): never => {
  throw problem(code, title, detail ?? null);
};

export const account = (changes: Partial<AccountInfo> = {}): AccountInfo => ({
  logged_in: true,
  id: 'acc_1',
  status: 'active',
  paid_until: new Date(Date.now() + 10.5 * 86_400_000).toISOString(),
  device_limit: 5,
  addons: [],
  device: 'd2',
  ...changes
});

export const device = (id: string, changes: Partial<DeviceEntry> = {}): DeviceEntry => ({
  id,
  name: `Device ${id}`,
  platform: 'Linux',
  created_at: '2026-03-02T10:00:00Z',
  current: false,
  ...changes
});

export const devices = (...list: DeviceEntry[]): DeviceList => ({ limit: 5, devices: list });

export const threeDevices = devices(device('d1'), device('d2', { current: true }), device('d3'));

/** Answers of a helper where somebody is signed in. */
export const signedIn = (): Answers => ({
  account: () => account(),
  devices: () => threeDevices,
  settings: () => ({
    managed_by: null,
    settings: [{ key: 'key_rotation_days', value: 7, default: 7, source: 'default', locked: false, needs_admin: false }]
  })
});

export const check = (id: string, result: CheckResult, changes: Partial<Check> = {}): Check => ({
  id,
  title: `Title of ${id}`,
  result,
  reason: `Reason of ${id}.`,
  code: '',
  values: {},
  ...changes
});

/** No violation that can be seen without a layout. */
export async function expectAccessible(container: Element): Promise<void> {
  const found = await axe.run(container, {
    rules: {
      'color-contrast': { enabled: false },
      region: { enabled: false },
      'page-has-heading-one': { enabled: false }
    }
  });
  expect(
    found.violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.html).join(' ')}`)
  ).toEqual([]);
}

/** Hostile text stayed text: nothing of it became an element, and nothing of it ran. */
export function expectInert(container: Element): void {
  expect(
    container.querySelectorAll('script, iframe, img, style, object, embed, a[href], [onerror], [onload]')
  ).toHaveLength(0);
  expect((window as unknown as { pwned?: number }).pwned).toBeUndefined();
}

/** An answer that comes when the test says so. */
export function later<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (reason: unknown) => void } {
  let resolve!: (value: T) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
