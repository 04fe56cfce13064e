/**
 * Every policy on every cell of tables, loads and burstiness, against the clairvoyant bound.
 *
 *   npm run bench:policies -- [--quick] [--json FILE] [--markdown FILE] [--trace FILE]...
 *     --table FILE     only this latency table; may be repeated
 *     --seeds N        instead of 5, or 2 when quick
 *     --jitter X       batch times scatter: sigma of a log-normal factor with median 1; the bound,
 *                      which knows only the typical times, is none then
 *     --others FILE    runs our policy alone; rivals and bound of the same cells are those of what
 *                      --json wrote before; may be repeated
 *     --records FILE   tabulates what --json wrote before, and runs nothing; may be repeated
 *     --markdown FILE  the table; between its two marks, if FILE has them
 *     --mark NAME      of the marks, instead of `policies`
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { parseProfile } from '../simulator/tables.ts';
import { runCell } from './cell.ts';
import type { BenchRecord, Cell } from './cell.ts';
import { markdown, summary, verdicts } from './table.ts';
import { writeInto } from './write-into.ts';

interface Task {
  readonly cell: Cell;
  readonly seed: number;
  readonly count: number;
  /** Only our policy. */
  readonly alone: boolean;
}

const TABLES = ['cifar-cpu', 'resnet50-gpu', 'vit-b16-gpu'];
const TABLES_FOLDER = new URL('../../../../bench/tables/', import.meta.url);

const GRIDS = {
  full: {
    loads: [0.3, 0.5, 0.7, 0.8, 0.95, 1.1, 1.3, 1.6, 2],
    cv2s: [1, 4, 8],
    seeds: 5,
    count: 3000,
  },
  quick: { loads: [0.8, 1.3, 2], cv2s: [1, 8], seeds: 2, count: 3000 },
};

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      markdown: { type: 'string' },
      mark: { type: 'string', default: 'policies' },
      trace: { type: 'string', multiple: true, default: [] },
      table: { type: 'string', multiple: true },
      seeds: { type: 'string' },
      jitter: { type: 'string', default: '0' },
      others: { type: 'string', multiple: true },
      records: { type: 'string', multiple: true },
    },
  });
  const grid = values.quick ? GRIDS.quick : GRIDS.full;
  const jitter = Number(values.jitter);
  const seeds = values.seeds === undefined ? grid.seeds : Number(values.seeds);
  const files =
    values.table ?? TABLES.map((name) => new URL(`${name}.json`, TABLES_FOLDER).pathname);
  const profiles = files.map((file) => ({
    ...parseProfile(readFileSync(file, 'utf8'), ''),
    name: basename(file, '.json'),
  }));

  const tasks = profiles.flatMap((profile) =>
    grid.loads.flatMap((load) => {
      const synthetic = grid.cv2s.map((cv2): Cell => ({ profile, load, cv2, trace: null, jitter }));
      const traced = values.trace.map((trace): Cell => ({
        profile,
        load,
        cv2: null,
        trace,
        jitter,
      }));
      return [...synthetic, ...traced].flatMap((cell) =>
        Array.from({ length: seeds }, (_, seed): Task => ({
          cell,
          seed: seed + 1,
          count: grid.count,
          alone: values.others !== undefined,
        })),
      );
    }),
  );

  const read = (files: readonly string[]) =>
    files.flatMap((file) => JSON.parse(readFileSync(file, 'utf8')) as BenchRecord[]);
  const ran = values.records ? read(values.records) : await runAll(tasks);
  const records = joined(ran, read(values.others ?? []));
  if (values.json !== undefined) {
    writeFileSync(values.json, `[\n${records.map(asLine).join(',\n')}\n]\n`);
  }
  if (records.every(({ policy }) => policy === 'depthserve')) return;
  const base = new Map(profiles.map(({ name, tiers }) => [name, tiers[0]!.accuracy]));
  const all = verdicts(records, base);
  const table = `${summary(all)}\n\n${markdown(all)}`;
  console.log(table);
  if (values.markdown !== undefined) writeInto(values.markdown, values.mark, table);
}

/** `ours`, and what others made of the same arrivals. */
function joined(ours: readonly BenchRecord[], others: readonly BenchRecord[]): BenchRecord[] {
  const arrivals = ({ table, load, cv2, trace, jitter, seed }: BenchRecord) =>
    [table, load, cv2, trace, jitter, seed].join();
  const played = new Set(ours.map(arrivals));
  const same = others.filter((each) => each.policy !== 'depthserve' && played.has(arrivals(each)));
  return [...ours, ...same];
}

function asLine(record: BenchRecord): string {
  return JSON.stringify(record, (_key, value: unknown) =>
    typeof value === 'number' ? Number(value.toFixed(6)) : value,
  );
}

/** On all processors; in the order of the tasks. */
async function runAll(tasks: readonly Task[]): Promise<BenchRecord[]> {
  const results: BenchRecord[][] = [];
  let next = 0;
  const work = () =>
    new Promise<void>((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url));
      let mine = -1;
      const give = () => {
        mine = next++;
        if (mine < tasks.length) worker.postMessage(tasks[mine]);
        else void worker.terminate().then(() => resolve());
      };
      worker.on('message', (records: BenchRecord[]) => {
        results[mine] = records;
        if (process.stderr.isTTY) process.stderr.write(`\r${mine + 1}/${tasks.length}`);
        give();
      });
      worker.on('error', reject);
      give();
    });
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return results.flat();
}

if (isMainThread) await main();
else {
  parentPort!.on('message', (task: Task) => {
    void runCell(task.cell, task.seed, task.count, task.alone).then((records) =>
      parentPort!.postMessage(records),
    );
  });
}
