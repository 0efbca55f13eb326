// The stores that follow the bridge: link, listing, rates, intents, chosen place, route.
import { emit } from '@tauri-apps/api/event';
import { describe, expect, it } from 'vitest';
import { chosen } from '../../src/state/chosen.svelte';
import { intents } from '../../src/state/intents.svelte';
import { link } from '../../src/state/link.svelte';
import { listing } from '../../src/state/listing.svelte';
import { RateBuffer, rateRows } from '../../src/state/rates.svelte';
import { route } from '../../src/state/route.svelte';
import { toasts } from '../../src/state/toasts.svelte';
import { links } from '../fixtures/links';
import { listing as places } from '../fixtures/listing';
import { bridge, linkOf } from './bridge';

const tick = () => new Promise((resolve) => setTimeout(resolve, 0));

describe('link', () => {
  it('keeps an event that arrives before the snapshot it overtook', async () => {
    const old = linkOf('disconnected');
    const newer = linkOf('connected');
    let answer: (value: unknown) => void = () => undefined;
    bridge({ link: () => new Promise((resolve) => (answer = resolve)) });
    const started = link.start();
    await tick();
    await emit('link', newer);
    expect(link.current.status?.state).toBe('connected');
    answer(old);
    (await started)();
    expect(link.current).toEqual(newer);
  });

  it('drops what is older, in whatever order it comes', () => {
    const first = linkOf('connecting');
    const second = linkOf('connected');
    link.take(second);
    link.take(first);
    expect(link.current).toBe(second);
  });

  it('says unreachable when the bridge itself does not answer', async () => {
    bridge({
      link: () => {
        throw new Error('no bridge');
      }
    });
    (await link.start())();
    expect(link.current.state).toBe('unreachable');
    expect(link.current.problem?.detail).toBe('no bridge');
  });
});

describe('listing', () => {
  it('loads once for each serial', async () => {
    const asked = bridge();
    const up = linkOf('connected');
    listing.follow(up);
    listing.follow(linkOf('connected'));
    await tick();
    expect(asked.filter((call) => call.command === 'servers')).toHaveLength(1);
    const provider = { ...up.status!.provider, list_serial: 8 };
    listing.follow({ ...up, status: { ...up.status!, provider } });
    await tick();
    expect(asked.filter((call) => call.command === 'servers')).toHaveLength(2);
    expect(listing.city('malmo')?.city.id).toBe('mma');
    expect(listing.server('vpn05')?.city.name).toBe('Malmö');
  });

  it('asks nothing without a helper or a provider, and forgets the list of a provider that is gone', async () => {
    const asked = bridge();
    listing.take(places);
    listing.follow(linkOf('unreachable'));
    expect(listing.current).toBe(places);
    listing.follow(linkOf('no_provider'));
    await tick();
    expect(asked).toHaveLength(0);
    expect(listing.current).toBeNull();
  });

  it('keeps the old list when a new one cannot be had, and says why', async () => {
    bridge({ servers: () => Promise.reject({ code: 'api_unreachable', title: 'x' }) });
    listing.take(places);
    await listing.refresh();
    expect(listing.current).toBe(places);
    expect(listing.problem?.code).toBe('api_unreachable');
    expect(listing.loading).toBe(false);
  });
});

describe('rates', () => {
  const at = (s: number, rx: number, tx: number, tunnel = '1 hamn0') => ({ at_ms: s * 1000, rx, tx, tunnel });

  it('divides what flowed by the time that passed', () => {
    const buffer = new RateBuffer();
    expect(buffer.add(at(1, 0, 0))).toBe(false);
    buffer.add(at(2, 1000, 200));
    buffer.add(at(4, 2000, 200));
    expect(buffer.window(60, 4000).map(({ down, up }) => [down, up])).toEqual([
      [1000, 200],
      [500, 0]
    ]);
  });

  it('begins a new line when the counters start again or the tunnel is another', () => {
    const buffer = new RateBuffer();
    for (const now of [
      at(1, 0, 0),
      at(2, 100, 0),
      at(3, 50, 0),
      at(4, 150, 0),
      at(5, 900, 0, '2 hamn0'),
      at(6, 950, 0, '2 hamn0')
    ])
      buffer.add(now);
    expect(buffer.window(60, 6000).map((point) => point.down)).toEqual([100, null, 100, null, 50]);
  });

  it('draws the time without snapshots as one average', () => {
    const buffer = new RateBuffer();
    buffer.add(at(0, 0, 0));
    buffer.add(at(100, 1000, 0));
    expect(buffer.window(3600, 100_000)).toEqual([
      { at_ms: 1, down: 10, up: 0 },
      { at_ms: 100_000, down: 10, up: 0 }
    ]);
  });

  it('ignores snapshots that follow at once, and ends with the tunnel', () => {
    const buffer = new RateBuffer();
    buffer.add(at(1, 0, 0));
    expect(buffer.add(at(1.1, 1000, 0))).toBe(false);
    expect(buffer.end()).toBe(true);
    expect(buffer.end()).toBe(false);
    expect(buffer.window(60, 2000).map((point) => point.down)).toEqual([null]);
  });

  it('keeps an hour at most', () => {
    const buffer = new RateBuffer();
    for (let s = 0; s < 10_000; s += 1) buffer.add(at(s, s * 10, 0));
    const kept = buffer.window(100_000, 10_000_000);
    expect(kept.length).toBeLessThanOrEqual(3_900);
    expect(kept[0]!.at_ms).toBeGreaterThanOrEqual(9_999_000 - 3_600_000);
  });

  it('sums up in rows for the table, newest first', () => {
    const points = Array.from({ length: 60 }, (_, s) => ({ at_ms: (s + 1) * 1000, down: s < 30 ? 10 : 20, up: 1 }));
    expect(rateRows(points, 60, 60_000, 2)).toEqual([
      { from_ms: 30_000, down: 20, up: 1 },
      { from_ms: 0, down: 10, up: 1 }
    ]);
    expect(rateRows([], 60, 60_000, 12)).toEqual([]);
  });
});

describe('intents', () => {
  it('are pending until the helper answers, and only one at a time', async () => {
    let answer: (value: unknown) => void = () => undefined;
    const asked = bridge({ connect: () => new Promise((resolve) => (answer = resolve)) });
    const first = intents.connect({ kind: 'best' });
    expect(intents.pending).toBe('connect');
    await intents.connect({ kind: 'best' });
    expect(asked).toHaveLength(1);
    // Giving up always gets through, and is not undone by the late answer of what was given up.
    const second = intents.disconnect();
    expect(intents.pending).toBe('disconnect');
    answer(null);
    await first;
    await second;
    expect(asked.map((call) => call.command)).toEqual(['connect', 'disconnect']);
    expect(intents.pending).toBeNull();
  });

  it('keep the refusal; elsewhere than on Connect it is a note as well', async () => {
    bridge({ connect: () => Promise.reject({ code: 'no_server', title: 'none' }) });
    await intents.connect(null);
    expect(intents.problem?.code).toBe('no_server');
    expect(toasts.list).toHaveLength(0);
    route.go('servers');
    await intents.connect(null);
    await intents.connect(null);
    expect(toasts.list.map((toast) => toast.problem?.code)).toEqual(['no_server']);
  });
});

describe('chosen', () => {
  it('reads the setting when the helper comes and when a tunnel ended', async () => {
    const destination = { kind: 'country', country: 'se' };
    const asked = bridge({ settings: { managed_by: null, settings: [{ key: 'destination', value: destination }] } });
    chosen.follow(linkOf('connected'));
    chosen.follow(linkOf('connected'));
    chosen.follow(linkOf('disconnected'));
    chosen.follow(linkOf('disconnected'));
    await tick();
    expect(asked).toHaveLength(2);
    expect(chosen.destination).toEqual(destination);
  });

  it('names no place that the helper did not say', async () => {
    bridge({ settings: { managed_by: null, settings: [{ key: 'destination', value: 'nonsense' }] } });
    await chosen.refresh();
    expect(chosen.destination).toBeNull();
  });
});

it('route goes back the way it came', () => {
  route.go('servers');
  route.go('about');
  route.back();
  expect(route.view).toBe('servers');
  route.back();
  route.back();
  expect(route.view).toBe('connect');
});

it('every fixture is a link of its own', () => {
  const seqs = Object.values(links).map((make) => make().seq);
  expect(new Set(seqs).size).toBe(seqs.length);
});
