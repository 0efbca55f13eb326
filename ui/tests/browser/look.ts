// What a browser test looks at: axe with contrast, overflow, cut texts, small targets.
import { readFileSync } from 'node:fs';
import type { Page } from '@playwright/test';
import type { View } from '../../src/state/route.svelte';

export const views: readonly View[] = ['connect', 'servers', 'settings', 'account', 'diagnostics', 'about'];

const axeSource = readFileSync('node_modules/axe-core/axe.min.js', 'utf8');

interface Axe {
  run: (
    context: Document,
    options: unknown
  ) => Promise<{ violations: { id: string; nodes: { html: string; failureSummary?: string }[] }[] }>;
}

/** Puts axe into the page; once per page load. */
export async function bringAxe(page: Page): Promise<void> {
  await page.evaluate(axeSource);
}

/** What axe finds, in words. */
export async function axeFaults(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const axe = (window as unknown as { axe: Axe }).axe;
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const found = await axe.run(document, {
      runOnly: tags,
      resultTypes: ['violations'],
      // Experimental: wants every text of a row in its name, where the name is a sentence made for listening.
      rules: { 'label-content-name-mismatch': { enabled: false } }
    });
    return found.violations.flatMap((violation) =>
      violation.nodes.map((node) => `${violation.id}: ${node.html.slice(0, 300)} ${node.failureSummary ?? ''}`)
    );
  });
}

/**
 * What is wider than its place, cut off, or too small to hit. With `clamped`, foreign names of any length may end in an
 * ellipsis where the element or its row is named in full.
 */
export async function layoutFaults(page: Page, clamped = false): Promise<string[]> {
  return page.evaluate((mayClamp) => {
    const faults: string[] = [];
    const name = (element: Element) =>
      `${element.tagName.toLowerCase()}.${String(element.getAttribute('class') ?? '')
        .split(' ')
        .slice(0, 2)
        .join('.')} "${(element.textContent ?? '').trim().slice(0, 40)}"`;
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth + 1)
      faults.push(`the page scrolls sideways by ${root.scrollWidth - root.clientWidth} px`);
    const main = document.querySelector('main');
    if (main && main.scrollWidth > main.clientWidth + 1) {
      faults.push(`the view scrolls sideways by ${main.scrollWidth - main.clientWidth} px`);
    }
    for (const element of document.querySelectorAll<HTMLElement>('#app *')) {
      if (element.closest('.visually-hidden, [aria-hidden="true"], .skip, svg') || !element.checkVisibility()) continue;
      const box = element.getBoundingClientRect();
      if (box.width === 0 || box.height === 0) continue;
      const style = getComputedStyle(element);
      const clips = style.overflowX === 'hidden' || style.overflowX === 'clip';
      const named = mayClamp && style.textOverflow === 'ellipsis' && element.closest('[aria-label], [title]') !== null;
      if (clips && !named && element.scrollWidth > element.clientWidth + 2) faults.push(`cut off: ${name(element)}`);
      const hits = element.matches('button, a[href], input, select, summary, [role="button"]');
      if (hits && !element.matches('p a') && (box.width < 23.5 || box.height < 23.5) && !element.closest('label')) {
        faults.push(`smaller than 24 px: ${name(element)} ${Math.round(box.width)}×${Math.round(box.height)}`);
      }
      // A container that scrolls sideways on purpose (a table, the log) may be wider inside.
      if (box.right > innerWidth + 1 || box.left < -1) {
        let scroller: Element | null = element.parentElement;
        while (scroller && !['auto', 'scroll'].includes(getComputedStyle(scroller).overflowX))
          scroller = scroller.parentElement;
        if (!scroller || scroller === main) faults.push(`beyond the edge: ${name(element)}`);
      }
    }
    return [...new Set(faults)].slice(0, 8);
  }, clamped);
}

/** Goes to a view by its button. */
export async function goTo(page: Page, view: View): Promise<void> {
  await page.getByTestId(`nav-${view}`).click();
}

/** Waits until the page has painted what it knows. */
export async function settled(page: Page): Promise<void> {
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

/** Faults by what is wrong, each with the places where it was seen: the same fault in twenty states is one line. */
export class Faults {
  #seen = new Map<string, string[]>();

  add(where: string, faults: readonly string[]): void {
    for (const fault of faults) this.#seen.set(fault, [...(this.#seen.get(fault) ?? []), where]);
  }

  list(): string[] {
    return [...this.#seen].map(
      ([fault, where]) =>
        `${fault} — ${where.slice(0, 4).join('; ')}${where.length > 4 ? ` and ${where.length - 4} more` : ''}`
    );
  }
}
