import { evenedOut, median, worthTiming } from './engine/measure.ts';
import type { LatencyTable, MeasuredLatency } from './scheduler/latency.ts';
import type { Tier } from './scheduler/policy.ts';
import type { Clock } from './scheduler/scheduler.ts';

/** Runs of each sub-network, after one that is not counted. */
const RUNS = 4;
/** Pause after these, as a multiple of their time: the processor is for others. */
const PAUSE = 19;
/** Pause between two tries while there is work, ms. */
const RETRY_MS = 500;
/** Pause after the first measurement, ms, and so many times as long after each further one. */
const AGAIN_MS = 2000;
const LONGER = 4;
/** After two measurements that agree, ms, and at most: a machine does not change often. */
const SETTLED_MS = 600_000;
/** Times that differ by less than this factor agree. */
const AGREES = 1.15;

export interface Remeasured {
  /** All that may be chosen. */
  readonly tiers: readonly Tier[];
  /** Whose table is put right. */
  readonly latency: Pick<MeasuredLatency, 'table' | 'restate'>;
  /** Runs one image. @returns ms of work; null: there is other work, or it failed. */
  readonly trial: (tier: Tier) => Promise<number | null>;
  /** Told when the table is another. */
  readonly changed: () => void;
}

/**
 * Measures single images again while nothing is asked, ever more rarely, and once two measurements
 * agree every ten minutes: a table that was taken beside a busy neighbour would otherwise be believed
 * for the life of the process. How times grow with the batch is kept.
 *
 * @param signal ends it.
 */
export async function remeasure(
  { tiers, latency, trial, changed }: Remeasured,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const pause = pauses(clock, signal);
  /**
   * As at the start: one run right after the other. After a pause each would show what waking a core
   * takes, which is the same for all sub-networks: the shallow ones would seem to be worth nothing.
   */
  const time = async (tier: Tier): Promise<number> => {
    const times: number[] = [];
    while (times.length <= RUNS) {
      signal.throwIfAborted();
      const ms = await trial(tier);
      if (ms === null) await pause(RETRY_MS);
      else times.push(ms);
    }
    await pause(PAUSE * times.reduce((sum, ms) => sum + ms));
    return median(times.slice(1));
  };
  const timed = worthTiming(tiers, tiers);
  let pauseMs = AGAIN_MS;
  try {
    for (;;) {
      const times = new Map<string, number>();
      for (const tier of tiers.filter(({ skip }) => timed.has(skip))) {
        times.set(tier.skip, await time(tier));
      }
      const rows = rescaled(latency.table, evenedOut(tiers, times));
      if (rows) {
        latency.restate(rows);
        changed();
      }
      // Where times scatter too much to agree, it must not go on for ever at this pace.
      if (!rows) pauseMs = SETTLED_MS;
      await pause(pauseMs);
      pauseMs = Math.min(LONGER * pauseMs, SETTLED_MS);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Pause before the first photo of its own, ms; doubled each time, up to the max. */
export const ALONE_MS = 500;
const MAX_ALONE_MS = 60_000;

/**
 * Has an image answered after ever longer pauses, for as long as the service runs: after a pause
 * caches are cold, and what a refusal names must be enough then, before any caller has shown it.
 *
 * @param ask answers one, unless there is other work.
 * @param signal ends it.
 */
export async function askAlone(
  ask: () => Promise<void>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const pause = pauses(clock, signal);
  try {
    for (let ms = ALONE_MS; ; ms = Math.min(2 * ms, MAX_ALONE_MS)) {
      await pause(ms);
      await ask();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Waits for so many ms; rejects with the signal's reason. */
function pauses(clock: Clock, signal: AbortSignal): (ms: number) => Promise<void> {
  return (ms) =>
    new Promise<void>((resolve, reject) => {
      const end = () => {
        cancel();
        reject(signal.reason as Error);
      };
      const cancel = clock.at(clock.now() + ms, () => {
        signal.removeEventListener('abort', end);
        resolve();
      });
      if (signal.aborted) end();
      else signal.addEventListener('abort', end);
    });
}

/**
 * The table in proportion to what single images take now; null: both measurements agree. Never a
 * part of it: rows of two measurements do not compare.
 */
function rescaled(table: LatencyTable, single: ReadonlyMap<string, number>): LatencyTable | null {
  const factors = [...single].map(([skip, ms]) => [skip, ms / table[skip]![1]!] as const);
  if (factors.every(([, factor]) => factor < AGREES && factor > 1 / AGREES)) return null;
  const rows = factors.map(([skip, factor]) => {
    const scaled = Object.entries(table[skip]!).map(([size, old]) => [size, old * factor]);
    return [skip, Object.fromEntries(scaled)];
  });
  return Object.fromEntries(rows) as LatencyTable;
}
