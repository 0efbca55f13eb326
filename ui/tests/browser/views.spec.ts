// Every view in every state, light and dark, left to right and right to left: no fault of axe (contrast included), nothing
// cut, nothing over the edge. Screenshots of all of it lie in test-results/screens.
import { expect, test } from '@playwright/test';
import { links } from '../fixtures/links';
import { Faults, axeFaults, bringAxe, goTo, layoutFaults, settled, views } from './look';
import { open, prefer, show } from './shim';

const looks = [
  { theme: 'light', language: 'en' },
  { theme: 'dark', language: 'ar' },
  { theme: 'light', language: 'ar' },
  { theme: 'dark', language: 'en' }
] as const;
// Beside Connect the state changes little in a view; these are the ones that do, and are photographed.
const photographed = ['disconnected', 'connected', 'signed_out', 'unreachable', 'not_protected', 'managed'];

for (const look of looks) {
  test(`every view in every state, ${look.theme}, ${look.language}`, async ({ page }) => {
    const faults = new Faults();
    // Movement would only make pictures differ; it has a test of its own.
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await open(page, links.disconnected!(), look);
    await bringAxe(page);
    expect(await page.locator('html').getAttribute('dir')).toBe(look.language === 'ar' ? 'rtl' : 'ltr');
    // The first two looks see every view in every state; the others add the remaining colours and directions.
    const all = look === looks[0] || look === looks[1];
    for (const view of views) {
      await goTo(page, view);
      for (const [name, make] of Object.entries(links)) {
        if (name === 'loading' || (!all && view !== 'connect' && !photographed.includes(name))) continue;
        await show(page, make());
        await settled(page);
        faults.add(`${view}, ${name}`, [...(await axeFaults(page)), ...(await layoutFaults(page))]);
        if (view === 'connect' || photographed.includes(name)) {
          await page.screenshot({ path: `test-results/screens/${look.theme}-${look.language}/${view}-${name}.png` });
        }
      }
    }
    expect(faults.list()).toEqual([]);
  });
}

test('the first moment, the first run, and the dialog of a link from outside', async ({ page }) => {
  await open(page, links.loading!());
  await bringAxe(page);
  await expect(page.getByTestId('state')).toHaveText('Asking the helper…');
  expect(await axeFaults(page)).toEqual([]);
  await show(page, links.disconnected!());
  await page.evaluate(() => window.hamnShim.emit('deep_link', { destination: { kind: 'city', city: 'mma' } }));
  await expect(page.locator('dialog[open]')).toContainText('Malmö');
  expect(await axeFaults(page)).toEqual([]);
  await page.screenshot({ path: 'test-results/screens/deep-link.png' });
  await page.keyboard.press('Escape');
  await expect(page.locator('dialog[open]')).toHaveCount(0);
  expect(await page.evaluate(() => window.hamnShim.asked.filter((call) => call.command === 'connect').length)).toBe(0);
  await prefer(page, { first_run_done: false });
  await expect(page.getByTestId('nav-connect')).toHaveCount(0);
  expect([...(await axeFaults(page)), ...(await layoutFaults(page))]).toEqual([]);
  await page.screenshot({ path: 'test-results/screens/first-run.png' });
});

test('the whole way by keyboard alone', async ({ page }) => {
  await open(page, links.disconnected!());
  await expect(page.locator('h1')).toBeFocused();
  const reached: string[] = [];
  for (let n = 0; n < 30 && !reached.includes('connect'); n += 1) {
    await page.keyboard.press('Tab');
    reached.push((await page.evaluate(() => document.activeElement?.getAttribute('data-testid'))) ?? '');
  }
  await page.keyboard.press('Enter');
  await show(page, links.connected!());
  await page.keyboard.press('Control+Enter');
  const asked = await page.evaluate(() =>
    window.hamnShim.asked.map((call) => call.command).filter((command) => command.endsWith('connect'))
  );
  expect(asked).toEqual(['connect', 'disconnect']);
  await page.keyboard.press('Control+2');
  await expect(page.locator('h1')).toBeFocused();
  await page.keyboard.press('Control+k');
  await expect(page.getByTestId('server-search')).toBeFocused();
});
