import { readFileSync } from 'node:fs';
import { atRate, constant, parseTrace, renewal, requests } from '../simulator/arrivals.ts';
import type { Request } from '../simulator/arrivals.ts';
import { upperBound } from '../simulator/bound.ts';
import { summarise } from '../simulator/summary.ts';
import { policiesFor } from '../simulator/policies.ts';
import { Random } from '../simulator/random.ts';
import { simulate } from '../simulator/run.ts';
import { capacity } from '../simulator/tables.ts';
import type { Profile } from '../simulator/tables.ts';
import { missedAims } from './aims.ts';

/** One kind of traffic on one latency table. */
export interface Cell {
  readonly profile: Profile;
  /** Mean arrival rate over the capacity of the most accurate sub-network. */
  readonly load: number;
  /** Squared coefficient of variation of the gaps; null: a trace. */
  readonly cv2: number | null;
  /** File with arrival times; null: synthetic. */
  readonly trace: string | null;
  /** Sigma of the log-normal factor on batch times, whose median is 1; 0: exactly as in the table. */
  readonly jitter: number;
}

export interface BenchRecord {
  readonly table: string;
  readonly load: number;
  readonly cv2: number | null;
  readonly trace: string | null;
  readonly policy: string;
  readonly seed: number;
  readonly attainment: number;
  readonly accuracy: number;
  /** attainment x accuracy. */
  readonly delivered: number;
  /** Of the cell; absent: batches take exactly what the table says. */
  readonly jitter?: number;
}

/** Ms, drawn evenly. */
export const BUDGETS = [15, 25, 40];
export const BOUND = 'clairvoyant-bound';

/**
 * Every policy and the bound on the same arrivals.
 *
 * @param alone only our policy.
 */
export async function runCell(
  cell: Cell,
  seed: number,
  count: number,
  alone: boolean,
): Promise<BenchRecord[]> {
  const { profile, load, cv2, trace, jitter } = cell;
  const arriving = arrivals(cell, seed, count);
  const traffic = { table: profile.name, load, cv2, trace: trace && basename(trace), seed };
  const common = jitter === 0 ? traffic : { ...traffic, jitter };
  const records: BenchRecord[] = [];
  const policies = policiesFor(profile.tiers);
  for (const policy of alone ? policies.slice(0, 1) : policies) {
    const outcomes = await simulate({
      profile,
      policy,
      requests: arriving,
      seed,
      engines: profile.engineWorkers,
      replicas: 1,
      balancing: 'round-robin',
      slowdowns: [],
      jitter,
    });
    const { attainment, accuracy, delivered } = summarise(outcomes);
    records.push({ ...common, policy: policy.name, attainment, accuracy, delivered });
  }
  if (alone || jitter !== 0) return records;
  const ours = records[0]!;
  const base = profile.tiers[0]!.accuracy;
  const bound = upperBound(
    profile,
    arriving,
    profile.engineWorkers,
    (first) => missedAims(ours, first, base).length === 0,
  );
  records.push({ ...common, policy: BOUND, ...bound });
  return records;
}

function arrivals({ profile, load, cv2, trace }: Cell, seed: number, count: number): Request[] {
  const rate = load * capacity(profile, profile.engineWorkers);
  const times =
    trace === null
      ? renewal(constant(rate), cv2!, (1000 * count) / rate, new Random(seed, 0))
      : atRate(parseTrace(readFileSync(trace, 'utf8')), rate);
  return requests(times, BUDGETS, [0], new Random(seed, 1));
}

function basename(path: string): string {
  return path.split('/').at(-1)!;
}
