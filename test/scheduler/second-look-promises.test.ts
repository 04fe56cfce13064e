import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VirtualClock } from '../../bench/simulator/clock.ts';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import { inserted } from '../../src/scheduler/queue.ts';
import type { Arriving, Policy, View } from '../../src/scheduler/policy.ts';
import { RefusedError, Scheduler } from '../../src/scheduler/scheduler.ts';
import type { Ready } from '../../src/scheduler/scheduler.ts';
import { AGAIN_TABLE, againOptions } from './support.ts';

interface Arrival {
  readonly gap: number;
  readonly budget: number;
  readonly confidence: number;
  readonly minConfidence: number;
}

const ms = (min: number, max: number) => fc.double({ min, max, noNaN: true });
const arrivals: fc.Arbitrary<readonly Arrival[]> = fc.array(
  fc.record({
    gap: ms(0, 6),
    budget: ms(1, 60),
    confidence: ms(0, 1),
    minConfidence: fc.constantFrom(0, 0.7),
  }),
  { maxLength: 40 },
);

const secondLooks = depthserve.secondLooks!;
/** First looks by the base-net, so that there is much to look at again. */
const baseFirst: Policy = {
  ...depthserve,
  name: 'depthserve with cheap first looks',
  decide: (seen) => depthserve.decide({ ...seen, tiers: seen.tiers.slice(0, 1) }),
};

/** Who has no place any more, by the policy's own plan, once `request` is let in. */
function displacedBy(request: Arriving, seen: View): readonly number[] {
  const { giveUp = [] } = depthserve.hopeless!({
    ...seen,
    admitted: inserted(seen.admitted, request),
  });
  return giveUp.map((each) => each.request.id);
}

/**
 * Plays one engine that takes what was predicted. An image is decoded by the time that the engine
 * could start it, unless that looks again at others instead: then when it is through with them.
 *
 * @returns how many were let in and not answered in time, though no newcomer took their places; and
 * how many batches of second looks ran while promised answers waited.
 */
async function played(requests: readonly Arrival[], policy: Policy) {
  const clock = new VirtualClock();
  const truth = new MeasuredLatency(AGAIN_TABLE);
  const undecoded: Ready<number, number>[] = [];
  const displaced = new Set<number>();
  const lost = new Set<number>();
  let [isRunning, isSecondLook] = [false, false];
  let looksMeanwhile = 0;
  const decodeAll = () => scheduler.enqueue(undecoded.splice(0));
  const scheduler = new Scheduler<number, number>({
    policy: {
      ...policy,
      admit(seen, request) {
        const refusal = policy.admit(seen, request);
        if (!refusal) for (const id of displacedBy(request, seen)) displaced.add(id);
        return refusal;
      },
      secondLooks: {
        ...policy.secondLooks!,
        choose(seen) {
          const choice = policy.secondLooks!.choose(seen);
          isSecondLook = choice !== null;
          if (isSecondLook && seen.admitted.length > 0) looksMeanwhile++;
          return choice;
        },
      },
    },
    ...againOptions(clock),
    engine: {
      workers: 1,
      run: (_worker, tier, inputs) =>
        new Promise((resolve) => {
          const wasAsked = isSecondLook;
          isSecondLook = false;
          isRunning = true;
          const workMs = truth.typical(tier, inputs.length);
          clock.at(clock.now() + workMs, () => {
            isRunning = false;
            if (wasAsked || scheduler.queueLength > 0) decodeAll();
            resolve({ outputs: inputs, workMs });
            clock.soon(() => {
              if (!isRunning) decodeAll();
            });
          });
        }),
    },
  });
  const arrive = ({ budget, confidence, minConfidence }: Arrival) => {
    const arrivedAt = clock.now();
    const deadline = arrivedAt + budget;
    const needs = { arrivedAt, deadline, minAccuracy: 0, minConfidence };
    try {
      const [place] = scheduler.reserve(1, needs, undefined, () => void lost.add(place!.id));
      const settle = {
        resolve: () => void (clock.now() > deadline + 1e-6 && lost.add(place!.id)),
        reject: () => void lost.add(place!.id),
      };
      undecoded.push({ place: place!, input: confidence, settle });
    } catch (error) {
      expect(error).toBeInstanceOf(RefusedError);
    }
    if (!isRunning) decodeAll();
  };
  let at = 0;
  for (const arrival of requests) clock.at((at += arrival.gap), () => arrive(arrival));
  await clock.run();
  expect(scheduler.idle).toBe(true);
  return { forsaken: [...lost].filter((id) => !displaced.has(id)).length, looksMeanwhile };
}

test.each([depthserve, baseFirst])(
  'who was let in is answered in time, or loses its place to a newcomer ($name)',
  async (policy) => {
    let looks = 0;
    const kept = fc.asyncProperty(arrivals, async (requests) => {
      const { forsaken, looksMeanwhile } = await played(requests, policy);
      looks += looksMeanwhile;
      expect(forsaken).toBe(0);
    });
    await fc.assert(kept, { numRuns: 300 });
    // Few arrivals at random give the policy in use a reason to look again meanwhile: these do.
    await fc.assert(kept, { numRuns: 300, seed: 3 });
    expect(looks).toBeGreaterThan(0);
  },
);

test('a policy that looked again first would be found out', async () => {
  const lookFirst: Policy = {
    ...baseFirst,
    secondLooks: {
      ...secondLooks,
      choose: (seen) => secondLooks.choose({ ...seen, admitted: [] }),
    },
  };
  // The second look would take from 2 to 6 ms; the other image has to be started by 3 ms.
  const requests = [
    { gap: 0, budget: 100, confidence: 0.4, minConfidence: 0.7 },
    { gap: 1, budget: 4, confidence: 0.9, minConfidence: 0 },
  ];
  expect((await played(requests, baseFirst)).forsaken).toBe(0);
  expect((await played(requests, lookFirst)).forsaken).toBe(1);
});
