/**
 * How long decisions, admissions and giving up take, by queue length.
 *
 *   npm run bench:decisions
 */
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { depthserve } from '../src/scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from '../src/scheduler/latency.ts';
import type { View, Waiting } from '../src/scheduler/policy.ts';
import { Random } from './simulator/random.ts';
import { parseProfile } from './simulator/tables.ts';

const TABLE = new URL('../../../bench/tables/cifar-cpu.json', import.meta.url);
const profile = parseProfile(readFileSync(TABLE, 'utf8'), 'cifar-cpu');
const random = new Random(1);
const QUEUES = 2000;

/** Deadlines over the next `span` ms; the queue can be answered, or not, by its length. */
function view(length: number, span: number): View {
  const queue = Array.from({ length }, (_, id): Waiting => ({
    id,
    arrivedAt: 0,
    deadline: 2 + random.uniform() * span,
    minAccuracy: 0,
  })).sort((a, b) => a.deadline - b.deadline);
  return {
    now: 0,
    queue,
    admitted: queue,
    unsure: [],
    tiers: profile.tiers,
    latency: new MeasuredLatency(profile.latency),
    arrivals: {
      rate: 0.9,
      dispersion: 4,
      budgets: Array.from({ length: 64 }, () => random.pick([15, 25, 40])).sort((a, b) => a - b),
    },
    enginesFreeAt: [0],
    maxBatch: profile.maxBatch,
  };
}

function measure(
  label: string,
  length: number,
  span: number,
  run: (seen: View) => void,
  before: (seen: View) => void = () => {},
): void {
  const times: number[] = [];
  for (let i = 0; i < QUEUES; i++) {
    const seen = view(length, span);
    before(seen);
    const started = performance.now();
    run(seen);
    times.push((performance.now() - started) * 1000);
  }
  // The first are compiled while they run.
  const sorted = times.slice(QUEUES / 4).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(share * sorted.length)]!.toFixed(0).padStart(6);
  console.log(`${label.padEnd(38)} median ${at(0.5)} us   p99 ${at(0.99)} us`);
}

for (const [situation, perRequestMs] of [
  ['can be answered', 1.2],
  ['overloaded', 0.3],
] as const) {
  for (const length of [1, 16, 64, 256]) {
    const span = Math.max(40, length * perRequestMs);
    measure(`decide, ${length} waiting, ${situation}`, length, span, (seen) =>
      depthserve.decide(seen),
    );
    const admit = (seen: View) =>
      depthserve.admit(seen, { id: -1, arrivedAt: 0, deadline: 25, minAccuracy: 0 });
    measure(`admit, ${length} waiting, ${situation}`, length, span, admit);
    // As the next one after a refusal: nobody has come or gone.
    measure(`admit another, ${length} waiting, ${situation}`, length, span, admit, admit);
    measure(`give up, ${length} waiting, ${situation}`, length, span, (seen) =>
      depthserve.hopeless!({ ...seen, enginesFreeAt: [5] }),
    );
  }
}
