// The largest provider's list: typing in the search must not stutter.
import { expect, test } from '@playwright/test';
import { links } from '../fixtures/links';
import { largeListing } from '../fixtures/listing';
import { goTo } from './look';
import { open } from './shim';

test('a key in the search of 10,000 servers is on the screen within 50 ms', async ({ page }) => {
  await open(page, links.disconnected!(), {}, { servers: largeListing() });
  await goTo(page, 'servers');
  await page.getByTestId('server-search').waitFor();
  const times = await page.evaluate(async () => {
    const input = document.querySelector<HTMLInputElement>('[data-testid="server-search"]');
    if (!input) throw new Error('no search');
    const taken: number[] = [];
    for (const word of ['se4-017', 'city 3', 'gb', 'za9-04', 'xyzzy']) {
      for (let length = 1; length <= word.length; length += 1) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        const before = performance.now();
        input.value = word.slice(0, length);
        input.dispatchEvent(new InputEvent('input', { bubbles: true }));
        // Svelte writes in a microtask; asking for a size makes the browser lay out at once.
        await Promise.resolve();
        await Promise.resolve();
        void document.body.offsetHeight;
        taken.push(performance.now() - before);
        // Work that a view puts off to the next frame counts as well.
        const frame = performance.now();
        await new Promise((resolve) => requestAnimationFrame(resolve));
        void document.body.offsetHeight;
        taken[taken.length - 1] = (taken.at(-1) ?? 0) + Math.max(0, performance.now() - frame - 17);
      }
    }
    return taken.sort((a, b) => a - b);
  });
  const of = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Infinity;
  console.log(`keystroke: median ${of(0.5).toFixed(1)} ms, p95 ${of(0.95).toFixed(1)} ms, most ${of(1).toFixed(1)} ms`);
  // The middle, because two busy processors make the slowest of them a matter of luck.
  expect(of(0.5)).toBeLessThan(50);
  expect(await page.getByTestId('server-search').inputValue()).toBe('xyzzy');
});
