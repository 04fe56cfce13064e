import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';

const PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  'training/README.md',
  ...readdirSync('docs')
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`),
  'bench/history.md',
  'bench/gpu/README.md',
  'bench/peers/README.md',
  ...readdirSync('models')
    .map((folder) => `models/${folder}/README.md`)
    .filter((file) => existsSync(file)),
];

/** As GitHub makes it of a heading. */
const anchorOf = (heading: string) =>
  heading
    .replace(/^#+ /, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

const anchorsIn = (page: string) =>
  readFileSync(page, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('#'))
    .map(anchorOf);

/** What a page's links and pictures point to in the repository; external ones are left out. */
function targetsOf(page: string): readonly string[] {
  const text = readFileSync(page, 'utf8').replaceAll(/```[^]*?```/g, '');
  const links = [...text.matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)];
  return links.map(([, link, image]) => (link ?? image)!).filter((to) => !to.includes('://'));
}

/** Files and folders of the repository that a page names as code. */
function pathsIn(page: string): readonly string[] {
  const text = readFileSync(page, 'utf8');
  const names = text.matchAll(/`((?:src|test|bench|training|k8s|docker|\.ci)\/[^`\s]*)[^`]*`/g);
  // Of a pattern, its folder.
  return [...names].map(([, name]) => name!.replace(/[^/]*\*.*/, ''));
}

const SCRIPTS = Object.keys(
  (JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: object }).scripts,
);

describe.each(PAGES)('%s', (page) => {
  test('names files and folders that there are', () => {
    expect(pathsIn(page).filter((path) => !existsSync(path))).toEqual([]);
  });

  test('names commands that there are', () => {
    const named = readFileSync(page, 'utf8').matchAll(/npm run (?:-s )?([\w:-]+)/g);
    expect([...named].map(([, name]) => name!).filter((name) => !SCRIPTS.includes(name))).toEqual(
      [],
    );
  });

  test('links to files and headings that there are', () => {
    const broken = targetsOf(page).filter((target) => {
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : join(dirname(page), path);
      return !existsSync(file) || (anchor !== undefined && !anchorsIn(file).includes(anchor));
    });
    expect(broken).toEqual([]);
  });
});
