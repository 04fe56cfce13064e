import { setTimeout as sleep } from 'node:timers/promises';
import { paretoFront } from '../model/ladder.ts';
import { dense } from '../scheduler/latency.ts';
import type { LatencyTable } from '../scheduler/latency.ts';
import type { Tier } from '../scheduler/policy.ts';
import type { InferenceEngine } from './engine.ts';

/** Batch sizes that are measured; the largest allowed comes on top, those between are interpolated. */
const MEASURED = [1, 4];
/** Timed runs of each. */
const RUNS = 3;
/** Fewer where they take longer, in ms: other sub-networks say as much. */
const ENOUGH_MS = 4;
/** A sub-network is not timed if another one is no less accurate at this share of its MACs. */
const CHEAPER = 0.9;
/** A batch that is expected to take longer, in ms, is not measured: times grow in proportion. */
const LONGEST_MS = 100;

export interface MeasureOptions {
  /** Those that can be chosen, with their accuracies. */
  readonly ranked: readonly Tier[];
  /** All that may be pinned. */
  readonly all: readonly Pick<Tier, 'skip' | 'macs'>[];
  readonly maxBatch: number;
  /** Batch sizes that the table shall have, ascending. */
  readonly sizes: readonly number[];
  readonly signal: AbortSignal;
  /** Pauses, as a multiple of each run's time: leaves the processor to others. */
  readonly pause: number;
  /** Told after each sub-network. */
  readonly onProgress?: Progress | undefined;
}

/** How many of how many sub-networks are measured. */
export type Progress = (done: number, of: number) => void;

/**
 * The latency table that a server starts with, in seconds rather than minutes. Every sub-network
 * runs; those that may be chosen are timed with one image, and of the Pareto front the cheapest, the
 * middle and the deepest with a few batch sizes. The rest follows from MACs and how times grow, and
 * is corrected while serving. What a busy neighbour did to single measurements is evened out.
 *
 * @returns median ms of work by sub-network and batch size.
 */
export async function measureTable(
  engine: InferenceEngine,
  options: MeasureOptions,
): Promise<LatencyTable> {
  const { ranked, all, maxBatch, sizes, signal, pause, onProgress } = options;
  const time = (skip: string, batch: number, runs: number) =>
    timeBatch(engine, skip, batch, { runs, enoughMs: ENOUGH_MS, signal, pause });

  const single = new Map<string, number>();
  const timed = worthTiming(ranked, all);
  for (const [index, { skip }] of all.entries()) {
    const ms = await time(skip, 1, timed.has(skip) ? RUNS : 0);
    if (timed.has(skip)) single.set(skip, ms);
    onProgress?.(index + 1, all.length);
  }
  const alone = evenedOut(all, single);

  const front = paretoFront(
    ranked,
    Object.fromEntries([...alone].map(([skip, ms]) => [skip, { 1: ms }])),
  );
  const sample = [front[0]!, front[front.length >> 1]!, front.at(-1)!];
  /** By batch size: how many times as long it takes as a single image. */
  const growth: Record<number, number> = { 1: 1 };
  let known = 1;
  for (const batch of [...MEASURED.filter((size) => size < maxBatch), maxBatch].slice(1)) {
    const factors: number[] = [];
    for (const { skip } of new Set(sample)) {
      const expected = (alone.get(skip)! * growth[known]! * batch) / known;
      if (expected > LONGEST_MS) continue;
      const ms = await time(skip, batch, batch === maxBatch ? 1 : RUNS);
      factors.push(ms / alone.get(skip)!);
    }
    if (factors.length === 0) break;
    // Never below one image, whatever disturbed it.
    growth[batch] = Math.max(growth[known]!, median(factors));
    known = batch;
  }

  const factors = dense(growth);
  const factorOf = (size: number) => factors[size] ?? (factors[known]! * size) / known;
  return Object.fromEntries(
    [...alone].map(([skip, ms]) => [
      skip,
      Object.fromEntries(sizes.map((size) => [size, ms * factorOf(size)])),
    ]),
  );
}

/** Without those that another sub-network is sure to beat, but for the ends of the line of MACs. */
export function worthTiming(
  ranked: readonly Tier[],
  all: MeasureOptions['all'],
): ReadonlySet<string> {
  const isBeaten = ({ accuracy, macs }: Tier) =>
    ranked.some((other) => other.accuracy >= accuracy && other.macs <= CHEAPER * macs);
  const byMacs = all.toSorted((a, b) => a.macs - b.macs);
  const worth = [...ranked.filter((tier) => !isBeaten(tier)), byMacs[0]!, byMacs.at(-1)!];
  return new Set(worth.map(({ skip }) => skip));
}

/** A table that was measured before holds if this machine is at most so many times off. */
const HOLDS = 1.5;

/** Whether single images take about as long as `table` says: by the quickest and the deepest network. */
export async function stillHolds(
  table: LatencyTable,
  engine: InferenceEngine,
  { ranked, all, signal, pause }: MeasureOptions,
): Promise<boolean> {
  if (!all.every(({ skip }) => skip in table)) return false;
  const front = paretoFront(ranked, table);
  for (const { skip } of [front[0]!, front.at(-1)!]) {
    const timing = { runs: RUNS, enoughMs: Infinity, signal, pause };
    const ms = await timeBatch(engine, skip, 1, timing);
    const ratio = ms / table[skip]![1]!;
    if (ratio > HOLDS || ratio < 1 / HOLDS) return false;
  }
  return true;
}

/**
 * Half of what was measured, half of what the MACs let expect (geometric mean): a line through the
 * medians of slopes and offsets (Theil and Sen), which single outliers do not move. Of what was not
 * measured: that line.
 */
export function evenedOut(
  networks: readonly Pick<Tier, 'skip' | 'macs'>[],
  measured: ReadonlyMap<string, number>,
): Map<string, number> {
  const points = networks.flatMap(({ skip, macs }) => {
    const ms = measured.get(skip);
    return ms === undefined ? [] : { macs, ms };
  });
  const slopes = points.flatMap((a) =>
    points.flatMap((b) => (b.macs > a.macs ? (b.ms - a.ms) / (b.macs - a.macs) : [])),
  );
  const slope = slopes.length > 0 ? Math.max(0, median(slopes)) : 0;
  const offset = median(points.map(({ macs, ms }) => ms - slope * macs));
  const least = Math.min(...points.map(({ ms }) => ms));
  return new Map(
    networks.map(({ skip, macs }) => {
      const expected = offset + slope * macs;
      const ms = measured.get(skip) ?? Math.max(least, expected);
      return [skip, expected > 0 ? Math.sqrt(ms * expected) : ms];
    }),
  );
}

export interface Timing {
  /** After one that is not counted. */
  readonly runs: number;
  /** No further run begins after so many ms of them. */
  readonly enoughMs: number;
  /** Stops between two runs. */
  readonly signal: AbortSignal;
  /** After each run, as a multiple of its time. */
  readonly pause: number;
}

/** @returns median ms of at most `runs` runs on every worker; NaN of none. */
export async function timeBatch(
  engine: InferenceEngine,
  skip: string,
  batch: number,
  timing: Timing,
): Promise<number> {
  const image = trialImage(engine.imageBytes);
  const images = Array.from({ length: batch }, () => image);
  const times = await Promise.all(
    Array.from({ length: engine.workers }, (_, worker) =>
      timeRuns(engine, worker, skip, images, timing),
    ),
  );
  return median(times.flat());
}

async function timeRuns(
  engine: InferenceEngine,
  worker: number,
  skip: string,
  images: readonly Uint8Array[],
  { runs, enoughMs, signal, pause }: Timing,
): Promise<number[]> {
  const timeRun = async () => {
    signal.throwIfAborted();
    const { workMs } = await engine.run(worker, { skip }, images);
    if (pause > 0) await sleep(pause * workMs, undefined, { signal });
    return workMs;
  };
  // The first run of a size takes up to five times as long: memory is allocated for it.
  await timeRun();
  const times: number[] = [];
  let spent = 0;
  while (times.length < runs && spent < enoughMs) {
    const ms = await timeRun();
    times.push(ms);
    spent += ms;
  }
  return times;
}

/** Not zeros: a blank image could take short cuts that real ones don't. */
export function trialImage(bytes: number): Uint8Array {
  const image = new Uint8Array(bytes);
  for (let index = 0; index < bytes; index++) image[index] = index * 31;
  return image;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
