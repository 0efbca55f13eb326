// A bridge for unit tests: answers commands from a table and remembers what was asked.
import { mockIPC, mockWindows } from '@tauri-apps/api/mocks';
import axe from 'axe-core';
import { answers } from '../fixtures/answers';
import { links } from '../fixtures/links';
import type { Link } from '../../src/bridge/types';

export interface Asked {
  command: string;
  args: unknown;
}

type Answer = (args: unknown) => unknown;

/** Installs the bridge. An answer that is a function is called; what it throws is the refusal. */
export function bridge(changes: Record<string, unknown> = {}): Asked[] {
  const asked: Asked[] = [];
  mockWindows('main');
  const table: Record<string, unknown> = { ...answers, ...changes };
  mockIPC(
    (command, args) => {
      asked.push({ command, args });
      const answer = table[command];
      return typeof answer === 'function' ? (answer as Answer)(args) : (answer ?? null);
    },
    { shouldMockEvents: true }
  );
  return asked;
}

/** The link of a state by its name in the fixtures. */
export function linkOf(name: string): Link {
  const make = links[name];
  if (!make) throw new Error(`no fixture ${name}`);
  return make();
}

/** What axe finds, in words. Contrast needs layout and is checked in the browser. */
export async function faultsOf(element: Element): Promise<string[]> {
  const found = await axe.run(element, { rules: { 'color-contrast': { enabled: false }, region: { enabled: false } } });
  return found.violations.map(
    (violation) => `${violation.id}: ${violation.nodes.map((node) => node.html).join(' | ')}`
  );
}
