// Small windows, large text, no movement, the system's own colours.
import { expect, test } from '@playwright/test';
import { links } from '../fixtures/links';
import { Faults, axeFaults, bringAxe, goTo, layoutFaults, settled, views } from './look';
import { open, prefer, show } from './shim';

const states = [
  'disconnected',
  'connecting',
  'connected',
  'blocked',
  'not_protected',
  'unreachable',
  'signed_out',
  'managed'
];

for (const language of ['en', 'ar']) {
  test(`320 px and 200 % text, ${language}`, async ({ page }) => {
    const faults = new Faults();
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await open(page, links.disconnected!(), { language });
    const sizes = [
      { width: 320, height: 640, text: 100 },
      { width: 360, height: 740, text: 100 },
      { width: 640, height: 512, text: 200 },
      { width: 1040, height: 720, text: 200 }
    ];
    for (const size of sizes) {
      await page.setViewportSize(size);
      await prefer(page, { text_scale_pct: size.text });
      for (const view of views) {
        await goTo(page, view);
        for (const name of view === 'connect' ? states : states.slice(2, 6)) {
          await show(page, links[name]!());
          await settled(page);
          faults.add(`${size.width} px ${size.text} %, ${view}, ${name}`, await layoutFaults(page));
        }
        await page.screenshot({
          path: `test-results/screens/small-${language}/${view}-${size.width}-${size.text}.png`
        });
      }
    }
    expect(faults.list()).toEqual([]);
  });
}

test('nothing moves for those who asked for that', async ({ page }) => {
  const moving = () =>
    page.evaluate(() => document.getAnimations().filter((animation) => animation.playState === 'running').length);
  await open(page, links.disconnected!());
  await show(page, links.connecting!());
  await settled(page);
  // Otherwise this test could not fail.
  expect(await moving()).toBeGreaterThan(0);
  for (const way of ['system', 'preference'] as const) {
    await page.emulateMedia({ reducedMotion: way === 'system' ? 'reduce' : 'no-preference' });
    await prefer(page, { reduce_motion: way === 'preference' });
    for (const name of ['disconnected', 'connecting', 'connected', 'reconnecting', 'blocked']) {
      await show(page, links[name]!());
      await settled(page);
      expect(await moving(), `${name}, ${way}`).toBe(0);
    }
  }
});

test('the system’s own colours are enough', async ({ page }) => {
  await page.emulateMedia({ forcedColors: 'active', reducedMotion: 'reduce' });
  await open(page, links.disconnected!());
  await bringAxe(page);
  const faults = new Faults();
  for (const view of views) {
    await goTo(page, view);
    for (const name of ['connected', 'blocked', 'not_protected']) {
      await show(page, links[name]!());
      await settled(page);
      faults.add(`${view}, ${name}`, await axeFaults(page));
      await page.screenshot({ path: `test-results/screens/forced/${view}-${name}.png` });
    }
  }
  expect(faults.list()).toEqual([]);
});
