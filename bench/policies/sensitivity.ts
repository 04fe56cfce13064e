/**
 * What halving and doubling each constant of the policy does to the accuracy delivered in time.
 *
 *   npm run bench:sensitivity -- [--jitter X] [--seeds N] [--only NAME]... [--markdown FILE]
 *
 * Each time, a copy of the compiled policy with one constant changed plays the quick grid: 21 times
 * in all, some minutes of one core. Rows are printed as they are known.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { BenchRecord } from './cell.ts';
import { writeInto } from './write-into.ts';

const CONSTANTS = [
  [
    'YIELDS',
    'depthserve/admission',
    "share of a newcomer's time left that makes another lose its place",
  ],
  ['HORIZON', 'depthserve/demand', 'longest budgets ahead for which demand and time are compared'],
  ['CAUTION', 'depthserve/demand', 'times that the variance of the demand is taken'],
  [
    'BATCH_SHARE',
    'depthserve/levels',
    'share of the median budget that an efficient batch may take',
  ],
  ['COMES_ABOUT', 'depthserve/levels', 'share of the second looks hoped for that come about'],
  ['SURPRISE', 'depthserve/demand', 'requests that may come where few are expected'],
  ['PROMISE', 'depthserve/depthserve', 'answers that a lost promise counts as much as'],
  ['NEGLIGIBLE', 'depthserve/price', 'chances above 1 minus this count as certain'],
  ['WANTED', 'depthserve/second-look', 'answers that being as sure as asked is worth'],
  ['LEAVE_MS', 'first-answers', 'time before its deadline at which a held answer leaves, ms'],
] as const;

const DIST = new URL('../../', import.meta.url).pathname;
const TABLES = new URL('../../../../bench/tables', import.meta.url).pathname;
const { values } = parseArgs({
  options: {
    jitter: { type: 'string', default: '0' },
    seeds: { type: 'string', default: '3' },
    only: { type: 'string', multiple: true },
    markdown: { type: 'string' },
  },
});

/** Mean delivered accuracy of each cell, in points. */
function played(change?: { name: string; file: string; factor: number }): Map<string, number> {
  // Beside the original: modules are found from there.
  const folder = mkdtempSync(join(DIST, '../sensitivity-'));
  try {
    const copy = join(folder, 'dist/bench');
    cpSync(DIST, copy, { recursive: true });
    cpSync(TABLES, join(folder, 'bench/tables'), { recursive: true });
    if (change) {
      const file = join(copy, `src/scheduler/${change.file}.js`);
      const text = readFileSync(file, 'utf8');
      const pattern = new RegExp(`const ${change.name} = (.*);`);
      const value = text.match(pattern)![1]!;
      const changed = `const ${change.name} = ${change.factor} * (${value});`;
      writeFileSync(file, text.replace(pattern, changed));
    }
    const json = join(folder, 'records.json');
    const others = join(folder, 'none.json');
    writeFileSync(others, '[]');
    const main = join(copy, 'bench/policies/main.js');
    const grid = ['--quick', '--jitter', values.jitter, '--seeds', values.seeds];
    execFileSync(process.execPath, [main, ...grid, '--others', others, '--json', json]);
    const cells = new Map<string, number>();
    for (const record of JSON.parse(readFileSync(json, 'utf8')) as BenchRecord[]) {
      const cell = [record.table, record.load, record.cv2].join();
      cells.set(cell, (cells.get(cell) ?? 0) + (100 * record.delivered) / Number(values.seeds));
    }
    return cells;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const asIs = played();
const difference = (name: string, file: string, factor: number) => {
  const all = [...played({ name, file, factor })].map(([cell, mean]) => mean - asIs.get(cell)!);
  const mean = all.reduce((sum, each) => sum + each, 0) / all.length;
  return `${mean.toFixed(2)} (${Math.min(...all).toFixed(1)} to ${Math.max(...all).toFixed(1)})`;
};
const asRow = (row: readonly string[]) => `| ${row.join(' | ')} |`;
const header = ['constant', 'meaning', 'halved, points', 'doubled, points'];
const table = [header, header.map(() => '---')].map(asRow);
console.log(table.join('\n'));
for (const [name, file, meaning] of CONSTANTS) {
  if (values.only && !values.only.includes(name)) continue;
  const changes = [0.5, 2].map((factor) => difference(name, file, factor));
  table.push(asRow([`\`${name}\``, meaning, ...changes]));
  console.log(table.at(-1));
}
if (values.markdown !== undefined) writeInto(values.markdown, 'sensitivity', table.join('\n'));
