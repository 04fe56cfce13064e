import type { Refusal, View, Waiting } from '../policy.ts';
import { Costs } from './costs.ts';
import { deadlinesOf, latestPlan, nextStart } from './plan.ts';

/**
 * Refuses a request when even the cheapest sub-networks in the best batches could not answer it
 * together with all that was accepted before. So overload is refused at the door, when another
 * replica may still be tried, and what is accepted can be kept.
 */
export function admit(view: View, request: Waiting): Refusal | null {
  const costs = new Costs(view.tiers, view.latency, view.maxBatch);
  const floor = costs.floor(request);
  if (floor === costs.tiers.length) {
    return { reason: 'accuracy-unavailable', smallestBudgetMs: Infinity };
  }
  const start = nextStart(view.enginesFreeAt, view.now, costs.ms(0, view.maxBatch));
  if (fits(view, request, request.deadline, costs, start)) return null;

  const alone = view.now + costs.ms(floor, 1);
  return {
    // Were the server idle, this budget would still be too small: patience does not help.
    reason: alone > request.deadline ? 'budget-too-small' : 'overload',
    smallestBudgetMs: smallestDeadline(view, request, costs, start) - request.arrivedAt,
  };
}

/** Whether everything in the queue and `request`, were it due at `deadline`, can be answered. */
function fits(
  view: View,
  request: Waiting,
  deadline: number,
  costs: Costs,
  start: number,
): boolean {
  const { queue, enginesFreeAt } = view;
  let at = queue.length;
  while (at > 0 && queue[at - 1]!.deadline > deadline) at--;
  const joined = [...queue.slice(0, at), { ...request, deadline }, ...queue.slice(at)];
  const { latest } = latestPlan(
    deadlinesOf(joined),
    costs.floors(joined),
    costs,
    enginesFreeAt.length,
  );
  return latest[0]! >= start;
}

/** How close the smallest budget is looked for: relative to the time from now. */
const CLOSE = 1 / 32;

/** The earliest deadline with which `request` would fit; later ones fit as well. */
function smallestDeadline(view: View, request: Waiting, costs: Costs, start: number): number {
  const alone = start - view.now + costs.ms(costs.floor(request), 1);
  let low = Math.max(alone, request.deadline - view.now);
  if (fits(view, request, view.now + alone, costs, start)) return view.now + alone;
  let high = low * 2;
  for (let i = 0; i < 20 && !fits(view, request, view.now + high, costs, start); i++) high *= 2;
  while (high - low > CLOSE * high) {
    const middle = (low + high) / 2;
    if (fits(view, request, view.now + middle, costs, start)) high = middle;
    else low = middle;
  }
  return view.now + high;
}
