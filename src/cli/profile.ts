import { open, rm, writeFile } from 'node:fs/promises';
import { batchSizesOf, readConfig } from '../config.ts';
import { InferenceEngine } from '../engine/engine.ts';
import { timeBatch } from '../engine/measure.ts';
import { fileProblem } from '../errors.ts';
import { paretoFront, rankedTiers } from '../model/ladder.ts';
import { openModel } from '../model/manifest.ts';
import { assertFits, engineOptionsOf } from '../start-deployment.ts';
import { EXIT, UsageError, progress } from './command.ts';
import { latencyPlot } from './plot.ts';

/** Timed runs of each sub-network and batch size on every worker, at most. */
export const MAX_RUNS = 7;
/** None of them begins after so many ms: large networks are measured fewer times. */
export const TIME_PER_PAIR_MS = 60;

/** The command line's options. */
export interface ProfileArguments {
  readonly plot?: string | undefined;
  readonly json: boolean;
  /** The settings. */
  readonly env: NodeJS.ProcessEnv;
}

/**
 * `depthserve profile`: every sub-network at every batch size, with the settings of the server.
 *
 * @returns the exit code.
 */
export async function profile({ plot, json, env }: ProfileArguments): Promise<number> {
  const config = readConfig(env);
  // Before the minutes of measuring.
  if (plot !== undefined) await assertWritable(plot);
  const model = await openModel(config.MODEL_DIR);
  const { manifest } = model;
  const engine = await InferenceEngine.start(engineOptionsOf(model, config), { failed: () => {} });
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort(new Error('interrupted')));
  const sizes = batchSizesOf(config);
  const { signal } = interrupted;
  const timing = { runs: MAX_RUNS, enoughMs: TIME_PER_PAIR_MS, signal, pause: 0 };
  const latency: Record<string, Record<number, number>> = {};
  try {
    await assertFits(engine, model);
    for (const [index, { skip }] of manifest.subNetworks.entries()) {
      progress(`measuring ${skip} (${index + 1} of ${manifest.subNetworks.length}) …`);
      const row: Record<number, number> = (latency[skip] = {});
      for (const size of sizes) {
        row[size] = await timeBatch(engine, skip, size, timing);
      }
    }
  } finally {
    progress('');
    await engine.release();
    await model.close();
  }

  const front = paretoFront(rankedTiers(manifest), latency);
  if (plot !== undefined) {
    await writeFile(plot, latencyPlot(front, latency, sizes, manifest.name));
  }
  const { provider, workers } = engine;
  const of = { model: manifest.name, version: manifest.version, provider, workers };
  process.stdout.write(
    json
      ? `${JSON.stringify({ ...of, unit: 'ms per batch', front, latency }, null, 2)}\n`
      : table(front, latency, sizes),
  );
  return EXIT.done;
}

/**
 * Leaves the file as it is, or not there: the measuring may be interrupted.
 *
 * @throws {UsageError} for a file that cannot be written.
 */
async function assertWritable(file: string): Promise<void> {
  try {
    const created = await open(file, 'ax').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await (created ?? (await open(file, 'a'))).close();
    if (created) await rm(file);
  } catch (error) {
    throw new UsageError(`--plot ${file}: ${fileProblem(error)}`, { cause: error });
  }
}

function table(
  front: ReturnType<typeof paretoFront>,
  latency: Readonly<Record<string, Readonly<Record<number, number>>>>,
  sizes: readonly number[],
): string {
  const onFront = new Set(front.map(({ skip }) => skip));
  const cell = (text: string) => text.padStart(9);
  const head = `${'batch'.padEnd(10)}${sizes.map((size) => cell(String(size))).join('')}`;
  const rows = Object.entries(latency).map(([skip, row]) => {
    const name = `${skip}${onFront.has(skip) ? ' *' : ''}`.padEnd(10);
    return `${name}${sizes.map((size) => cell(row[size]!.toFixed(2))).join('')}`;
  });
  return `${head}\n${rows.join('\n')}\n\nms per batch; * on the Pareto front\n`;
}
