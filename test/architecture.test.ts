import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const PAGE = 'docs/architecture.md';

/** Imported by nearly all: the picture leaves them out. */
const COMMON = new Set(['config', 'errors', 'log']);

/** The folder of `src` that a file is in; of a file in none, its name. */
const partOf = (path: string) => path.split('/')[1]!.replace(/\.ts$/, '');

/** Which parts of `src` each part imports, types included. */
const imports = new Map<string, Set<string>>();
for (const file of readdirSync('src', { recursive: true, encoding: 'utf8' })) {
  if (!file.endsWith('.ts')) continue;
  const path = join('src', file);
  const from = partOf(path);
  const named = readFileSync(path, 'utf8').matchAll(/(?:from|import|import\() ?'(\.[^']+)'/g);
  const targets = [...named].map(([, target]) => partOf(join(dirname(path), target!)));
  const known = imports.get(from) ?? new Set();
  imports.set(from, new Set([...known, ...targets.filter((target) => target !== from)]));
}

const parts = [...imports.keys()].filter((part) => !COMMON.has(part)).toSorted();
const importsOf = (part: string) => [...imports.get(part)!].filter((to) => !COMMON.has(to));

/** All that `part` reaches by imports, at any distance. */
function reached(part: string, found = new Set<string>()): Set<string> {
  for (const to of importsOf(part)) {
    if (!found.has(to)) reached(to, found.add(to));
  }
  return found;
}

test('no part of src imports itself by a detour', () => {
  expect(parts.filter((part) => reached(part).has(part))).toEqual([]);
});

test('the picture of the imports is current (npm run generate)', async () => {
  // What a part reaches by another of its imports needs no arrow of its own.
  const arrows = parts.flatMap((from) =>
    importsOf(from)
      .filter((to) => !importsOf(from).some((other) => other !== to && reached(other).has(to)))
      .toSorted()
      .map((to) => `  ${from} --> ${to}`),
  );
  const picture = ['```mermaid', 'graph TD', ...arrows, '```'].join('\n');
  const page = readFileSync(PAGE, 'utf8').replace(/```mermaid[^`]*```/, picture);
  expect(page).toContain(picture);
  await expect(page).toMatchFileSnapshot(`../${PAGE}`);
});

test('the page names every file and folder of src', () => {
  const page = readFileSync(PAGE, 'utf8');
  const names = readdirSync('src', { withFileTypes: true }).map((entry) =>
    entry.isDirectory() ? `src/${entry.name}/` : `src/${entry.name}`,
  );
  expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
});
