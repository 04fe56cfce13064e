/**
 * How long decisions, admissions, giving up and second looks take, by queue length.
 *
 *   npm run bench:decisions
 */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { performance } from 'node:perf_hooks';
import { depthserve } from '../src/scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from '../src/scheduler/latency.ts';
import type { Unsure, View, Waiting } from '../src/scheduler/policy.ts';
import { Random } from './simulator/random.ts';
import { parseProfile } from './simulator/tables.ts';

const TABLE = new URL('../../../bench/tables/cifar-cpu.json', import.meta.url);
const profile = parseProfile(readFileSync(TABLE, 'utf8'), 'cifar-cpu');
const random = new Random(1);
const QUEUES = 2000;

/** Deadlines over the next `span` ms; the queue can be answered, or not, by its length. */
function waiting(length: number, span: number): Waiting[] {
  return Array.from({ length }, (_, id): Waiting => ({
    id,
    arrivedAt: 0,
    deadline: 2 + random.uniform() * span,
    minAccuracy: 0,
  })).sort((a, b) => a.deadline - b.deadline);
}

function view(length: number, span: number): View {
  const queue = waiting(length, span);
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

/** Sub-networks whose answers may be looked at again. */
const firsts = profile.tiers.filter(({ again }) => again);

/** So many have answers that a second look could better; `promised` others wait for a first one. */
function unsureView(length: number, promised: number, span: number): View {
  const unsure = waiting(length, span).map((request): Unsure => {
    const tier = random.pick(firsts);
    const gains = tier.again!.bins.filter((bin) => bin.second > bin.first);
    return { ...request, look: { tier, confidence: random.uniform() * gains.at(-1)!.below } };
  });
  // Those who have a promise are not decoded yet: an engine may look again.
  return { ...view(promised, span), queue: [], unsure };
}

function measure(
  label: string,
  make: () => View,
  run: (seen: View) => void,
  before: (seen: View) => void = () => {},
): void {
  const times: number[] = [];
  for (let i = 0; i < QUEUES; i++) {
    const seen = make();
    before(seen);
    const started = performance.now();
    run(seen);
    times.push((performance.now() - started) * 1000);
  }
  // The first are compiled while they run.
  const sorted = times.slice(QUEUES / 4).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(share * sorted.length)]!.toFixed(0).padStart(6);
  console.log(`${label.padEnd(53)} median ${at(0.5)} us   p99 ${at(0.99)} us`);
}

console.log(
  `${cpus()[0]!.model}, ${cpus().length} cores, Node ${process.version}, ${QUEUES} queues each`,
);
for (const [situation, perRequestMs] of [
  ['can be answered', 1.2],
  ['overloaded', 0.3],
] as const) {
  for (const length of [1, 16, 64, 256]) {
    const span = Math.max(40, length * perRequestMs);
    const make = () => view(length, span);
    const waits = `${length} waiting, ${situation}`;
    measure(`decide, ${waits}`, make, (seen) => depthserve.decide(seen));
    const admit = (seen: View) =>
      depthserve.admit(seen, { id: -1, arrivedAt: 0, deadline: 25, minAccuracy: 0 });
    measure(`admit, ${waits}`, make, admit);
    // As the next one after a refusal: nobody has come or gone.
    measure(`admit another, ${waits}`, make, admit, admit);
    measure(`give up, ${waits}`, make, (seen) =>
      depthserve.hopeless!({ ...seen, enginesFreeAt: [5] }),
    );
  }
  for (const length of [64, 256]) {
    const span = Math.max(40, length * perRequestMs);
    for (const promised of [0, length]) {
      const make = () => unsureView(length, promised, span);
      const waits = `${length} unsure, ${promised} waiting, ${situation}`;
      const looks = depthserve.secondLooks!;
      measure(`leave, ${waits}`, make, (seen) => looks.leaving(seen));
      measure(`look again, ${waits}`, make, (seen) => looks.choose(seen));
    }
  }
}
