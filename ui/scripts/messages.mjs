// Compares every language with English: a missing key, a key too many, or another parameter fails.
// `--only en` looks at English alone, for the time in which the translations are being written; nothing that ships uses it.
import { readdir, readFile } from 'node:fs/promises';

const root = new URL('../messages/', import.meta.url);
const settings = JSON.parse(await readFile(new URL('../project.inlang/settings.json', import.meta.url), 'utf8'));
const only = process.argv.includes('--only') ? process.argv[process.argv.indexOf('--only') + 1] : null;
const areas = settings['plugin.inlang.messageFormat'].pathPattern.map((path) => path.split('/').pop());
const faults = [];

async function messagesOf(locale) {
  const found = new Map();
  for (const area of areas) {
    const prefix = `${area.replace('.json', '')}_`;
    const text = await readFile(new URL(`${locale}/${area}`, root), 'utf8').catch(() => null);
    if (text === null) {
      faults.push(`${locale}/${area}: the file is missing`);
      continue;
    }
    for (const [key, value] of Object.entries(JSON.parse(text))) {
      if (key === '$schema') continue;
      if (!key.startsWith(prefix)) faults.push(`${locale}/${area}: \`${key}\` belongs to another area`);
      if (found.has(key)) faults.push(`${locale}/${area}: \`${key}\` is there twice`);
      found.set(key, value);
    }
  }
  return found;
}

/** Every text that a message can become. */
function texts(value) {
  return typeof value === 'string' ? [value] : value.flatMap((variant) => Object.values(variant.match));
}

const holes = (text) => [...text.matchAll(/\{([a-zA-Z_]+)\}/g)].map((match) => match[1]);

/** What a message must be given: its declared inputs, or the holes of its text. */
function parameters(value) {
  if (typeof value === 'string') return new Set(holes(value));
  return new Set(
    value.flatMap((variant) =>
      variant.declarations.filter((line) => line.startsWith('input ')).map((line) => line.slice(6))
    )
  );
}

/** Plural forms must be exactly those of the language, or a number has no words. */
function pluralFaults(locale, key, value) {
  if (typeof value === 'string') return;
  const wanted = new Intl.PluralRules(locale).resolvedOptions().pluralCategories;
  for (const variant of value) {
    if (!variant.declarations.some((line) => /: plural$/.test(line))) continue;
    const given = Object.keys(variant.match).flatMap((match) =>
      [...match.matchAll(/Plural=(\w+|\*)/g)].map((hit) => hit[1])
    );
    const missing = given.includes('*') ? [] : wanted.filter((form) => !given.includes(form));
    const surplus = given.filter((form) => form !== '*' && !wanted.includes(form));
    if (missing.length) faults.push(`${locale}: \`${key}\` lacks the plural form ${missing.join(', ')}`);
    if (surplus.length)
      faults.push(`${locale}: \`${key}\` has a plural form that ${locale} lacks: ${surplus.join(', ')}`);
  }
}

const english = await messagesOf('en');
for (const locale of only ? [only] : settings.locales) {
  const messages = locale === 'en' ? english : await messagesOf(locale);
  for (const key of english.keys()) if (!messages.has(key)) faults.push(`${locale}: \`${key}\` is missing`);
  for (const [key, value] of messages) {
    const original = english.get(key);
    if (original === undefined) {
      faults.push(`${locale}: \`${key}\` is not in English`);
      continue;
    }
    const wanted = parameters(original);
    const given = parameters(value);
    const used = new Set(texts(value).flatMap(holes));
    for (const name of wanted) if (!given.has(name)) faults.push(`${locale}: \`${key}\` lacks {${name}}`);
    for (const name of [...given, ...used])
      if (!wanted.has(name)) faults.push(`${locale}: \`${key}\` has {${name}}, English has not`);
    if (texts(value).some((text) => text.trim() === '')) faults.push(`${locale}: \`${key}\` is empty`);
    pluralFaults(locale, key, value);
  }
}
const folders = (await readdir(root, { withFileTypes: true }))
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);
for (const folder of folders) if (!settings.locales.includes(folder)) faults.push(`${folder}: a folder of no language`);

if (faults.length > 0) {
  const shown = 40;
  console.error(faults.slice(0, shown).join('\n'));
  if (faults.length > shown) console.error(`… and ${faults.length - shown} more`);
  process.exit(1);
}
