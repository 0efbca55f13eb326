// Stands in for the bridge in a plain browser: answers commands from fixtures and sends events when a test says so.
// `install` runs in the page before anything else, so it may use nothing from outside itself.
import type { Page } from '@playwright/test';
import type { Link, Preferences } from '../../src/bridge/types';
import { answers, preferences } from '../fixtures/answers';

interface Shim {
  answers: Record<string, unknown>;
  /** Commands that were asked, in order. */
  asked: { command: string; args: unknown }[];
  emit: (event: string, payload: unknown) => void;
}

declare global {
  interface Window {
    hamnShim: Shim;
    pwned?: unknown;
  }
}

function install(initial: Record<string, unknown>): void {
  const callbacks = new Map<number, (value: unknown) => void>();
  const listeners = new Map<number, { event: string; handler: number }>();
  let last = 0;
  const shim: Shim = {
    answers: initial,
    asked: [],
    emit: (event, payload) => {
      for (const [id, listener] of listeners)
        if (listener.event === event) callbacks.get(listener.handler)?.({ event, id, payload });
    }
  };
  const answer = (command: string, args: Record<string, unknown>): unknown => {
    if (command === 'plugin:event|listen') {
      last += 1;
      listeners.set(last, { event: String(args.event), handler: Number(args.handler) });
      return last;
    }
    if (command === 'plugin:event|unlisten') return listeners.delete(Number(args.eventId));
    shim.asked.push({ command, args });
    if (command === 'change_preferences') {
      shim.answers.preferences = { ...(shim.answers.preferences as object), ...(args.patch as object) };
      return shim.answers.preferences;
    }
    const found = shim.answers[command] ?? null;
    if (typeof found === 'object' && found !== null && 'reject' in found) throw found.reject;
    return found;
  };
  Object.assign(window, {
    hamnShim: shim,
    __TAURI_INTERNALS__: {
      metadata: { currentWindow: { label: 'main' }, currentWebview: { label: 'main', windowLabel: 'main' } },
      transformCallback: (callback: (value: unknown) => void) => {
        last += 1;
        callbacks.set(last, callback);
        return last;
      },
      unregisterCallback: (id: number) => callbacks.delete(id),
      invoke: async (command: string, args: Record<string, unknown> = {}) => answer(command, args)
    },
    __TAURI_EVENT_PLUGIN_INTERNALS__: { unregisterListener: (_event: string, id: number) => listeners.delete(id) }
  });
}

/** Opens the window on a link. */
export async function open(
  page: Page,
  link: Link,
  changes: Partial<Preferences> = {},
  others: Record<string, unknown> = {}
): Promise<void> {
  await page.addInitScript(install, { ...answers, link, ...others, preferences: { ...preferences, ...changes } });
  await page.goto('/');
  await page.locator('h1').first().waitFor();
}

/** Sends a link, as the bridge does when something changed. */
export async function show(page: Page, link: Link): Promise<void> {
  await page.evaluate((now) => {
    window.hamnShim.answers.link = now;
    window.hamnShim.emit('link', now);
  }, link);
}

/** Changes the window's preferences from outside, as another window could. */
export async function prefer(page: Page, changes: Partial<Preferences>): Promise<void> {
  await page.evaluate((patch) => {
    window.hamnShim.answers.preferences = { ...(window.hamnShim.answers.preferences as object), ...patch };
    window.hamnShim.emit('preferences', window.hamnShim.answers.preferences);
  }, changes);
}
