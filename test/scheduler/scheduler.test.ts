import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import { ExpiredError, RefusedError, Scheduler } from '../../src/scheduler/scheduler.ts';
import type { Engine, SchedulerOptions, Served } from '../../src/scheduler/scheduler.ts';
import { VirtualClock } from '../../bench/simulator/clock.ts';
import { policiesFor } from '../../bench/simulator/policies.ts';
import { TIERS, linear, submitTo } from './support.ts';
import { submit, submitAll } from '../../bench/simulator/submit.ts';

const TABLE = { TT: { 1: 2, 8: 9 }, TF: { 1: 3, 8: 13.5 }, FF: { 1: 4, 8: 18 } };

interface Arrival {
  readonly at: number;
  readonly budget: number;
  readonly minAccuracy?: number;
}

/** Batches take `factor(n)` times what the table says, the n-th batch; negative: it fails. */
async function play(
  arrivals: readonly Arrival[],
  {
    policy = depthserve,
    workers = 1,
    factor = (_batch: number): number => 1,
    skew = (_reading: number): number => 0,
  } = {},
) {
  const clock = new VirtualClock();
  let readings = 0;
  const truth = new MeasuredLatency(TABLE);
  let batches = 0;
  const scheduler = new Scheduler<number, string>({
    policy,
    tiers: () => TIERS,
    latency: new MeasuredLatency(TABLE),
    clock: {
      now: () => clock.now() + skew(readings++),
      at: (time, callback) => clock.at(time, callback),
      soon: (callback) => clock.soon(callback),
    },
    maxBatch: 8,
    engine: {
      workers,
      run: (_worker, tier, inputs) =>
        new Promise((resolve, reject) => {
          const times = factor(batches++);
          const ms = truth.predict(tier, inputs.length) * Math.abs(times);
          clock.at(clock.now() + ms, () =>
            times < 0
              ? reject(new Error('broken'))
              : resolve({ outputs: inputs.map((input) => `#${input}`), workMs: ms }),
          );
        }),
    },
  });
  const settled = arrivals.map(
    () => [] as { at: number; served?: Served<string>; error?: unknown }[],
  );
  arrivals.forEach(({ at, budget, minAccuracy = 0 }, index) => {
    clock.at(at, () => {
      const settle = {
        resolve: (served: Served<string>) => void settled[index]!.push({ at: clock.now(), served }),
        reject: (error: unknown) => void settled[index]!.push({ at: clock.now(), error }),
      };
      submitTo(settle, scheduler, index, { arrivedAt: at, deadline: at + budget, minAccuracy });
    });
  });
  await clock.run();
  return { settled, scheduler };
}

/** A scheduler on a virtual clock, without anything around it. */
function schedulerOn(
  clock: VirtualClock,
  engine: Partial<Engine<number, number>> & Pick<Engine<number, number>, 'run'>,
  rest: Partial<SchedulerOptions<number, number>> = {},
) {
  return new Scheduler<number, number>({
    policy: depthserve,
    tiers: () => TIERS,
    latency: new MeasuredLatency(TABLE),
    clock,
    maxBatch: 8,
    engine: { workers: 1, ...engine },
    ...rest,
  });
}

/** Gives the inputs back after `workMs` of work and `delayMs` on the way. */
async function echo(clock: VirtualClock, inputs: readonly number[], workMs: number, delayMs = 0) {
  await new Promise<void>((resolve) => clock.at(clock.now() + workMs + delayMs, resolve));
  return { outputs: inputs, workMs };
}

const workload = fc.array(
  fc.record({
    at: fc.oneof(fc.integer({ min: 0, max: 60 }), fc.double({ min: 0, max: 60, noNaN: true })),
    budget: fc.oneof(fc.constantFrom(2, 10, 20), fc.double({ min: -1, max: 80, noNaN: true })),
    minAccuracy: fc.constantFrom(0, 0, 0.86, 0.9, 0.99),
  }),
  { maxLength: 40 },
);

describe('every request', () => {
  test.each(policiesFor(TIERS).map((policy) => [policy.name, policy] as const))(
    'is settled exactly once, with its own answer, at or above its floor (%s)',
    async (_name, policy) => {
      await fc.assert(
        fc.asyncProperty(
          workload,
          fc.integer({ min: 1, max: 3 }),
          fc.array(fc.constantFrom(1, 1, 1.5, 3, 0.5, -1), { minLength: 1, maxLength: 10 }),
          async (arrivals, workers, factors) => {
            const factor = (batch: number) => factors[batch % factors.length]!;
            const { settled, scheduler } = await play(arrivals, { policy, workers, factor });
            settled.forEach((outcomes, index) => {
              expect(outcomes).toHaveLength(1);
              const { served, error } = outcomes[0]!;
              if (!served) {
                const isForeseen = error instanceof RefusedError || error instanceof ExpiredError;
                if (!isForeseen) expect(error).toEqual(new Error('broken'));
                return;
              }
              expect(served.output).toBe(`#${index}`);
              expect(served.tier.accuracy).toBeGreaterThanOrEqual(arrivals[index]!.minAccuracy);
            });
            expect(scheduler.queueLength).toBe(0);
            expect(scheduler.running).toBe(0);
            await scheduler.drained();
          },
        ),
        {
          numRuns: 30,
          // A budget that is used up by rounding, once the time of day is taken off again.
          examples: [[[{ at: 0.004205426906411068, budget: 2, minAccuracy: 0 }], 1, [1]]],
        },
      );
    },
  );

  test('is answered in time or refused, when batches take what was predicted', async () => {
    await fc.assert(
      fc.asyncProperty(workload, async (arrivals) => {
        const { settled } = await play(arrivals);
        settled.forEach(([outcome], index) => {
          if (outcome!.error instanceof RefusedError) return;
          const { at, budget } = arrivals[index]!;
          expect(outcome!.served).toBeDefined();
          expect(outcome!.at).toBeLessThanOrEqual(at + budget + 1e-6);
        });
      }),
    );
  });

  test('is settled exactly once by a clock that jumps to and fro', async () => {
    await fc.assert(
      fc.asyncProperty(
        workload,
        fc.array(fc.constantFrom(0, 0, 0, 3, -3, 1e4, -1e4), { minLength: 1, maxLength: 50 }),
        async (arrivals, skews) => {
          // Right now and then, or timers would never be due.
          const skew = (reading: number) => [...skews, 0][reading % (skews.length + 1)]!;
          const { settled, scheduler } = await play(arrivals, { skew });
          for (const outcomes of settled) expect(outcomes).toHaveLength(1);
          expect(scheduler.queueLength).toBe(0);
        },
      ),
      { numRuns: 50 },
    );
  });

  test('that is refused is told at once: when it comes, or when another takes its place', async () => {
    await fc.assert(
      fc.asyncProperty(workload, async (arrivals) => {
        const { settled } = await play(arrivals);
        const moments = new Set(arrivals.map(({ at }) => at));
        settled.forEach(([outcome], index) => {
          if (!outcome!.error || outcome!.at === arrivals[index]!.at) return;
          expect(moments).toContain(outcome!.at);
        });
      }),
      { numRuns: 30 },
    );
  });
});

describe('a batch that takes longer than predicted', () => {
  test('lets what became hopeless behind it expire at once, not when it ends', async () => {
    const arrivals = [
      { at: 0, budget: 20 },
      { at: 1, budget: 12 },
    ];
    const { settled } = await play(arrivals, { factor: () => 25 });
    expect(settled[1]![0]!.error).toBeInstanceOf(ExpiredError);
    // From 11 ms on not even the 2 ms of the shallowest are left.
    expect(settled[1]![0]!.at).toBeCloseTo(11, 1);
  });
});

describe('several engines', () => {
  test('work at the same time from one queue', async () => {
    const arrivals = [0, 0, 0].map((at) => ({ at, budget: 4 }));
    const { settled } = await play(arrivals, { workers: 3 });
    for (const [outcome] of settled) {
      expect(outcome!.served!.tier.skip).toBe('FF');
      expect(outcome!.at).toBe(4);
    }
  });
});

test('an engine that failed gets nothing until it has recovered, the other everything', async () => {
  const clock = new VirtualClock();
  const ran: string[] = [];
  const engine: Engine<number, number> = {
    workers: 2,
    run: async (worker, _tier, inputs) => {
      ran.push(`${worker} at ${clock.now()}`);
      if (ran.length === 1) throw new Error('broken');
      return echo(clock, inputs, 4);
    },
    recovered: () => new Promise((resolve) => clock.at(10, resolve)),
  };
  const scheduler = schedulerOn(clock, engine, { maxBatch: 1 });
  const answers = [0, 1, 2].map((input) =>
    submit(scheduler, input, { arrivedAt: 0, deadline: 30, minAccuracy: 0.9 }),
  );
  // Nobody waits for the repair to learn of the failure.
  await expect(answers[0]).rejects.toThrow('broken');
  await clock.run();
  expect(ran).toEqual(['0 at 0', '1 at 0', '1 at 4']);
  expect(scheduler.idle).toBe(true);
});

describe('an engine that is lost', () => {
  /** Two engines that take 4 ms, and 10 to recover; what they ran, and when one was waited for. */
  function two(clock: VirtualClock) {
    const ran: string[] = [];
    const scheduler = schedulerOn(
      clock,
      {
        workers: 2,
        run: async (worker, _tier, inputs) => {
          ran.push(`${worker} at ${clock.now()}`);
          return echo(clock, inputs, 4);
        },
        recovered: async (worker) => {
          ran.push(`${worker} lost at ${clock.now()}`);
          await new Promise<void>((resolve) => clock.at(clock.now() + 10, resolve));
        },
      },
      { maxBatch: 1 },
    );
    const ask = (count: number) => {
      const needs = { arrivedAt: clock.now(), deadline: clock.now() + 30, minAccuracy: 0.9 };
      for (let input = 0; input < count; input++) void submit(scheduler, input, needs);
    };
    return { scheduler, ran, ask };
  }

  test('while it had nothing to do gets nothing until it has recovered', async () => {
    const clock = new VirtualClock();
    const { scheduler, ran, ask } = two(clock);
    void scheduler.lost(0);
    expect(scheduler.idle).toBe(false);
    ask(2);
    clock.at(20, () => ask(1));
    await clock.run();
    expect(ran).toEqual(['0 lost at 0', '1 at 0', '1 at 4', '0 at 20']);
    expect(scheduler.idle).toBe(true);
  });

  test('while it ran a batch says so by the batch', async () => {
    const clock = new VirtualClock();
    const { scheduler, ran, ask } = two(clock);
    ask(1);
    void scheduler.lost(0);
    await clock.run();
    expect(ran).toEqual(['0 at 0']);
  });
});

test('a preview says what would be refused, and changes nothing', () => {
  const clock = new VirtualClock();
  const scheduler = schedulerOn(clock, { run: (_worker, _tier, inputs) => echo(clock, inputs, 4) });
  expect(scheduler.preview({ arrivedAt: 0, deadline: 1, minAccuracy: 0 })).toMatchObject({
    reason: 'budget-too-small',
    smallestBudgetMs: 2,
  });
  expect(scheduler.preview({ arrivedAt: 0, deadline: 2, minAccuracy: 0 })).toBeNull();
  expect(scheduler.queueLength).toBe(0);
});

test('a slow patch that made every budget look hopeless ends, though refusals teach nothing', async () => {
  const clock = new VirtualClock();
  let factor = 100;
  const scheduler = schedulerOn(clock, {
    run: (_worker, _tier, inputs) => echo(clock, inputs, 2 * factor),
  });
  const outcomes: boolean[] = [];
  const ask = async () => {
    const arrivedAt = clock.now();
    const needs = { arrivedAt, deadline: arrivedAt + 50, minAccuracy: 0 };
    await submit(scheduler, 0, needs).then(
      () => outcomes.push(true),
      () => outcomes.push(false),
    );
  };
  for (let at = 0; at < 20_000; at += 50) clock.at(at, () => void ask());
  clock.at(5000, () => (factor = 1));
  await clock.run();
  // Five seconds of trouble, some to get over it.
  expect(outcomes.slice(0, 100)).toContain(false);
  expect(outcomes.slice(-100)).not.toContain(false);
});

test('a delay on the way counts against deadlines, but makes no batch look slower', async () => {
  const clock = new VirtualClock();
  const latency = new MeasuredLatency(TABLE);
  const truth = new MeasuredLatency(TABLE);
  const run: Engine<number, number>['run'] = (_worker, tier, inputs) =>
    echo(clock, inputs, truth.predict(tier, inputs.length), 5);
  const scheduler = schedulerOn(clock, { run }, { latency });
  for (let i = 0; i < 25; i++) {
    const needs = { arrivedAt: clock.now(), deadline: clock.now() + 50, minAccuracy: 0 };
    const answer = submit(scheduler, 0, needs);
    await clock.run();
    await answer;
  }
  expect(latency.slowdown).toBe(1);
  for (const [batch, ms] of [
    [1, 2],
    [8, 9],
  ] as const) {
    expect(latency.predict(TIERS[0]!, batch)).toBeCloseTo(ms + 5);
  }
  const tight = { arrivedAt: clock.now(), deadline: clock.now() + 6, minAccuracy: 0 };
  expect(scheduler.preview(tight)?.smallestBudgetMs).toBeCloseTo(7);
});

describe('places reserved for inputs that are still being made ready', () => {
  const patient = { arrivedAt: 0, deadline: 20, minAccuracy: 0 };
  const scheduled = (clock: VirtualClock) => {
    const truth = new MeasuredLatency(TABLE);
    return schedulerOn(clock, {
      run: (_worker, tier, inputs) => echo(clock, inputs, truth.predict(tier, inputs.length)),
    });
  };
  /** Reserves until nothing more is let in. */
  const fill = (scheduler: Scheduler<number, number>) => {
    const places = [];
    while (!scheduler.preview(patient)) places.push(scheduler.reserve(1, patient));
    return places;
  };

  test('count against those that come later, and are kept', async () => {
    const clock = new VirtualClock();
    const scheduler = scheduled(clock);
    const places = fill(scheduler);
    expect(places.length).toBeGreaterThan(8);
    expect(scheduler.queueLength).toBe(0);
    expect(() => scheduler.reserve(1, patient)).toThrow(RefusedError);
    const answers: number[] = [];
    scheduler.enqueue(
      places.map(([place], input) => {
        const resolve = ({ output }: Served<number>) => answers.push(output);
        return { place: place!, input, settle: { resolve, reject: () => expect.fail() } };
      }),
    );
    await clock.run();
    expect(answers.toSorted((a, b) => a - b)).toEqual(places.map((_, index) => index));
    expect(clock.now()).toBeLessThanOrEqual(patient.deadline);
  });

  test('are free again at once when the inputs do not come', () => {
    const scheduler = scheduled(new VirtualClock());
    const [place] = fill(scheduler);
    scheduler.withdraw(place!, null);
    expect(scheduler.preview(patient)).toBeNull();
  });

  test('are all given back when one of several is refused', () => {
    const scheduler = scheduled(new VirtualClock());
    const count = fill(scheduler).length;
    const other = scheduled(new VirtualClock());
    expect(() => other.reserve(count + 1, patient)).toThrow(RefusedError);
    expect(fill(other)).toHaveLength(count);
  });

  test('are lost to those who come with more time, when a burst is too much; told at once', async () => {
    const scheduler = scheduled(new VirtualClock());
    void submit(scheduler, 0, patient);
    const lost: RefusedError[] = [];
    const tight = { ...patient, deadline: 12 };
    const places = [];
    while (!scheduler.preview(tight)) {
      places.push(scheduler.reserve(1, tight, undefined, (error) => lost.push(error)));
    }
    const asked = Array.from({ length: 8 }, (_, index) => submit(scheduler, index, patient));
    await Promise.resolve();
    expect(lost.length).toBeGreaterThan(0);
    expect(lost[0]!.refusal.smallestBudgetMs).toBeGreaterThan(12);
    for (const promise of asked) promise.catch(() => {});
    // Their owners know: inputs that come later are passed over.
    const queued = scheduler.queueLength;
    const settle = { resolve: () => {}, reject: () => {} };
    scheduler.enqueue(places.map(([place]) => ({ place: place!, input: 99, settle })));
    expect(scheduler.queueLength - queued).toBeLessThanOrEqual(places.length - lost.length);
  });

  test('take what else belongs to the request with them, though that is lost as well', async () => {
    const clock = new VirtualClock();
    const scheduler = schedulerOn(clock, { run: () => new Promise<never>(() => {}) });
    void submit(scheduler, 0, patient);
    const request = new AbortController();
    const tight = { ...patient, deadline: 12 };
    const queued = submitAll(scheduler, [1, 2], tight, request.signal);
    scheduler.reserve(2, tight, undefined, (error) => request.abort(error));
    // The engine is late: by now there is time for one image of the four, which takes 2 ms.
    const errors: unknown[] = [];
    clock.at(9.5, () => {
      submit(scheduler, 3, patient).catch((error: unknown) => errors.push(error));
    });
    await Promise.all([expect(queued).rejects.toBeInstanceOf(RefusedError), clock.run()]);
    // Its own time was over when the engine was still not back.
    expect(errors).toEqual([expect.any(ExpiredError)]);
    expect(request.signal.reason).toBeInstanceOf(RefusedError);
  });

  test('must leave the time that making ready takes', () => {
    const scheduler = scheduled(new VirtualClock());
    const needs = { ...patient, deadline: 10 };
    const readyIn = (ms: number) => ({ mostlyMs: ms, atMostMs: ms });
    expect(() => scheduler.reserve(1, needs, readyIn(9))).toThrow(RefusedError);
    expect(scheduler.preview(needs, readyIn(9))?.smallestBudgetMs).toBeCloseTo(11);
    expect(scheduler.reserve(1, needs, readyIn(8))).toHaveLength(1);
  });

  test('but not twice: others have their turn while an input is made ready', () => {
    const clock = new VirtualClock();
    const scheduler = scheduled(clock);
    const needs = { ...patient, deadline: 20 };
    const idle = scheduler.preview({ ...needs, deadline: 1 })!.smallestBudgetMs;
    // Five ms of work, with no room for another before it.
    scheduler.reserve(4, { ...needs, deadline: 6 });
    const busy = scheduler.preview({ ...needs, deadline: 1 })!.smallestBudgetMs;
    expect(busy).toBeGreaterThan(idle);
    const readyIn = (ms: number) => ({ mostlyMs: ms, atMostMs: ms });
    const inTime = { ...needs, deadline: busy };
    expect(scheduler.preview(inTime, readyIn(busy - idle))).toBeNull();
    expect(scheduler.preview(inTime, readyIn(busy - idle + 0.1))).not.toBeNull();
  });
});

test('a budget that is named holds the time that the cheapest tier hardly ever exceeds', () => {
  // Typically 2 ms.
  const latency = Object.assign(new MeasuredLatency(TABLE), linear(1, 2.5));
  const run = () => new Promise<never>(() => {});
  const scheduler = schedulerOn(new VirtualClock(), { run }, { latency });
  const needs = { arrivedAt: 0, deadline: 20, minAccuracy: 0 };
  const named = scheduler.enough(needs, { mostlyMs: 0, atMostMs: 0 });
  expect(named).toEqual({ enoughMs: 5, cheapestMs: 5 });
});

test('an owner may withdraw others of a decision as soon as it learns of one', async () => {
  const clock = new VirtualClock();
  // It takes ten times as long as the table says: what waits behind it is late.
  const run: Engine<number, number>['run'] = (_worker, _tier, inputs) => echo(clock, inputs, 60);
  const scheduler = schedulerOn(clock, { run });
  const needs = { arrivedAt: 0, deadline: 30, minAccuracy: 0 };
  void submit(scheduler, 0, needs);
  const places = scheduler.reserve(3, needs);
  let told = 0;
  const settle = {
    resolve: () => expect.fail(),
    reject: () => {
      told++;
      scheduler.withdraw(places, null);
    },
  };
  scheduler.enqueue(places.map((place, input) => ({ place, input, settle })));
  await clock.run();
  expect(told).toBe(3);
  expect(scheduler.queueLength).toBe(0);
});
