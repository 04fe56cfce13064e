import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import type { Decision, Tier, View, Waiting } from '../../src/scheduler/policy.ts';
import { Random } from '../../bench/simulator/random.ts';
import { exact, linear, TIERS, view, waiting, withQueue } from './support.ts';

/** Any queue, sane or not: late requests, equal deadlines, floors. */
const queues = (maxLength: number) =>
  fc
    .array(
      fc.record({
        arrivedAt: fc.double({ min: -50, max: 0, noNaN: true }),
        deadline: fc.oneof(
          fc.double({ min: -5, max: 120, noNaN: true }),
          fc.constantFrom(3, 18, 18.5, 40),
        ),
        minAccuracy: fc.constantFrom(0, 0, 0, 0.86, 0.9),
      }),
      { minLength: 1, maxLength },
    )
    .map((all): Waiting[] =>
      all.sort((a, b) => a.deadline - b.deadline).map((request, id) => ({ id, ...request })),
    );

/** Of those admitted, any may be ready; of several engines, one at least is free. */
const views = (maxLength = 60): fc.Arbitrary<View> =>
  fc
    .record({
      waiting: queues(maxLength).chain((admitted) =>
        fc.record({
          admitted: fc.constant(admitted),
          queue: fc.oneof(fc.constant(admitted), fc.subarray(admitted, { minLength: 1 })),
        }),
      ),
      fixed: fc.constantFrom(0, 1, 8),
      spread: fc.constantFrom(1, 1.5, 2),
      busy: fc.array(fc.double({ min: -10, max: 30, noNaN: true }), { maxLength: 3 }),
      maxBatch: fc.constantFrom(1, 4, 8, 32),
      rate: fc.double({ min: 0, max: 3, noNaN: true }),
      dispersion: fc.double({ min: 1, max: 10, noNaN: true }),
      budgets: fc.array(fc.double({ min: 0, max: 500, noNaN: true }), { maxLength: 5 }),
    })
    .map(({ waiting: { admitted, queue }, fixed, spread, busy, maxBatch, ...arrivals }) =>
      view(queue, {
        admitted,
        latency: linear(fixed, spread),
        enginesFreeAt: [-Infinity, ...busy],
        maxBatch,
        arrivals: { ...arrivals, budgets: arrivals.budgets.sort((a, b) => a - b) },
      }),
    );

/** The same without some that wait. */
function without(seen: View, gone: readonly Waiting[]): View {
  const left = (list: readonly Waiting[]) => list.filter((request) => !gone.includes(request));
  return { ...seen, admitted: left(seen.admitted), queue: left(seen.queue) };
}
const lostIn = ({ expire, giveUp }: Pick<Decision, 'expire' | 'giveUp'>) => [
  ...expire,
  ...giveUp!.map(({ request }) => request),
];

const cheapest = ({ minAccuracy }: Waiting) =>
  TIERS.find(({ accuracy }) => accuracy >= minAccuracy)!;
const inTime = ({ now, latency }: View, request: Waiting) =>
  now + latency.typical(cheapest(request), 1) <= request.deadline;

describe('every decision', () => {
  test('starts only what is typically in time, whole batches, floors kept', () => {
    fc.assert(
      fc.property(views(), (seen) => {
        const { run } = depthserve.decide(seen);
        if (!run) return;
        expect(run.batch.length).toBeGreaterThan(0);
        expect(run.batch.length).toBeLessThanOrEqual(seen.maxBatch);
        expect(new Set(run.batch).size).toBe(run.batch.length);
        const end = seen.now + seen.latency.typical(run.tier, run.batch.length);
        for (const request of run.batch) {
          expect(seen.queue).toContain(request);
          expect(end).toBeLessThanOrEqual(request.deadline);
          expect(run.tier.accuracy).toBeGreaterThanOrEqual(request.minAccuracy);
        }
      }),
    );
  });

  test('expires exactly the hopeless, and runs something whenever anything has hope', () => {
    fc.assert(
      fc.property(views(), (seen) => {
        const decision = depthserve.decide(seen);
        expect(decision.expire).toEqual(seen.queue.filter((request) => !inTime(seen, request)));
        const { queue } = without(seen, lostIn(decision));
        expect(decision.run === null).toBe(queue.length === 0);
        // Where all are ready, the last of those with hope is never given up.
        if (seen.queue.length === seen.admitted.length) {
          expect(queue.length === 0).toBe(decision.expire.length === seen.queue.length);
        }
      }),
    );
  });

  test('answers the earliest deadlines first when all can be answered', () => {
    fc.assert(
      fc.property(queues(30), (queue) => {
        // So much time that nothing has to be given up.
        const later = queue.map((request) => ({ ...request, deadline: request.deadline + 500 }));
        const { run } = depthserve.decide(view(later));
        expect(run!.batch).toEqual(later.slice(0, run!.batch.length));
      }),
    );
  });

  test('is for the rest as if those that it gives up had never come', () => {
    fc.assert(
      fc.property(views(60), (seen) => {
        const decision = depthserve.decide(seen);
        const alone = depthserve.decide(without(seen, lostIn(decision)));
        expect(alone.run).toEqual(decision.run);
        expect(lostIn(alone)).toEqual([]);
      }),
    );
  });

  test('is a pure function of what it sees', () => {
    fc.assert(
      fc.property(views(20), (seen) => {
        const frozen = structuredClone({ ...seen, latency: null });
        const first = depthserve.decide(seen);
        expect(depthserve.decide(seen)).toEqual(first);
        expect({ ...seen, latency: null }).toEqual(frozen);
      }),
    );
  });

  test('does not depend on where the clock started', () => {
    fc.assert(
      fc.property(views(20), fc.integer({ min: -1000, max: 1_000_000 }), (seen, shift) => {
        const move = (request: Waiting) => ({
          ...request,
          arrivedAt: request.arrivedAt + shift,
          deadline: request.deadline + shift,
        });
        const later = (view: View, ms: number) => view.enginesFreeAt.map((at) => at + ms);
        const shifted = { ...seen, now: seen.now + shift, enginesFreeAt: later(seen, shift) };
        const admitted = seen.admitted.map(move);
        const queue = admitted.filter(({ id }) => seen.queue.some((request) => request.id === id));
        const moved = { ...shifted, admitted, queue };
        const decided = (view: View) => {
          const { run, expire } = depthserve.decide(view);
          return [run?.tier.skip, run?.batch.map(({ id }) => id), expire.map(({ id }) => id)].join(
            ' ',
          );
        };
        // What hangs on a rounding error may go either way after the shift.
        const isSteady = (view: View) =>
          [-1e-6, 1e-6].every(
            (nudge) =>
              decided({ ...view, now: view.now + nudge }) === decided(view) &&
              decided({ ...view, enginesFreeAt: later(view, nudge) }) === decided(view),
          );
        fc.pre(isSteady(seen) && isSteady(moved));
        expect(decided(moved)).toEqual(decided(seen));
      }),
    );
  });

  test('is never an empty batch nor forgets anyone, even where times cannot be predicted', () => {
    fc.assert(
      fc.property(
        views(10),
        fc.array(fc.constantFrom(NaN, Infinity, 0, 1, 1, 1), { minLength: 1, maxLength: 40 }),
        (seen, factors) => {
          const latency = exact(
            (tier: Tier, batch: number) =>
              seen.latency.predict(tier, batch) * factors[(tier.macs + batch) % factors.length]!,
          );
          const decision = depthserve.decide({ ...seen, latency });
          if (decision.run) expect(decision.run.batch.length).toBeGreaterThan(0);
          else expect(without(seen, lostIn(decision)).queue).toEqual([]);
        },
      ),
    );
  });

  test('copes with a queue of thousands', () => {
    const queue = Array.from({ length: 5000 }, (_, id) => ({
      id,
      arrivedAt: 0,
      deadline: 10 + id / 100,
      minAccuracy: 0,
    }));
    const { run, expire } = depthserve.decide(view(queue, { maxBatch: 32 }));
    const ids = run!.batch.map(({ id }) => id);
    expect(ids.length).toBeGreaterThan(1);
    expect(ids.length).toBeLessThanOrEqual(32);
    // Those that are due first, of those that can be answered.
    expect(ids).toEqual(ids.map((_, index) => ids[0]! + index));
    for (const { id } of expire) expect(id).toBeLessThan(ids[0]!);
  });
});

describe('promises', () => {
  /** Plays decisions of one engine, nothing else arriving; returns the ids answered. */
  function playOut(start: View): Set<number> {
    const answered = new Set<number>();
    let { queue, now } = start;
    while (queue.length > 0) {
      const seen = withQueue({ ...start, now }, queue);
      const { expire, run } = depthserve.decide(seen);
      const gone = new Set([...expire, ...(run?.batch ?? [])]);
      queue = queue.filter((request) => !gone.has(request));
      if (!run) break;
      now += start.latency.typical(run.tier, run.batch.length);
      for (const { id } of run.batch) answered.add(id);
    }
    return answered;
  }

  /** Who waits after `request` has come: it may be refused, and others may lose their places. */
  function after(seen: View, waits: readonly Waiting[], request: Waiting): readonly Waiting[] {
    if (depthserve.admit(withQueue(seen, waits), request)) return waits;
    const queue = [...waits, request].sort((a, b) => a.deadline - b.deadline || a.id - b.id);
    const { giveUp } = depthserve.hopeless!(withQueue(seen, queue));
    const gone = new Set(giveUp!.map(({ request: { id } }) => id));
    return queue.filter(({ id }) => !gone.has(id));
  }
  const allBusyFor = (seen: View, ms: number): View => ({
    ...seen,
    enginesFreeAt: seen.enginesFreeAt.map((at) => Math.max(at, ms)),
  });
  const byArrival = ({ admitted }: View) => admitted.toSorted((a, b) => a.arrivedAt - b.arrivedAt);

  test('all that is accepted and not given up is answered, when nothing more arrives', () => {
    fc.assert(
      fc.property(views(40), (seen) => {
        const idle = { ...seen, enginesFreeAt: [-Infinity] };
        let waits: readonly Waiting[] = [];
        for (const request of byArrival(seen)) waits = after(idle, waits, request);
        expect(playOut(withQueue(idle, waits)).size).toBe(waits.length);
      }),
    );
  });

  // Where floors differ, the door may take a batch out of order that the plan can't: then two, about
  // once in 9,000 of these.
  test('who is let in costs at most one other its place, and one with less time', () => {
    fc.assert(
      fc.property(views(40), fc.constantFrom(0, 0.85), (seen, minAccuracy) => {
        const busy = allBusyFor(seen, 3);
        let before: readonly Waiting[] = [];
        for (const one of byArrival(seen)) {
          const request = { ...one, minAccuracy };
          const waits = after(busy, before, request);
          expect(waits.length).toBeGreaterThanOrEqual(before.length);
          for (const other of before) {
            if (!waits.includes(other)) expect(other.deadline).toBeLessThan(request.deadline);
          }
          before = waits;
        }
      }),
    );
  });

  test('a request that is given up is told a budget that would have been accepted', () => {
    fc.assert(
      fc.property(views(40), (seen) => {
        const busy = allBusyFor(seen, 20);
        const lost = depthserve.hopeless!(busy);
        const rest = without(busy, lostIn(lost));
        for (const { request, refusal } of lost.giveUp!) {
          const deadline = request.arrivedAt + refusal.smallestBudgetMs + 1e-9;
          expect(deadline).toBeGreaterThan(request.deadline);
          expect(depthserve.admit(rest, { ...request, deadline })).toBeNull();
        }
      }),
    );
  });

  test('the smallest budget of a refusal would have been accepted', () => {
    fc.assert(
      fc.property(views(40), fc.double({ min: 0, max: 60, noNaN: true }), (seen, budget) => {
        const accepted: Waiting[] = [];
        for (const request of seen.admitted) {
          if (!depthserve.admit(withQueue(seen, accepted), request)) accepted.push(request);
        }
        const now = withQueue(seen, accepted);
        const request = { id: 1e6, arrivedAt: 0, deadline: budget, minAccuracy: 0.86 };
        const refusal = depthserve.admit(now, request);
        fc.pre(refusal !== null);
        expect(refusal.smallestBudgetMs).toBeGreaterThan(budget - 1e-9);
        const again = { ...request, deadline: refusal.smallestBudgetMs + 1e-9 };
        expect(depthserve.admit(now, again)).toBeNull();
      }),
    );
  });

  test('hardly anybody is refused who could be answered with all the others', () => {
    // The plan's batches are kept, but for one; cut anew, they may have room for one more.
    const random = new Random(1);
    let refused = 0;
    let inVain = 0;
    for (let i = 0; i < 400; i++) {
      const latency = linear(i % 2 === 0 ? 1 : 3);
      let waits: readonly Waiting[] = [];
      for (let id = 0; id < 5; id++) {
        const request = waiting(id, random.pick([2, 4, 5, 7, 8, 10, 11, 13, 16]));
        const one = { tiers: TIERS.slice(0, 1), maxBatch: 3, latency };
        const together = [...waits, request].sort((a, b) => a.deadline - b.deadline);
        const fits = mostAnswered(view(together, one)) === together.length;
        if (depthserve.admit(view(waits, one), request)) {
          refused++;
          if (fits) inVain++;
        }
        if (fits) waits = together;
      }
    }
    expect(refused).toBeGreaterThan(100);
    expect(inVain / refused).toBeLessThan(0.1);
  });

  test('giving up requests gives up as few as can be', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 25 }), { minLength: 1, maxLength: 7 }),
        (deadlines) => {
          const queue = deadlines
            .sort((a, b) => a - b)
            .map((deadline, id) => ({ id, arrivedAt: 0, deadline, minAccuracy: 0 }));
          const seen = view(queue, { tiers: TIERS.slice(0, 1), maxBatch: 3 });
          expect(playOut(seen).size).toBeGreaterThanOrEqual(mostAnswered(seen) - 1);
        },
      ),
    );
  });

  /** Exhaustive: every set of batches in every order. */
  function mostAnswered({ queue, latency, tiers, maxBatch }: View): number {
    let best = 0;
    const search = (left: readonly Waiting[], now: number, done: number) => {
      best = Math.max(best, done);
      for (let mask = 1; mask < 1 << left.length; mask++) {
        const batch = left.filter((_, i) => mask & (1 << i));
        const end = now + latency.predict(tiers[0]!, batch.length);
        if (batch.length > maxBatch || batch.some(({ deadline }) => deadline < end)) continue;
        search(
          left.filter((request) => !batch.includes(request)),
          end,
          done + batch.length,
        );
      }
    };
    search(queue, 0, 0);
    return best;
  }
});
