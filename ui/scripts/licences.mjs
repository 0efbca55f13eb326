// Writes src/views/about/licences.json: the npm packages whose code is in the page, with their licences.
// `--check` fails when the file is stale instead.
import { readFile, readdir, writeFile } from 'node:fs/promises';

const root = new URL('../', import.meta.url);
const target = new URL('src/views/about/licences.json', root);

// Compilers whose run-time part ends up in the page, although npm knows them as development dependencies.
const compiledIn = ['svelte', 'clsx', 'esm-env', '@inlang/paraglide-js'];

const { dependencies } = JSON.parse(await readFile(new URL('package.json', root), 'utf8'));
const lock = JSON.parse(await readFile(new URL('package-lock.json', root), 'utf8')).packages;

// Types and compilers of a run-time package's own dependencies are not code in the page.
const found = new Map();
function collect(name, parent) {
  const nested = parent && `${parent}/node_modules/${name}`;
  const path = nested && lock[nested] ? nested : `node_modules/${name}`;
  const entry = lock[path];
  if (!entry) throw new Error(`${name} is not in package-lock.json`);
  if (found.has(path)) return;
  found.set(path, { name, version: entry.version, licence: entry.license ?? '' });
  Object.keys(entry.dependencies ?? {}).forEach((dependency) => collect(dependency, path));
}
Object.keys(dependencies).forEach((name) => collect(name));
for (const name of compiledIn) {
  const path = `node_modules/${name}`;
  if (!found.has(path)) found.set(path, { name, version: lock[path].version, licence: lock[path].license ?? '' });
}

async function notice(path) {
  const names = (await readdir(new URL(`${path}/`, root)))
    .filter((name) => /^(licen[cs]e|copying)([._-].*)?$/i.test(name))
    .sort();
  const texts = await Promise.all(names.map((name) => readFile(new URL(`${path}/${name}`, root), 'utf8')));
  return texts.map((text) => text.replaceAll('\r\n', '\n').trim()).join('\n\n');
}

const packages = await Promise.all([...found].map(async ([path, entry]) => ({ ...entry, text: await notice(path) })));
packages.sort((a, b) => (a.name < b.name ? -1 : 1));
const text = `${JSON.stringify({ packages }, null, 2)}\n`;

const missing = packages.filter((entry) => !entry.licence).map((entry) => entry.name);
if (missing.length > 0) {
  console.error(`These packages name no licence: ${missing.join(', ')}`);
  process.exit(1);
}
const old = await readFile(target, 'utf8').catch(() => '');
if (process.argv.includes('--check')) {
  if (old !== text) {
    console.error('ui/src/views/about/licences.json is stale: run `node scripts/licences.mjs`.');
    process.exit(1);
  }
} else if (old !== text) {
  await writeFile(target, text);
}
