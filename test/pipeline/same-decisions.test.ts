/**
 * The server and the simulator run the same pipeline. Here one arrival trace is played to both: to a
 * `Deployment`, which is what the server puts together, and to a simulated replica. Each decision
 * of the one is compared with that of the other.
 */
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { constant, renewal } from '../../bench/simulator/arrivals.ts';
import type { Request } from '../../bench/simulator/arrivals.ts';
import { VirtualClock } from '../../bench/simulator/clock.ts';
import { Random } from '../../bench/simulator/random.ts';
import { PIXELS_PER_MS, simulate } from '../../bench/simulator/run.ts';
import type { Setup } from '../../bench/simulator/run.ts';
import { capacity, parseProfile } from '../../bench/simulator/tables.ts';
import type { Profile } from '../../bench/simulator/tables.ts';
import { Deployment } from '../../src/deployment.ts';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { ExpiredError, RefusedError } from '../../src/scheduler/scheduler.ts';
import { fakeParts, jpegOf } from '../fake-deployment.ts';

/** What was decided. Times in ms on the virtual clock. */
interface Decisions {
  /** For each request: what became of it, when, and the sub-network that answered. */
  readonly outcomes: readonly { result: string; at: number; skip: string | undefined }[];
  /** Each batch in the order of dispatch. */
  readonly batches: readonly { at: number; skip: string; size: number }[];
}

const ENGINES = 2;
const DECODERS = 2;
/** Something else takes the processor for a while: some of those admitted expire. */
const SLOW = { from: 500, to: 800, factor: 4 };

/** Images of different sizes, every fifth as pixels, with different budgets and floors. */
function traceOf(profile: Profile, load: number, cv2: number): Request[] {
  const rate = constant(load * capacity(profile, ENGINES));
  const random = new Random(7, 1);
  return renewal(rate, cv2, 1200, new Random(7, 0)).map((arrivedAt) => ({
    arrivedAt,
    budget: random.pick([15, 25, 40, 200]),
    minAccuracy: random.pick([0, 0, 0, 0.893]),
    decodeMs: random.pick([0, 0.5, 1, 2, 3.5]),
  }));
}

async function bySimulator(profile: Profile, requests: readonly Request[]): Promise<Decisions> {
  const clock = new VirtualClock();
  const batches: { at: number; skip: string; size: number }[] = [];
  const setup: Setup = {
    profile,
    policy: depthserve,
    requests,
    seed: 1,
    engines: ENGINES,
    replicas: 1,
    balancing: 'least-loaded',
    slowdowns: [SLOW],
    jitter: 0,
    decoders: DECODERS,
  };
  const outcomes = await simulate(setup, clock, {
    dispatched: ({ skip }, size) => batches.push({ at: clock.now(), skip, size }),
  });
  return {
    outcomes: outcomes.map(({ result, at, tier }) => ({ result, at, skip: tier?.skip })),
    batches,
  };
}

async function byServer(profile: Profile, requests: readonly Request[]): Promise<Decisions> {
  const clock = new VirtualClock();
  const batches: { at: number; skip: string; size: number }[] = [];
  const outcomes: { result: string; at: number; skip: string | undefined }[] = [];
  const deployment = new Deployment(
    fakeParts(profile, clock, {
      engines: ENGINES,
      decoders: DECODERS,
      slowdown: (at) => (at >= SLOW.from && at < SLOW.to ? SLOW.factor : 1),
      dispatched: ({ skip }, size) => batches.push({ at: clock.now(), skip, size }),
    }),
  );

  const ask = async ({ arrivedAt, budget, minAccuracy, decodeMs = 0 }: Request) => {
    const request = { arrivedAt, budgetMs: budget, minAccuracy };
    if (decodeMs === 0) return deployment.classifyPixels([new Uint8Array(3)], request);
    const refusal = deployment.pipeline.preview(request);
    if (refusal) throw new RefusedError(refusal);
    return deployment.classify([jpegOf(PIXELS_PER_MS * decodeMs)], request);
  };
  const arrive = (index: number) => {
    const settle = (result: string, skip?: string) => {
      outcomes[index] = { result, at: clock.now(), skip };
    };
    ask(requests[index]!).then(
      ([answer]) => settle('served', answer!.tier.skip),
      (error: unknown) => {
        if (error instanceof RefusedError) settle('refused');
        else if (error instanceof ExpiredError) settle('expired');
        else throw error;
      },
    );
    const next = requests[index + 1];
    if (next) clock.at(next.arrivedAt, () => arrive(index + 1));
  };
  clock.at(requests[0]!.arrivedAt, () => arrive(0));
  await clock.run();
  return { outcomes, batches };
}

describe('the server decides as the simulator says', () => {
  let profile: Profile;
  beforeAll(async () => {
    const table = await readFile('bench/tables/cifar-cpu.json', 'utf8');
    const read = parseProfile(table, 'cifar-cpu');
    // What a first look saw is no decision: the two engines here see different things.
    profile = {
      ...read,
      tiers: read.tiers.map(({ skip, accuracy, macs }) => ({ skip, accuracy, macs })),
    };
  });

  test.each([
    ['below capacity', 0.6, 1],
    ['in overload', 1.6, 1],
    ['in bursts', 1, 8],
  ])('%s: each sub-network, batch, refusal and expiry', async (_case, load, cv2) => {
    const trace = traceOf(profile, load, cv2);
    const expected = await bySimulator(profile, trace);
    const decided = await byServer(profile, trace);
    expect(decided.batches).toEqual(expected.batches);
    expect(decided.outcomes).toEqual(expected.outcomes);
    // The trace is one that makes both decide: nothing is compared where nothing happens.
    const results = new Set(expected.outcomes.map(({ result }) => result));
    expect(results).toEqual(new Set(['served', 'refused', 'expired']));
    expect(new Set(expected.batches.map(({ skip }) => skip)).size).toBeGreaterThan(2);
    expect(Math.max(...expected.batches.map(({ size }) => size))).toBeGreaterThan(1);
  });
});
