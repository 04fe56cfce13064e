/**
 * How far the times that a server starts with are from measured ones: it measures as a start does,
 * then every sub-network at every batch size that matters, most of which a start interpolates.
 *
 *   npm run bench:interpolation -- [FOLDER ...] [--runs 3] [--json FILE]
 *
 * Folders of models; absent: models/cifar10 and models/grocery. The server's settings apply
 * (MAX_BATCH, INTRA_OP_THREADS, ...). Times that the start measured are compared, too: their errors
 * are what noise, evening out and a change of the machine's speed alone come to.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { batchSizesOf, readConfig } from '../src/config.ts';
import type * as Engines from '../src/engine/engine.ts';
import { measureTable, timeBatch } from '../src/engine/measure.ts';
import { paretoFront, rankedTiers } from '../src/model/ladder.ts';
import type * as Manifests from '../src/model/manifest.ts';
import { MeasuredLatency } from '../src/scheduler/latency.ts';
import { assertFits, engineOptionsOf } from '../src/start-deployment.ts';
import { median } from './median.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** Counted ones of each sub-network and batch size. */
    runs: { type: 'string', default: '3' },
    json: { type: 'string' },
  },
});
const folders = positionals.length > 0 ? positionals : ['models/cifar10', 'models/grocery'];
const config = readConfig(process.env);
/** Also between those of the table: the scheduler interpolates there, too. */
const BATCHES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32].filter((batch) => batch <= config.MAX_BATCH);
const AIM = 0.1;

/** Of the build, which has what they load: the file that threads run, the schema of manifests. */
const built = async <Module>(file: string) =>
  (await import(pathToFileURL(resolve('dist', file)).href)) as Module;
const { InferenceEngine } = await built<typeof Engines>('engine/engine.js');
const { openModel } = await built<typeof Manifests>('model/manifest.js');

/** What a start knew of a sub-network at a batch size: it timed that, or only a single image, or neither. */
const KNOWN = ['timed', 'one image timed', 'not timed'] as const;

interface Compared {
  readonly skip: string;
  readonly batch: number;
  readonly known: (typeof KNOWN)[number];
  readonly onFront: boolean;
  /** As the start has it, and as measured, ms. */
  readonly startMs: number;
  readonly ms: number;
  /** Relative. */
  readonly error: number;
}

async function compare(folder: string): Promise<readonly Compared[]> {
  const model = await openModel(folder);
  const { subNetworks } = model.manifest;
  const engine = await InferenceEngine.start(engineOptionsOf(model, config), { failed: () => {} });
  try {
    await assertFits(engine, model);
    const ranked = rankedTiers(model.manifest);
    const runs = new Map<string, number>();
    const run = engine.run.bind(engine);
    engine.run = (worker, tier, images) => {
      const what = `${tier.skip} ${images.length}`;
      runs.set(what, (runs.get(what) ?? 0) + 1);
      return run(worker, tier, images);
    };
    const { signal } = new AbortController();
    const sizes = batchSizesOf(config);
    const table = await measureTable(engine, {
      ranked,
      all: subNetworks,
      maxBatch: config.MAX_BATCH,
      sizes,
      signal,
      pause: 0,
    });
    engine.run = run;
    // The first run of each worker is not counted.
    const isTimed = (skip: string, batch: number) =>
      (runs.get(`${skip} ${batch}`) ?? 0) > engine.workers;
    const knownOf = (skip: string, batch: number) =>
      isTimed(skip, batch) ? 'timed' : isTimed(skip, 1) ? 'one image timed' : 'not timed';

    const latency = new MeasuredLatency(table);
    const front = new Set(paretoFront(ranked, table).map(({ skip }) => skip));
    const compared: Compared[] = [];
    for (const { skip, macs } of subNetworks) {
      for (const batch of BATCHES) {
        const timing = { runs: Number(values.runs), enoughMs: Infinity, signal, pause: 0 };
        const ms = await timeBatch(engine, skip, batch, timing);
        const startMs = latency.typical({ skip, macs, accuracy: 0 }, batch);
        const error = Math.abs(startMs / ms - 1);
        const known = knownOf(skip, batch);
        compared.push({ skip, batch, known, onFront: front.has(skip), startMs, ms, error });
      }
    }
    return compared;
  } finally {
    await engine.release();
    await model.close();
  }
}

const percent = (share: number) => (100 * share).toFixed(1);

/** Median and largest error, in %. */
function errors(compared: readonly Compared[]): string {
  if (compared.length === 0) return '  |  ';
  const all = compared.map(({ error }) => error);
  return `${percent(median(all))} | ${percent(Math.max(...all))}`;
}

function report(compared: readonly Compared[]): string {
  const of = (known: string, among = compared) => among.filter((each) => each.known === known);
  const rows = [...BATCHES, 'all'].map((batch) => {
    const mine = compared.filter((each) => batch === 'all' || each.batch === batch);
    const front = mine.filter(({ onFront, known }) => onFront && known !== 'timed');
    return `| ${[batch, ...KNOWN.map((known) => errors(of(known, mine))), errors(front)].join(' | ')} |`;
  });
  const interpolated = compared.filter(({ known }) => known !== 'timed');
  const within = interpolated.filter(({ error }) => error <= AIM).length;
  const worst = interpolated.toSorted((a, b) => b.error - a.error)[0]!;
  return [
    `| batch | ${KNOWN.map((known) => `${known}: median % | max %`).join(' | ')} | front, interpolated: median % | max % |`,
    `|${'---|'.repeat(9)}`,
    ...rows,
    '',
    `Interpolated: ${errors(interpolated)} (median | max, %); ${within} of ${interpolated.length} within ${100 * AIM} %.`,
    `The worst, ${worst.skip} with ${worst.batch}: ${worst.startMs.toFixed(2)} ms at start, measured ${worst.ms.toFixed(2)}.`,
  ].join('\n');
}

process.stdout.write(
  `${cpus()[0]!.model}, ${cpus().length} cores, Node ${process.version}, medians of ${values.runs} runs; ` +
    'by what the start knew: error of its times\n',
);
const byFolder: Record<string, readonly Compared[]> = {};
for (const folder of folders) {
  byFolder[folder] = await compare(folder);
  process.stdout.write(`\n${folder}\n\n${report(byFolder[folder])}\n`);
}
if (values.json) writeFileSync(values.json, `${JSON.stringify(byFolder, null, 1)}\n`);
