import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../bench/simulator/clock.ts';
import { cascade } from '../../bench/simulator/rivals/cascades.ts';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import type { Policy, Tier, Unsure } from '../../src/scheduler/policy.ts';
import { RefusedError, Scheduler } from '../../src/scheduler/scheduler.ts';
import type { Engine, Ready, Served } from '../../src/scheduler/scheduler.ts';
import {
  AGAIN_TABLE as TABLE,
  AGAIN_TIERS as TIERS,
  againOptions,
  submitTo,
  view,
  waiting,
} from './support.ts';
import { submit, submitAll } from '../../bench/simulator/submit.ts';

const BASE_FIRST: Policy = cascade;

interface Setup {
  readonly workers?: number;
  readonly policy?: Policy;
  readonly tiers?: readonly Tier[];
  /** Ms that the super-net really takes. */
  readonly deepMs?: number;
  readonly fails?: boolean;
  /** Ms until an engine that failed takes another batch. */
  readonly recoveryMs?: number;
}

/** A scheduler whose inputs are how sure the base-net will be of them. */
function started(
  clock: VirtualClock,
  { policy = BASE_FIRST, tiers = TIERS, workers = 1, deepMs, fails, recoveryMs = 0 }: Setup = {},
) {
  const truth = new MeasuredLatency(TABLE);
  const ran: string[] = [];
  const engine: Engine<number, number> = {
    workers,
    run: (_worker, tier, inputs) =>
      new Promise((resolve, reject) => {
        ran.push(`${tier.skip} x ${inputs.length}`);
        const deep = tier.skip === 'FF';
        const ms = (deep ? deepMs : undefined) ?? truth.predict(tier, inputs.length);
        clock.at(clock.now() + ms, () => {
          if (deep && fails) reject(new Error('engine died'));
          else resolve({ outputs: inputs, workMs: ms });
        });
      }),
    recovered: () => new Promise((resolve) => clock.at(clock.now() + recoveryMs, resolve)),
  };
  const scheduler = new Scheduler<number, number>({
    ...againOptions(clock),
    policy,
    tiers: () => tiers,
    engine,
  });
  return { scheduler, ran };
}

async function ask(
  scheduler: Scheduler<number, number>,
  clock: VirtualClock,
  confidence: number,
  budget: number,
  rest: { minConfidence?: number } = {},
): Promise<Served<number> & { at: number }> {
  const arrivedAt = clock.now();
  const needs = { arrivedAt, deadline: arrivedAt + budget, minAccuracy: 0, ...rest };
  let at = NaN;
  const answer = submit(scheduler, confidence, needs).then((served) => {
    at = clock.now();
    return served;
  });
  await clock.run();
  return { ...(await answer), at };
}

const skips = ({ looks }: Served<number>) => looks.map(({ tier }) => tier.skip);

describe('an image that has an answer', () => {
  test('leaves at once when the answer is sure', async () => {
    const clock = new VirtualClock();
    const { scheduler } = started(clock);
    const answer = await ask(scheduler, clock, 0.9, 100);
    expect(skips(answer)).toEqual(['TT']);
    expect(answer.at).toBe(2);
  });

  test('is looked at again when it is not, and the second answer counts', async () => {
    const clock = new VirtualClock();
    const { scheduler } = started(clock);
    const answer = await ask(scheduler, clock, 0.4, 100);
    expect(skips(answer)).toEqual(['TT', 'FF']);
    expect(answer.tier.skip).toBe('FF');
    expect(answer.looks.map(({ confidence }) => confidence)).toEqual([0.4, 0.95]);
    expect(answer.at).toBe(6);
    expect(answer.queueMs + answer.inferenceMs).toBe(6);
  });

  test('tells of each look the batch that it was in', async () => {
    const clock = new VirtualClock();
    const { scheduler } = started(clock);
    const needs = { arrivedAt: 0, deadline: 100, minAccuracy: 0 };
    const answers = submitAll(scheduler, [0.4, ...Array.from({ length: 7 }, () => 0.9)], needs);
    await clock.run();
    const looks = (await answers).map((answer) =>
      answer.looks.map(({ batchSize, batchMs }) => `${batchSize} in ${batchMs} ms`),
    );
    expect(looks[0]).toEqual(['8 in 9 ms', '1 in 4 ms']);
    expect(looks[1]).toEqual(['8 in 9 ms']);
  });

  test('leaves with the first answer when a second would be late', async () => {
    const clock = new VirtualClock();
    const { scheduler, ran } = started(clock);
    const answer = await ask(scheduler, clock, 0.4, 5);
    expect(skips(answer)).toEqual(['TT']);
    expect(answer.at).toBe(2);
    expect(ran).toEqual(['TT x 1']);
  });

  test('leaves just before its deadline while a second look takes too long', async () => {
    const clock = new VirtualClock();
    const { scheduler } = started(clock, { deepMs: 50 });
    const answer = await ask(scheduler, clock, 0.4, 20);
    expect(skips(answer)).toEqual(['TT']);
    expect(answer.at).toBe(19);
    expect(scheduler.idle).toBe(true);
  });

  test.each([
    ['comes after it has left', { deepMs: 50 }],
    ['fails after it has left', { deepMs: 50, fails: true }],
    ['fails before, and the engine recovers later', { fails: true, recoveryMs: 50 }],
  ])('leaves once, though its second look %s', async (_what, setup: Setup) => {
    const clock = new VirtualClock();
    const { scheduler } = started(clock, setup);
    const answers: string[] = [];
    const [place] = scheduler.reserve(1, { arrivedAt: 0, deadline: 20, minAccuracy: 0 });
    const settle = {
      resolve: ({ tier }: Served<number>) => void answers.push(tier.skip),
      reject: (error: unknown) => void answers.push(String(error)),
    };
    scheduler.enqueue([{ place: place!, input: 0.4, settle }]);
    await clock.run();
    expect(answers).toEqual(['TT']);
  });

  test('keeps it when the second look fails', async () => {
    const clock = new VirtualClock();
    const { scheduler } = started(clock, { fails: true });
    expect(skips(await ask(scheduler, clock, 0.4, 100))).toEqual(['TT']);
  });

  test('waits for its second look while another has been promised an answer', async () => {
    const clock = new VirtualClock();
    const { scheduler, ran } = started(clock);
    clock.at(1, () => void submit(scheduler, 0.9, { arrivedAt: 1, deadline: 60, minAccuracy: 0 }));
    await ask(scheduler, clock, 0.4, 100);
    expect(ran).toEqual(['TT x 1', 'TT x 1', 'FF x 1']);
  });

  test('is given up with its request', async () => {
    const clock = new VirtualClock();
    const { scheduler, ran } = started(clock);
    const controller = new AbortController();
    const needs = { arrivedAt: 0, deadline: 100, minAccuracy: 0 };
    const answer = submit(scheduler, 0.4, needs, controller.signal);
    // An urgent one comes when the first look is about to end, so the second one has to wait.
    clock.at(1.9, () => {
      void submit(scheduler, 0.9, { arrivedAt: 1.9, deadline: 9, minAccuracy: 0 });
    });
    clock.at(3, () => controller.abort(new Error('gone')));
    const outcome = answer.catch((error: Error) => error.message);
    await clock.run();
    expect(await outcome).toBe('gone');
    expect(ran).toEqual(['TT x 1', 'TT x 1']);
    expect(scheduler.idle).toBe(true);
  });
});

describe('our policy', () => {
  const unsure = (id: number, confidence: number, rest: Partial<Unsure> = {}): Unsure => ({
    ...waiting(id, 100),
    look: { tier: TIERS[0]!, confidence },
    ...rest,
  });
  const latency = new MeasuredLatency(TABLE);
  const looks = depthserve.secondLooks!;
  const seen = (images: readonly Unsure[], rest = {}) =>
    view([], { unsure: images, tiers: TIERS, latency, ...rest });

  test('takes the deepest at once when nothing else is to be done', () => {
    const { run } = depthserve.decide(view([waiting(0, 100)], { tiers: TIERS, latency }));
    expect(run!.tier.skip).toBe('FF');
  });

  test('lets go who gains nothing, and looks again at who does', () => {
    const images = [unsure(1, 0.4), unsure(2, 0.9)];
    expect(looks.leaving(seen(images)).leave.map(({ id }) => id)).toEqual([2]);
    expect(looks.choose(seen([images[0]!]))!.batch.map(({ id }) => id)).toEqual([1]);
  });

  test('goes on for who asked to be surer, until the deepest has looked', async () => {
    expect(looks.leaving(seen([unsure(1, 0.9, { minConfidence: 0.95 })])).leave).toEqual([]);
    const clock = new VirtualClock();
    const { scheduler } = started(clock, { policy: BASE_FIRST_PRICED });
    const answer = await ask(scheduler, clock, 0.9, 100, { minConfidence: 0.99 });
    expect(skips(answer)).toEqual(['TT', 'FF']);
  });

  test('lets all go when engine time is dear', () => {
    const arrivals = { rate: 2, dispersion: 1, budgets: [20, 40] };
    expect(looks.leaving(seen([unsure(1, 0.4)], { arrivals })).leave).toHaveLength(1);
  });

  test('asks again when a second look is about to come too late', () => {
    expect(looks.leaving(seen([unsure(1, 0.4)])).wakeAt).toBe(96);
  });

  test('takes no second look that would break a promise', () => {
    // Not decoded yet, and due before a second look would be through.
    const admitted = [waiting(9, 5)];
    expect(looks.choose(seen([unsure(1, 0.4)], { admitted }))).toBeNull();
  });

  test('occupies no engine for longer than promises to others leave, though another is free', () => {
    // Not decoded yet. In time if the engines start by 6.5 ms.
    const admitted = Array.from({ length: 8 }, (_, id) => waiting(100 + id, 13));
    const images = Array.from({ length: 8 }, (_, id) => unsure(id, 0.4, { minConfidence: 0.5 }));
    const free = { enginesFreeAt: [-Infinity, -Infinity] };
    expect(looks.choose(seen(images, free))!.batch).toHaveLength(8);
    // Two looks take 6 ms, three take 8.
    expect(looks.choose(seen(images, { ...free, admitted }))!.batch).toHaveLength(2);
  });
});

/** Our second looks after a first look that always is the base-net's. */
const BASE_FIRST_PRICED: Policy = { ...cascade, secondLooks: depthserve.secondLooks! };

describe('whatever comes', () => {
  const request = fc.record({
    gap: fc.double({ min: 0, max: 6, noNaN: true }),
    budget: fc.double({ min: 1, max: 60, noNaN: true }),
    confidence: fc.double({ min: 0, max: 1, noNaN: true }),
    minConfidence: fc.constantFrom(0, 0.7),
  });

  test.each([depthserve, BASE_FIRST_PRICED, cascade])(
    '$name settles each once, and answers in time',
    async (policy) => {
      const once = fc.asyncProperty(fc.array(request, { maxLength: 40 }), async (requests) => {
        const clock = new VirtualClock();
        const { scheduler } = started(clock, { policy });
        const settled = requests.map(() => 0);
        let at = 0;
        const late: number[] = [];
        requests.forEach(({ gap, budget, confidence, minConfidence }, index) => {
          at += gap;
          const arrivedAt = at;
          clock.at(arrivedAt, () => {
            const deadline = arrivedAt + budget;
            const needs = { arrivedAt, deadline, minAccuracy: 0, minConfidence };
            const settle = {
              resolve: () => {
                if (clock.now() > deadline + 1e-6) late.push(index);
                settled[index]!++;
              },
              reject: () => void settled[index]!++,
            };
            submitTo(settle, scheduler, confidence, needs);
          });
        });
        await clock.run();
        expect(settled).toEqual(requests.map(() => 1));
        expect(late).toEqual([]);
        expect(scheduler.idle).toBe(true);
      });
      await fc.assert(once, { numRuns: 60 });
    },
  );

  /** First looks by the base-net, so that there is much to look at again. */
  const baseFirst: Policy = {
    ...depthserve,
    decide: (seen) => depthserve.decide({ ...seen, tiers: seen.tiers.slice(0, 1) }),
  };

  /**
   * How many lose their places, when all are admitted while `unsure` images have their first look,
   * are decoded together when it ends or later, and nobody comes after them.
   */
  async function lostOf({ unsure, budgets, decodeMs }: Promised, setup: Setup): Promise<number> {
    const clock = new VirtualClock();
    const { scheduler } = started(clock, setup);
    let lost = 0;
    const settle = { resolve: () => {}, reject: () => void lost++ };
    const first = { arrivedAt: 0, deadline: 100, minAccuracy: 0, minConfidence: 0.7 };
    const looks = scheduler.reserve(unsure, first);
    scheduler.enqueue(looks.map((place) => ({ place, input: 0.4, settle })));
    const looked = unsure + 1;
    const ready: Ready<number, number>[] = [];
    clock.at(1, () => {
      for (const budget of budgets) {
        const needs = { arrivedAt: 1, deadline: looked + budget, minAccuracy: 0 };
        const readyMs = looked + decodeMs - 1;
        const preparation = { mostlyMs: readyMs, atMostMs: readyMs };
        try {
          const [place] = scheduler.reserve(1, needs, preparation, () => void lost++);
          ready.push({ place: place!, input: 0.9, settle });
        } catch (error) {
          expect(error).toBeInstanceOf(RefusedError);
        }
      }
    });
    clock.at(looked + decodeMs, () => scheduler.enqueue(ready));
    await clock.run();
    return lost;
  }

  test.each([1, 2])('no promise is lost for a second look, with %d engines', async (workers) => {
    const { secondLooks: _, ...without } = baseFirst;
    const cases = fc.record({
      unsure: fc.integer({ min: 1, max: 8 }),
      budgets: fc.array(fc.double({ min: 2, max: 30, noNaN: true }), { maxLength: 24 }),
      decodeMs: fc.double({ min: 0, max: 10, noNaN: true }),
    });
    const kept = fc.asyncProperty(cases, async (some) => {
      // What is decoded late may be too late for the others of its batch, also without second looks.
      fc.pre((await lostOf(some, { policy: without, workers })) === 0);
      expect(await lostOf(some, { policy: baseFirst, workers })).toBe(0);
    });
    await fc.assert(kept, { numRuns: 200 });
  });
});

interface Promised {
  readonly unsure: number;
  /** Counted from the end of the first look. */
  readonly budgets: readonly number[];
  /** Likewise. */
  readonly decodeMs: number;
}
