import type { LatencyTable } from '../../src/scheduler/latency.ts';
import type { Tier } from '../../src/scheduler/policy.ts';

/** What a simulation needs of a model: a `GET /model` dump has this form, with more beside it. */
export interface Profile {
  readonly name: string;
  /** Cheapest first. */
  readonly tiers: readonly Tier[];
  /** Ms per sub-network and batch size. */
  readonly latency: LatencyTable;
  readonly engineWorkers: number;
  readonly maxBatch: number;
}

/**
 * Reads a latency table: the reply of `GET /model`, or a file of bench/tables.
 * @throws {SyntaxError} naming what is missing or makes no sense.
 */
export function parseProfile(json: string, fallbackName: string): Profile {
  const data = JSON.parse(json) as Partial<Profile> & { manifest?: { name?: string } };
  const { tiers, latency } = data;
  if (!Array.isArray(tiers) || tiers.length === 0) {
    throw new SyntaxError('a latency table needs "tiers": [{skip, accuracy, macs}, ...]');
  }
  let { maxBatch = 32 } = data;
  for (const { skip, accuracy } of tiers) {
    if (typeof accuracy !== 'number') throw new SyntaxError(`tier ${skip} has no accuracy`);
    const row = Object.entries(latency?.[skip] ?? {});
    if (row.length === 0) throw new SyntaxError(`"latency" has no row for tier ${skip}`);
    for (const [size, ms] of row) {
      if (Number(size) >= 1 && Number.isInteger(Number(size)) && ms > 0 && ms < Infinity) continue;
      throw new SyntaxError(`latency of ${skip}: "${size}": ${ms} is not ms of a batch size`);
    }
    // No times are made up: the bound has none for larger batches.
    maxBatch = Math.min(maxBatch, Math.max(...row.map(([size]) => Number(size))));
  }
  return {
    name: data.name ?? data.manifest?.name ?? fallbackName,
    tiers: [...tiers].sort((a, b) => a.accuracy - b.accuracy),
    latency: latency!,
    engineWorkers: data.engineWorkers ?? 1,
    maxBatch,
  };
}

/** Images/s of `workers` engines that run full batches of the most accurate sub-network. */
export function capacity({ tiers, latency, maxBatch }: Profile, workers = 1): number {
  const row = latency[tiers.at(-1)!.skip]!;
  const best = Object.entries(row)
    .filter(([size]) => Number(size) <= maxBatch)
    .map(([size, ms]) => (1000 * Number(size)) / ms);
  return workers * Math.max(...best);
}
