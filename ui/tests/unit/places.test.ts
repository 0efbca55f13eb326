// What stands behind the Servers view: folding, the tree with its search and order, and its keys. Pure.
import { describe, expect, it } from 'vitest';
import type { ExitEntry, ServerListing } from '../../src/bridge/types';
import { country } from '../../src/text/format';
import { countryNames, fold, found, haystack, queryWords } from '../../src/views/servers/fold';
import { featuresOf, placesOf, rowsOf, search, sorted, type PlaceNode } from '../../src/views/servers/places';
import { Typeahead, treeWish } from '../../src/views/servers/tree-keys';
import { hostile } from '../fixtures/hostile';
import { largeListing, listing } from '../fixtures/listing';

const words = { locale: 'en', countryName: country };
const noFilters = { onlineOnly: false, features: [] };

describe('folding', () => {
  it.each([
    ['goteborg', 'Göteborg'],
    ['goeteborg', 'Göteborg'],
    ['gothenburg', 'Göteborg'],
    ['GÖTEBORG', 'Göteborg'],
    ['malmo', 'Malmö'],
    ['kobenhavn', 'København'],
    ['copenhagen', 'København'],
    ['munich', 'München'],
    ['lodz', 'Łódź'],
    ['sao paulo', 'São Paulo'],
    ['05', 'vpn05'],
    ['vpn05', 'VPN05'],
    ['se sto 001', 'se-sto-001']
  ])('"%s" finds %s', (query, name) => {
    expect(queryWords(query).every((word) => found(haystack([name]), word))).toBe(true);
  });

  it('finds countries by code, in English, in their own language and in that of the window', () => {
    const sweden = haystack(countryNames('se', 'de'));
    for (const word of ['se', 'sweden', 'sverige', 'schweden']) expect(found(sweden, word), word).toBe(true);
    expect(found(haystack(countryNames('us', 'en')), 'usa')).toBe(true);
    expect(found(haystack(countryNames('gb', 'en')), 'uk')).toBe(true);
    expect(found(haystack(countryNames('nl', 'en')), 'holland')).toBe(true);
  });

  it('takes two letters only at the beginning of a word', () => {
    expect(found(haystack(['Marseille']), 'se')).toBe(false);
    expect(found(haystack(['Marseille']), 'seil')).toBe(true);
  });

  it('survives hostile names and bounds a query', () => {
    for (const text of hostile) expect(typeof fold(text)).toBe('string');
    expect(queryWords('a b c d e f g h i j k'.repeat(100)).length).toBeLessThanOrEqual(8);
    expect(countryNames('<b>', 'en')).toEqual(['<b>']);
  });
});

describe('places', () => {
  const places = () => placesOf(listing, words);
  const flat = (nodes: readonly PlaceNode[]) => rowsOf(nodes, () => true).map((row) => row.node.name);

  it('sums up countries and cities from what can be used', () => {
    const sweden = places()[1];
    expect(sweden).toMatchObject({ name: 'Sweden', servers: 4, latency: 8, usable: true });
    // 31, 88 and 12; the one under maintenance has no say.
    expect(sweden?.children.map((city) => city.load)).toEqual([60, 12]);
  });

  it('searches across levels and opens only what the words need', () => {
    const whole = search(places(), queryWords('sweden'), noFilters);
    expect(whole.nodes.map((node) => node.name)).toEqual(['Sweden']);
    expect(whole.servers).toBe(4);
    const deep = search(places(), queryWords('sverige vpn05'), noFilters);
    expect(flat(deep.nodes)).toEqual(['Sweden', 'Malmö', 'vpn05', 'Sweden', 'United States']);
    expect([...deep.open]).toEqual(expect.arrayContaining(['country:se', 'city:mma']));
    expect(search(places(), queryWords('zzz'), noFilters).nodes).toEqual([]);
  });

  it('finds a server by the country of its exit', () => {
    const result = search(places(), queryWords('malmo states'), noFilters);
    expect(flat(result.nodes)).toEqual(['Sweden', 'Malmö', 'vpn05', 'United States']);
    expect(result.open.has('server:vpn05')).toBe(true);
  });

  it('sorts at every level, unknown and unusable last', () => {
    const byLoad = sorted(places(), 'load', 'en');
    expect(byLoad.map((node) => node.name)).toEqual(['Sweden', 'Germany', 'United States']);
    expect(byLoad[1]?.children[0]?.children.map((node) => node.name)).toEqual(['vpn12', 'vpn11']);
    const stockholm = byLoad[0]?.children.find((node) => node.name === 'Stockholm');
    expect(stockholm?.children.map((node) => node.name)).toEqual(['vpn01', 'vpn02']);
    expect(sorted(places(), 'latency', 'en').map((node) => node.name)).toEqual(['Sweden', 'United States', 'Germany']);
  });

  it('filters and counts what is left', () => {
    const online = search(places(), [], { onlineOnly: true, features: [] });
    expect(online.servers).toBe(6);
    expect(flat(online.nodes)).not.toContain('vpn02');
    expect(search(places(), [], { onlineOnly: false, features: ['ipv6'] }).servers).toBe(7);
    expect(search(places(), [], { onlineOnly: false, features: ['p2p'] }).nodes).toEqual([]);
    expect(featuresOf(places())).toEqual([]);
  });

  it('passes over no place that has the words', () => {
    // What a search means, without the short cut of the words below.
    const slowly = (node: PlaceNode, wanted: readonly string[]): string[] => {
      const left = wanted.filter((word) => !found(node.hay, word));
      return node.kind === 'server' && left.length === 0
        ? [node.key]
        : node.children.flatMap((child) => slowly(child, left));
    };
    const leaves = (node: PlaceNode): string[] =>
      node.kind === 'server' ? [node.key] : node.children.flatMap((child) => leaves(child));
    const lists = [places(), sorted(placesOf(largeListing(), words), 'load', 'en')];
    for (const query of [
      's',
      'se',
      'se3',
      'se3-04',
      'e',
      '049',
      'city 3',
      'sverige city',
      'malmo',
      'vpn01',
      'se xyzzy',
      ''
    ]) {
      for (const list of lists) {
        const asked = queryWords(query);
        const shown = new Set(search(list, asked, noFilters).nodes.flatMap(leaves));
        const missed = list.flatMap((node) => slowly(node, asked)).filter((key) => !shown.has(key));
        expect(missed, query).toEqual([]);
      }
    }
    expect(search(places(), ['xyzzy'], noFilters).nodes).toEqual([]);
  });

  describe('found everywhere', () => {
    const exit = (id: string): ExitEntry => ({ id, country: id, default: id === 'se' });
    /** Each of ten thousand servers can be left in Sweden or in the United States. */
    const twoWays = (): ServerListing => {
      const list = largeListing();
      for (const land of list.countries)
        for (const town of land.cities) for (const each of town.servers) each.exits = [exit('se'), exit('us')];
      return list;
    };
    const many = sorted(placesOf(twoWays(), words), 'name', 'en');
    const asIs = (result: ReturnType<typeof search>) => rowsOf(result.nodes, (name) => result.open.has(name));

    it('opens the first places down to the exits and leaves the rest closed, all of them counted', () => {
      const result = search(many, queryWords('united'), noFilters);
      expect([result.servers, result.countries]).toEqual([10_000, 20]);
      const rows = asIs(result);
      expect(rows.slice(0, 4).map((row) => [row.node.kind, row.expanded])).toEqual([
        ['country', true],
        ['city', true],
        ['server', true],
        ['exit', null]
      ]);
      expect(rows.length).toBeLessThan(400);
      expect(rows.at(-1)).toMatchObject({ level: 1, expanded: false, node: { servers: 500 } });
      // Nothing is open in a place that is closed.
      const seen = new Set(rows.map((row) => row.node.key));
      expect([...result.open].filter((name) => !seen.has(name))).toEqual([]);
    });

    it('finds the same without looking at what all servers share', () => {
      const list = twoWays();
      // One that is like no other in its city, which then shares nothing.
      const odd = list.countries[3]?.cities[2]?.servers[9];
      if (!odd) throw new Error('no server');
      odd.exits = [exit('no'), exit('se')];
      const quick = sorted(placesOf(list, words), 'name', 'en');
      const blind = (node: PlaceNode): PlaceNode => ({ ...node, shared: '', children: node.children.map(blind) });
      const slow = quick.map(blind);
      expect(quick.map((node) => node.shared !== '').filter(Boolean)).toHaveLength(19);
      const keys = (nodes: readonly PlaceNode[]): string[] =>
        nodes.flatMap((node) => [`${node.key} ${node.servers}`, ...keys(node.children)]);
      for (const query of ['s', 'united', 'norge', 'se', 'fi2-009', 'united sverige', 'xyzzy']) {
        for (const filters of [noFilters, { onlineOnly: true, features: ['ipv6'] }]) {
          const [first, second] = [quick, slow].map((nodes) => search(nodes, queryWords(query), filters));
          expect([keys(first!.nodes), [...first!.open], first!.servers]).toEqual([
            keys(second!.nodes),
            [...second!.open],
            second!.servers
          ]);
        }
      }
    });

    it('keeps the room for what has the words', () => {
      const list = twoWays();
      const last = list.countries.at(-1)?.cities[4]?.servers[7];
      if (!last) throw new Error('no server');
      last.name = '000 by 049';
      // Both numbers are in every city, and in one name alone.
      const result = search(placesOf(list, words), queryWords('000 049'), noFilters);
      expect([...result.open]).toEqual(['country:za', 'city:za4']);
      expect(asIs(result).map((row) => row.node.name)).toEqual([country('za'), 'Citý za 4', '000 by 049']);
    });
  });

  it('searches ten thousand servers quickly', () => {
    const many = sorted(placesOf(largeListing(), words), 'name', 'en');
    const times = ['s', 'se', 'city', '049', 'se city 1 04'].map((query) => {
      const start = performance.now();
      const result = search(many, queryWords(query), { onlineOnly: true, features: ['ipv6'] });
      rowsOf(result.nodes, () => true);
      return performance.now() - start;
    });
    // Generous for a busy machine; painting is measured in the browser.
    expect(Math.min(...times)).toBeLessThan(50);
  });
});

describe('keys of the tree', () => {
  const list = rowsOf(placesOf(listing, words), (name) => name === 'country:se');
  const wish = (name: string, at: number, typeahead = new Typeahead(), now = 0, rtl = false, more = {}) =>
    treeWish({ key: name, ctrlKey: false, metaKey: false, altKey: false, ...more }, list, at, 3, rtl, typeahead, now);

  it('moves, opens and closes after the ARIA practice', () => {
    // Germany, Sweden (open), Malmö, Stockholm, United States
    expect(wish('ArrowDown', 0)).toEqual({ wish: 'go', index: 1 });
    expect(wish('ArrowUp', 0)).toEqual({ wish: 'go', index: 0 });
    expect(wish('End', 0)).toEqual({ wish: 'go', index: 4 });
    expect(wish('Home', 4)).toEqual({ wish: 'go', index: 0 });
    expect(wish('PageDown', 0)).toEqual({ wish: 'go', index: 3 });
    expect(wish('ArrowRight', 0)).toEqual({ wish: 'open', index: 0 });
    expect(wish('ArrowRight', 1)).toEqual({ wish: 'go', index: 2 });
    expect(wish('ArrowLeft', 1)).toEqual({ wish: 'close', index: 1 });
    expect(wish('ArrowLeft', 2)).toEqual({ wish: 'go', index: 1 });
    expect(wish('ArrowLeft', 0)).toBeNull();
    expect(wish('Enter', 2)).toEqual({ wish: 'connect', index: 2 });
    expect(wish(' ', 2)).toEqual({ wish: 'select', index: 2 });
    expect(wish('*', 0)).toEqual({ wish: 'open_siblings', index: 0 });
    expect(wish('ArrowDown', 0, undefined, 0, false, { altKey: true })).toBeNull();
  });

  it('mirrors left and right', () => {
    expect(wish('ArrowLeft', 0, undefined, 0, true)).toEqual({ wish: 'open', index: 0 });
    expect(wish('ArrowRight', 2, undefined, 0, true)).toEqual({ wish: 'go', index: 1 });
  });

  it('finds by typing, and marks a favourite with a lone f', () => {
    const typed = new Typeahead();
    expect(wish('s', 0, typed, 0)).toEqual({ wish: 'go', index: 1 });
    expect(wish('t', 1, typed, 100)).toEqual({ wish: 'go', index: 3 });
    // After a pause it is another word.
    expect(wish('m', 3, typed, 5000)).toEqual({ wish: 'go', index: 2 });
    expect(wish('f', 2, typed, 9000)).toEqual({ wish: 'favourite', index: 2 });
    const inside = new Typeahead();
    wish('u', 0, inside, 0);
    expect(wish('f', 4, inside, 10)).toBeNull();
    expect(wish('q', 0)).toBeNull();
  });
});
