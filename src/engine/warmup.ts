import { setTimeout as sleep } from 'node:timers/promises';
import type { LatencyTable } from '../scheduler/latency.ts';
import type { InferenceEngine } from './engine.ts';

/** Timed runs of each (sub-network, batch size) and worker, after one that is not counted. */
export const MOST_RUNS = 7;
/** Stop timing a pair after this long, in ms: large networks are measured fewer times. */
export const TIME_PER_PAIR_MS = 60;

/**
 * Runs every (sub-network, batch size) on every worker and measures it. All workers run at the
 * same time, as they do under load, so the table holds when they compete for the processor.
 *
 * @param signal stops between two runs.
 * @param pause after each run, as a multiple of its time: leaves the processor to others.
 * @returns median ms of work by sub-network and batch size, messages there and back not counted.
 */
export async function warmUp(
  engine: InferenceEngine,
  subNetworks: readonly string[],
  batchSizes: readonly number[],
  imageBytes: number,
  signal: AbortSignal,
  pause = 0,
): Promise<LatencyTable> {
  const table: Record<string, Record<number, number>> = {};
  const image = trialImage(imageBytes);

  for (const batch of batchSizes) {
    const images = Array.from({ length: batch }, () => image);
    for (const skip of subNetworks) {
      const times = await Promise.all(
        Array.from({ length: engine.workers }, (_, worker) =>
          timeRuns(engine, worker, skip, images, { runs: MOST_RUNS, cold: 1, signal, pause }),
        ),
      );
      (table[skip] ??= {})[batch] = median(times.flat());
    }
  }
  return table;
}

export interface Timing {
  readonly runs: number;
  /** Runs before them, which are not counted. */
  readonly cold: number;
  /** No further run begins after so many ms of them; default: TIME_PER_PAIR_MS. */
  readonly enoughMs?: number;
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
  imageBytes: number,
  timing: Timing,
): Promise<number> {
  const image = trialImage(imageBytes);
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
  { runs, cold, enoughMs = TIME_PER_PAIR_MS, signal, pause }: Timing,
): Promise<number[]> {
  const timeRun = async () => {
    signal.throwIfAborted();
    const { workMs } = await engine.run(worker, { skip }, images);
    if (pause > 0) await sleep(pause * workMs, undefined, { signal });
    return workMs;
  };
  for (let i = 0; i < cold; i++) await timeRun();
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
  return Uint8Array.from({ length: bytes }, (_, index) => (index * 31) % 256);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
