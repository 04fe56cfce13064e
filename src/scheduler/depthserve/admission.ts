import type { GivenUp, Refusal, View, Waiting } from '../policy.ts';
import { costsOf } from './costs.ts';
import { firstFeasible, floorAt, planOf, startOf } from './plan.ts';

/**
 * A newcomer may cost another its place that has at most this share of its time left. For one with
 * as much time, nothing would be gained; reading and decoding its image was work, too.
 */
const YIELDS = 2 / 3;

/**
 * The door is open to deadlines from some time on: those that the plan for all that wait has room
 * for, on the cheapest tier, without anybody losing a place, or only one with much less time.
 */
export function admit(view: View, request: Waiting): Refusal | null {
  const costs = costsOf(view);
  const floor = costs.floor(request);
  if (floor === costs.tiers.length) {
    return { reason: 'accuracy-unavailable', smallestBudgetMs: Infinity };
  }
  const open = openFrom(view, startOf(view), floor);
  if (request.deadline >= open) return null;
  return {
    // Were the server idle, this budget would still be too small: patience does not help.
    reason: view.now + costs.busyMs(floor, 1) > request.deadline ? 'budget-too-small' : 'overload',
    smallestBudgetMs: open - request.arrivedAt,
  };
}

/**
 * Who waits in vain if engines start at `start`: what even the cheapest sub-networks could not
 * answer with the others. To be told at once, while another replica may still be tried.
 */
export function givenUp(view: View, start: number): GivenUp[] {
  const { latest, floors } = planOf(view);
  const lost = firstFeasible(latest, 0, start);
  // The same for all with the same floor.
  const open = new Map<number, number>();
  return view.admitted.slice(0, lost).map((request, i): GivenUp => {
    const floor = floors[i]!;
    const from = open.get(floor) ?? openFrom(view, start, floor);
    open.set(floor, from);
    const refusal = { reason: 'overload', smallestBudgetMs: from - request.arrivedAt } as const;
    return { request, refusal };
  });
}

/** The earliest deadline that one more request may have that needs the tier `floor`. */
function openFrom(view: View, start: number, floor: number): number {
  const { deadlines, latest } = planOf(view);
  // Who cannot be answered any more is no reason to refuse others.
  const lost = firstFeasible(latest, 0, start);
  const open = roomFrom(view, lost, start, floor);
  if (lost === deadlines.length) return open;
  // When not all can be answered, the earliest are best given up: later ones leave more room.
  const yields = view.now + (deadlines[lost]! - view.now) / YIELDS;
  return Math.min(open, Math.max(yields, roomFrom(view, lost + 1, start, floor)));
}

/** When one more could be answered, at the earliest, with all from position `from` on in time. */
function roomFrom(view: View, from: number, start: number, floor: number): number {
  const costs = costsOf(view);
  const plan = planOf(view);
  const { deadlines, latest, size } = plan;
  const engines = view.enginesFreeAt.length;
  const alone = costs.busyMs(floor, 1);
  let at = start;
  for (let i = from; i < size.length; i += size[i]!) {
    const batch = size[i]!;
    const tier = floorAt(plan, i);
    // In a batch of its own before this one, or as one more in it.
    if (at + alone / engines <= latest[i]!) break;
    if (batch < costs.maxBatch) {
      const ms = costs.busyMs(Math.max(tier, floor), batch + 1);
      if (at + ms <= deadlines[i]! && at + ms / engines <= latest[i + batch]!) return at + ms;
    }
    at += costs.busyMs(tier, batch) / engines;
  }
  return at + alone;
}
