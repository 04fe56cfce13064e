import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VirtualClock } from '../../bench/simulator/clock.ts';
import { cascade } from '../../bench/simulator/rivals/cascades.ts';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import type { Policy, Waiting } from '../../src/scheduler/policy.ts';
import { RefusedError, Scheduler } from '../../src/scheduler/scheduler.ts';
import { AGAIN_TABLE, againOptions } from './support.ts';

interface Request {
  readonly at: number;
  readonly budget: number;
  /** How sure the first look will be. */
  readonly confidence: number;
  readonly minConfidence: number;
  readonly decodeMs: number;
  /** After its arrival; null: its caller stays. */
  readonly cancelMs: number | null;
}

interface Trace {
  readonly requests: readonly Request[];
  /** What batches take, in turn, as factors; those below 0 fail then. */
  readonly factors: readonly number[];
  readonly workers: number;
  /** When the first engine is lost. */
  readonly lostAt: readonly number[];
}

const ms = (max: number) => fc.double({ min: 0, max, noNaN: true });
const traces: fc.Arbitrary<Trace> = fc.record({
  requests: fc.array(
    fc.record({
      at: ms(400),
      budget: ms(40),
      confidence: ms(1),
      minConfidence: fc.constantFrom(0, 0.9),
      decodeMs: fc.oneof(fc.constant(0), ms(12)),
      cancelMs: fc.oneof({ weight: 4, arbitrary: fc.constant(null) }, ms(30)),
    }),
    { minLength: 20, maxLength: 60 },
  ),
  factors: fc.array(fc.constantFrom(1, 1, 1, 1.5, -1, -6), { minLength: 1, maxLength: 10 }),
  workers: fc.integer({ min: 1, max: 2 }),
  lostAt: fc.array(ms(400), { maxLength: 2 }),
});

/** What became of a request that was let in. */
interface Outcome {
  /** All that its owner was told, in order. */
  readonly told: string[];
  /** Its caller left while its image was decoded: it is told nothing. */
  hasLeft: boolean;
}

async function outcomesOf({ requests, factors, workers, lostAt }: Trace, policy: Policy) {
  const clock = new VirtualClock();
  const truth = new MeasuredLatency(AGAIN_TABLE);
  let batches = 0;
  const scheduler = new Scheduler<number, number>({
    policy,
    ...againOptions(clock),
    engine: {
      workers,
      run: (_worker, tier, inputs) =>
        new Promise((resolve, reject) => {
          const factor = factors[batches++ % factors.length]!;
          const workMs = truth.predict(tier, inputs.length) * Math.abs(factor);
          clock.at(clock.now() + workMs, () =>
            factor < 0 ? reject(new Error('broken')) : resolve({ outputs: inputs, workMs }),
          );
        }),
      recovered: () => new Promise((resolve) => clock.at(clock.now() + 3, resolve)),
    },
  });
  const outcomes: Outcome[] = [];
  const arrive = ({ confidence, budget, decodeMs, cancelMs, minConfidence }: Request) => {
    const arrivedAt = clock.now();
    const outcome: Outcome = { told: [], hasLeft: false };
    const needs = { arrivedAt, deadline: arrivedAt + budget, minAccuracy: 0, minConfidence };
    const preparation = { mostlyMs: decodeMs, atMostMs: decodeMs };
    const evicted = () => void outcome.told.push('evicted');
    let places: readonly Waiting[];
    try {
      places = scheduler.reserve(1, needs, preparation, evicted);
    } catch (error) {
      expect(error).toBeInstanceOf(RefusedError);
      return;
    }
    outcomes.push(outcome);
    const settle = {
      resolve: () => void outcome.told.push('answered'),
      reject: (error: unknown) => void outcome.told.push(String(error)),
    };
    let isReady = false;
    const enqueue = () => {
      isReady = true;
      scheduler.enqueue([{ place: places[0]!, input: confidence, settle }]);
    };
    // As an image that needs no decoding: before anything else happens.
    if (decodeMs === 0) enqueue();
    else clock.at(arrivedAt + decodeMs, enqueue);
    if (cancelMs === null) return;
    clock.at(arrivedAt + cancelMs, () => {
      if (!isReady && outcome.told.length === 0) outcome.hasLeft = true;
      scheduler.withdraw(places, 'cancelled');
    });
  };
  for (const request of requests) clock.at(request.at, () => arrive(request));
  for (const at of lostAt) clock.at(at, () => void scheduler.lost(0));
  await clock.run();
  return { outcomes, scheduler };
}

/** Our second looks after a first look that always is the base-net's. */
const baseFirst: Policy = { ...cascade, name: 'base first', secondLooks: depthserve.secondLooks! };

test.each([depthserve, baseFirst, cascade])(
  'whatever fails, is late or cancelled, an owner is told once what became of a request ($name)',
  async (policy) => {
    const once = fc.asyncProperty(traces, async (trace) => {
      const { outcomes, scheduler } = await outcomesOf(trace, policy);
      for (const { told, hasLeft } of outcomes) expect(told).toHaveLength(hasLeft ? 0 : 1);
      expect(scheduler.idle).toBe(true);
      await scheduler.drained();
    });
    await fc.assert(once, { numRuns: 200 });
  },
);
