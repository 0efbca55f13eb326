// A thousand hostile texts where names, accounts, errors and log lines stand: they are words, whatever they say.
import { expect, test, type Page } from '@playwright/test';
import type { Link, ServerListing } from '../../src/bridge/types';
import { answers } from '../fixtures/answers';
import { hostile } from '../fixtures/hostile';
import { connected, linkWith, links, tunnel } from '../fixtures/links';
import { goTo, layoutFaults, settled } from './look';
import { open, show } from './shim';

const at = (n: number): string => hostile[n % hostile.length] ?? '';

/** Fifty countries of twenty cities and servers: every text is in the list once, as country, city or server. */
const listing: ServerListing = {
  serial: 9,
  generated_at_unix_s: 1_790_000_000,
  expires_at_unix_s: 1_790_600_000,
  stale: false,
  countries: Array.from({ length: 50 }, (_, c) => ({
    country: at(c),
    name: at(c * 20),
    cities: Array.from({ length: 20 }, (_, k) => ({
      id: `city-${c}-${k}`,
      slug: `slug-${c}-${k}`,
      name: at(c * 20 + k),
      latitude: 50,
      longitude: k,
      servers: [
        {
          id: `server-${c}-${k}`,
          name: at(c * 20 + k),
          state: at(k),
          load_pct: 5,
          features: [at(k + 1)],
          protocols: [at(k + 2)],
          exits: [{ id: at(k + 3), country: at(k + 4), default: true }],
          latency_ms: null
        }
      ]
    }))
  }))
};

/** A link in which every text that a helper or provider chose is hostile. */
function hostileLink(n: number): Link {
  const place = {
    ...tunnel.place,
    city: at(n),
    server: at(n + 1),
    server_name: at(n + 2),
    country: at(n + 3),
    exit: at(n + 4)
  };
  return linkWith({
    ...connected,
    version: at(n),
    managed_by: at(n + 5),
    destination: { kind: 'server', server: at(n + 6), exit: at(n + 7) },
    warnings: [{ code: at(n), message: at(n + 8) }],
    provider: { ...connected.provider, url: at(n + 9), list_serial: 9 },
    protection: { ...connected.protection, dns_backend: at(n + 10) },
    tunnel: {
      ...tunnel,
      place,
      interface: at(n + 11),
      engine: at(n + 12),
      addresses: [at(n + 13)],
      resolvers: [at(n + 14)],
      exit_addresses: [at(n + 15), `${at(n + 16)}:`]
    }
  });
}

const problem = (n: number) => ({
  type: at(n),
  title: at(n),
  status: 500,
  code: at(n),
  detail: at(n + 1),
  action: at(n + 2)
});
const check = (n: number) => ({
  id: at(n),
  code: at(n + 1),
  title: at(n),
  result: 'fail',
  reason: at(n + 2),
  values: { reason: at(n + 3) }
});

const hostileAnswers: Record<string, unknown> = {
  servers: listing,
  account: {
    logged_in: true,
    id: at(3),
    status: at(4),
    paid_until: at(5),
    device: at(6),
    device_limit: 5,
    addons: [at(7)]
  },
  devices: {
    limit: 5,
    devices: Array.from({ length: 20 }, (_, n) => ({
      id: at(n),
      name: at(n + 1),
      platform: at(n + 2),
      created_at: at(n + 3),
      current: n === 0
    }))
  },
  profiles: {
    profiles: Array.from({ length: 10 }, (_, n) => ({
      name: at(n),
      endpoint: at(n + 1),
      ipv4: true,
      ipv6: true,
      dns: true,
      remarks: [{ line: n, code: at(n + 2), message: at(n + 3) }]
    }))
  },
  policy: {
    generation: 1,
    in_force: false,
    error: at(0),
    native: at(1),
    policy: { mode: 'open' },
    words: hostile.slice(0, 40)
  },
  verify: { ok: false, checks: Array.from({ length: 20 }, (_, n) => check(n)) },
  diagnose: { steps: Array.from({ length: 5 }, (_, n) => check(n)) },
  log: {
    lines: hostile.map((message, n) => ({
      at_unix_s: 1_790_000_000 + n,
      level: n % 7 === 0 ? message : 'info',
      target: at(n + 1),
      message
    }))
  },
  report: { text: hostile.join('\n') },
  versions: { window: at(0), tauri: at(1), webview: at(2), helper: { helper: at(3), api: 1 } }
};

/** What a text would have done if it were more than a text. */
async function harm(page: Page): Promise<unknown> {
  return page.evaluate(() => ({
    pwned: window.pwned,
    elements: [
      ...document.querySelectorAll(
        '#app script, #app img, #app iframe, #app style, #app object, #app embed, #app [onload], #app [onerror], #app a[href^="javascript:"], #app a[href*="evil"]'
      )
    ].map((element) => element.outerHTML)
  }));
}

test('a thousand hostile texts stay texts', async ({ page }) => {
  const strangers: string[] = [];
  page.on('request', (request) => {
    if (!request.url().startsWith('http://127.0.0.1:') && !request.url().startsWith('data:'))
      strangers.push(request.url());
  });
  page.on('dialog', (dialog) => {
    strangers.push(`dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  await open(page, hostileLink(0), {}, hostileAnswers);
  const harmless = { pwned: undefined, elements: [] };

  // Connect: every text once in each of its places.
  await page.locator('summary').click();
  for (let n = 0; n < hostile.length; n += 25) {
    await show(page, hostileLink(n));
    expect(await harm(page)).toEqual(harmless);
  }
  // As raw text it is on the page: nothing was interpreted, nothing lost.
  await show(page, hostileLink(0));
  await expect(page.getByText(at(0), { exact: true }).first()).toBeVisible();
  expect(await layoutFaults(page, true)).toEqual([]);

  // Refusals.
  for (let n = 0; n < 20; n += 1) {
    await page.evaluate((refusal) => (window.hamnShim.answers.disconnect = { reject: refusal }), problem(n));
    await page.getByTestId('disconnect').click();
    await settled(page);
    expect(await harm(page)).toEqual(harmless);
  }

  // The list of places: scrolled from end to end.
  await goTo(page, 'servers');
  await page.getByTestId('server-search').fill('a');
  await settled(page);
  for (const search of ['', 'script', 'a', '<']) {
    await page.getByTestId('server-search').fill(search);
    for (let screenful = 0; screenful < 12; screenful += 1) {
      await page.evaluate(() => {
        for (const box of document.querySelectorAll('main, main *'))
          if (box.scrollHeight > box.clientHeight + 50) box.scrollTop += box.clientHeight;
      });
      await settled(page);
      expect(await harm(page)).toEqual(harmless);
    }
  }
  expect(await layoutFaults(page, true)).toEqual([]);

  for (const view of ['settings', 'account', 'about', 'diagnostics'] as const) {
    await goTo(page, view);
    await settled(page);
    expect(await harm(page)).toEqual(harmless);
    expect(await layoutFaults(page, true), view).toEqual([]);
  }
  // Diagnostics shows the self-test, the ladder, the log and the report when asked.
  for (const button of await page.locator('main button:not([aria-disabled="true"])').all()) {
    if (await button.isVisible()) await button.click({ timeout: 2000 }).catch(() => undefined);
    await settled(page);
    expect(await harm(page)).toEqual(harmless);
  }
  expect(strangers).toEqual([]);
});

test('a refused command says hostile things in every view', async ({ page }) => {
  const refusals = Object.fromEntries(
    Object.keys(answers)
      .filter((command) => command !== 'preferences')
      .map((command, n) => [command, { reject: problem(n * 7) }])
  );
  await open(page, links.connected!(), {}, refusals);
  for (const view of ['servers', 'settings', 'account', 'diagnostics', 'about', 'connect'] as const) {
    await goTo(page, view);
    await settled(page);
    expect(await harm(page)).toEqual({ pwned: undefined, elements: [] });
    expect(await layoutFaults(page, true), view).toEqual([]);
  }
});
