// Numbers, codes and words: every code of the schema has its texts, and the bridge gets every word it asks for.
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { destinationText, outsideWords, reasons } from '../../src/shell/words';
import { lookup, problemAction, problemTitle } from '../../src/text/codes';
import { bitrate, bytes, count, country, duration } from '../../src/text/format';
import { speakLanguage } from '../../src/text/language.svelte';
import { destinationKey, destinationWords, placeWords } from '../../src/text/places';
import { listing } from '../../src/state/listing.svelte';
import { serversWord } from '../../src/views/servers/words';
import { malmo } from '../fixtures/links';
import { listing as places } from '../fixtures/listing';

interface Schema {
  definitions: Record<
    string,
    { enum?: string[]; oneOf?: { const?: string; enum?: string[] }[]; anyOf?: { const?: string; enum?: string[] }[] }
  >;
  words?: string[];
}
const schema = JSON.parse(readFileSync('src/bridge/schema.json', 'utf8')) as Schema;

function codesOf(name: string): string[] {
  const definition = schema.definitions[name];
  const variants = definition?.oneOf ?? definition?.anyOf ?? [];
  return [
    ...(definition?.enum ?? []),
    ...variants.flatMap((variant) => variant.enum ?? (variant.const === undefined ? [] : [variant.const]))
  ];
}

afterEach(() => void speakLanguage('en'));

describe('codes', () => {
  it.each(['ProblemCode', 'BlockReason'])('every code of %s has its words', (name) => {
    const codes = codesOf(name);
    expect(codes.length).toBeGreaterThan(10);
    const missing = codes
      .flatMap((code) => [`codes_problem_${code}`, `codes_action_${code}`])
      .filter((key) => !lookup(key));
    expect(missing).toEqual([]);
  });

  it.each([
    ['CHECK_CODES', 'codes_checkreason_'],
    ['WARNING_CODES', 'codes_warning_']
  ])('every one of the helper’s %s has its words', (list, prefix) => {
    const source = readFileSync('../platform/ipc/src/wire.rs', 'utf8');
    const found = new RegExp(`pub const ${list}: \\[&str; (\\d+)\\] =\\s*\\[([^\\]]*)\\]`).exec(source);
    const codes = [...(found?.[2] ?? '').matchAll(/"([a-z0-9_]+)"/g)].map((match) => match[1] ?? '');
    expect(codes.length).toBe(Number(found?.[1]));
    expect(codes.filter((code) => !lookup(`${prefix}${code}`))).toEqual([]);
  });

  it('no text tells people to run a command', () => {
    const texts = [...codesOf('ProblemCode'), ...codesOf('BlockReason')].flatMap((code) => [
      lookup(`codes_problem_${code}`),
      lookup(`codes_action_${code}`)
    ]);
    expect(texts.filter((text) => /`|systemctl|sudo|hamn [a-z-]+ /.test(text ?? ''))).toEqual([]);
  });

  it('an unknown code falls back to the helper’s own words', () => {
    const problem = {
      type: 'x',
      title: 'Theirs',
      status: 500,
      code: 'brand_new' as never,
      action: 'Do this',
      detail: null
    };
    expect([problemTitle(problem), problemAction(problem)]).toEqual(['Theirs', 'Do this']);
  });
});

describe('words for tray and notifications', () => {
  it('hold every reason and every word that the bridge asks for', () => {
    const words = outsideWords([]);
    expect([...reasons].sort()).toEqual([...codesOf('BlockReason')].sort());
    for (const reason of reasons) expect(words[`reason:${reason}`]).toBeTruthy();
    const wanted = schema.words ?? [];
    expect(wanted.filter((key) => !words[key])).toEqual([]);
    expect(
      Object.keys(words).filter((key) => !key.includes(':') && wanted.length > 0 && !wanted.includes(key))
    ).toEqual([]);
    expect(words.state_connected).toContain('{place}');
  });

  it('name places, except those whose names the bridge has', () => {
    listing.take(places);
    const words = outsideWords([
      { kind: 'best' },
      { kind: 'country', country: 'de' },
      { kind: 'city', city: 'mma' },
      { kind: 'profile', name: 'home' }
    ]);
    expect(words['place:de']).toBe('Germany');
    expect(words['place:city:mma']).toBe('Malmö');
    expect(Object.keys(words).filter((key) => key.startsWith('place:'))).toHaveLength(2);
    expect(destinationText({ kind: 'server', server: 'vpn05', exit: 'us' })).toBe('server:vpn05/us');
  });
});

describe('numbers', () => {
  it.each([
    [0, '0 byte'],
    [999, '999 byte'],
    [1000, '1.0 kB'],
    [48_120_344, '48.1 MB'],
    [123_456_789_000, '123 GB'],
    [Number.NaN, '0 byte'],
    [-5, '0 byte']
  ])('%d bytes are %s', (value, text) => expect(bytes(value)).toBe(text));

  it.each([
    [0, '0 kb/s'],
    [125_000, '1 Mb/s'],
    [12_500_000, '100 Mb/s'],
    [2_000_000_000, '16 Gb/s']
  ])('%d bytes a second are %s', (value, text) => expect(bitrate(value)).toBe(text));

  it('times tick in digits', () => {
    expect([duration(0), duration(61), duration(3723), duration(-4)]).toEqual(['00:00', '01:01', '1:02:03', '00:00']);
  });

  it('follow the language of the window', () => {
    speakLanguage('sv');
    expect([country('se'), count(1234)]).toEqual(['Sverige', '1\u00a0234']);
    expect([serversWord(1), serversWord(1234)]).toEqual(['1 server', '1\u00a0234 servrar']);
    speakLanguage('en');
    expect(country('se')).toBe('Sweden');
    expect([count(1234), serversWord(1), serversWord(1234)]).toEqual(['1,234', '1 server', '1,234 servers']);
    // More numbers than are kept.
    for (let servers = 0; servers < 2500; servers += 1) serversWord(servers);
    expect(serversWord(2)).toBe('2 servers');
    expect(speakLanguage('no')).toBe('nb');
    expect(speakLanguage('xx')).toBe('en');
    expect(country('zz9', 'Nowhere')).toBe('Nowhere');
    // A code that no list of countries has: the provider's name, and once it has none, the code.
    expect([country('qx', 'Nowhere'), country('qx')]).toEqual(['Nowhere', 'qx']);
  });
});

describe('places', () => {
  it('have names, from the list where it knows them', () => {
    listing.take(places);
    expect(destinationWords({ kind: 'city', city: 'malmo' })).toEqual({
      name: 'Malmö',
      where: 'Sweden',
      country: 'se'
    });
    expect(destinationWords({ kind: 'server', server: 'vpn05', exit: 'us' }).where).toBe(
      'Malmö, Sweden, exit in United States'
    );
    expect(destinationWords({ kind: 'server', server: 'gone', exit: null })).toEqual({
      name: 'gone',
      where: '',
      country: null
    });
    expect(placeWords(malmo)).toEqual({ name: 'Malmö', where: 'Sweden', country: 'se' });
    expect(placeWords({ ...malmo, city: '', country: '', server_name: 'home' }).name).toBe('home');
  });

  it('are the same by id and by slug', () => {
    listing.take(places);
    expect(destinationKey({ kind: 'city', city: 'malmo' })).toBe(destinationKey({ kind: 'city', city: 'mma' }));
  });
});
