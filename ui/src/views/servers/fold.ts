// Folds names so that people find places however they type them: without accents, in any case, by another spelling.

const letters: Record<string, string> = {
  ø: 'o',
  æ: 'ae',
  œ: 'oe',
  ß: 'ss',
  ł: 'l',
  đ: 'd',
  ð: 'd',
  þ: 'th',
  ħ: 'h',
  ı: 'i'
};
const replaced = new RegExp(`[${Object.keys(letters).join('')}]`, 'g');

/** Most names of servers: nothing to fold but the case, and there are thousands. */
const ascii = /^[ -~]*$/;

/** Lower case without accents; everything but letters and digits becomes one space. */
export function fold(text: string): string {
  if (ascii.test(text))
    return text
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, ' ')
      .trim();
  return text
    .toLowerCase()
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .replace(replaced, (letter) => letters[letter] ?? letter)
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}

/** As German and Scandinavian keyboards write it without the letters: Göteborg as Goeteborg. */
function spelledOut(text: string): string {
  return fold(
    text
      .toLowerCase()
      .normalize('NFC')
      .replace(/[äæ]/g, 'ae')
      .replace(/[öø]/g, 'oe')
      .replace(/ü/g, 'ue')
      .replace(/å/g, 'aa')
  );
}

// Names that mean the same place, folded. A place that has one of them is found by all of them.
const same: readonly (readonly string[])[] = [
  ['goteborg', 'gothenburg'],
  ['kobenhavn', 'copenhagen', 'kopenhamn', 'kopenhagen'],
  ['munchen', 'munich'],
  ['koln', 'cologne'],
  ['wien', 'vienna'],
  ['zurich', 'zuerich'],
  ['geneve', 'geneva', 'genf'],
  ['milano', 'milan'],
  ['roma', 'rome'],
  ['warszawa', 'warsaw'],
  ['praha', 'prague'],
  ['lisboa', 'lisbon'],
  ['bruxelles', 'brussel', 'brussels'],
  ['den haag', 's gravenhage', 'the hague'],
  ['bucuresti', 'bucharest'],
  ['beograd', 'belgrade'],
  ['athina', 'athens'],
  ['helsinki', 'helsingfors'],
  ['turku', 'abo'],
  ['sevilla', 'seville'],
  ['kyiv', 'kiev'],
  ['moskva', 'moscow'],
  ['new york', 'nyc'],
  ['los angeles', 'la'],
  ['san francisco', 'sf'],
  ['ciudad de mexico', 'mexico city'],
  ['mumbai', 'bombay'],
  ['frankfurt', 'frankfurt am main']
];

// What people call countries beside their names, by code.
const called: Record<string, string> = {
  ae: 'uae emirates',
  ba: 'bosnia',
  cz: 'czech republic czechia',
  gb: 'uk britain england scotland wales northern ireland',
  kr: 'south korea',
  mk: 'macedonia',
  nl: 'holland',
  ru: 'russia',
  tr: 'turkey turkiye',
  us: 'usa america states',
  vn: 'vietnam'
};

/** Other folded names of a place with that folded name. */
export function aliases(folded: string): string[] {
  return same.filter((names) => names.includes(folded)).flat();
}

/** The texts as one haystack: folded, spelled out, with aliases, and with letters and digits apart (`vpn 05`). */
export function haystack(texts: readonly string[]): string {
  const words = new Set<string>();
  for (const text of texts) {
    const folded = fold(text);
    if (!folded) continue;
    words.add(folded);
    if (!ascii.test(text)) words.add(spelledOut(text));
    for (const alias of aliases(folded)) words.add(alias);
    const apart = folded.replace(/(\p{L})(?=\p{N})|(\p{N})(?=\p{L})/gu, '$1$2 ');
    words.add(apart);
  }
  // The leading space lets a search for " word" find the beginnings of words.
  return ` ${[...words].join(' ')}`;
}

const names = new Map<string, string>();

function nameIn(locale: string, code: string): string {
  try {
    return new Intl.DisplayNames([locale], { type: 'region', fallback: 'none' }).of(code.toUpperCase()) ?? '';
  } catch {
    return '';
  }
}

/** The country's code and its names in English, in its own language and in the window's. */
export function countryNames(code: string, locale: string): string[] {
  if (!/^[a-z]{2}$/.test(code)) return [code];
  const key = `${locale} ${code}`;
  let known = names.get(key);
  if (known === undefined) {
    const own = new Intl.Locale(`und-${code.toUpperCase()}`).maximize().language;
    known = [...new Set([nameIn('en', code), nameIn(locale, code), nameIn(own, code), called[code] ?? ''])].join('\n');
    names.set(key, known);
  }
  return [code, ...known.split('\n')];
}

/** A search as folded words. */
export function queryWords(query: string): string[] {
  return fold(query.slice(0, 100)).split(' ').filter(Boolean).slice(0, 8);
}

/** What to look for in a haystack. Short words only count at the beginning of a word: "se" is Sweden, not Marseille. */
export function needleOf(word: string): string {
  return word.length < 3 ? ` ${word}` : word;
}

/** Whether a folded word is in a haystack. */
export function found(hay: string, word: string): boolean {
  return hay.includes(needleOf(word));
}
