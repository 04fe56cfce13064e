import { admitted } from '../policy.ts';
import type { GivenUp, Refusal, View, Waiting } from '../policy.ts';
import { costsOf } from './costs.ts';
import type { Costs } from './costs.ts';
import { Demand } from './demand.ts';
import {
  ROUNDING_MS,
  deadlinesOf,
  firstFeasible,
  latestPlan,
  longestBatchMs,
  nextStart,
  steadySchedule,
} from './plan.ts';
import type { Plan } from './plan.ts';
import { CAUTION } from './price.ts';

/** Overload lasts that will not be over within this many times the longest budget, */
const LASTS = 16;
/** if that is sure by this many standard deviations of the demand: refusing early can't be undone. */
const SURE = 2;

/**
 * A newcomer may cost another its place that has at most this share of its time left. For one with
 * as much time, nothing would be gained; reading and decoding its image was work, too.
 */
const YIELDS = 2 / 3;

/**
 * Refuses a request that even the cheapest sub-networks in the best batches could not answer
 * together with all that was accepted before. When a burst is too much, the earliest deadlines are
 * what to give up (`latestPlan`): so a request with more time is let in all the same, and costs
 * others their places (`givenUp`). While overload lasts, that would go on and on; instead,
 * deadlines that force small batches are refused: they, too, cost others their place, and a queue
 * of tight deadlines never gets out of them.
 */
export function admit(view: View, request: Waiting): Refusal | null {
  const costs = costsOf(view);
  const floor = costs.floor(request);
  if (floor === costs.tiers.length) {
    return { reason: 'accuracy-unavailable', smallestBudgetMs: Infinity };
  }
  const door = new Door(view, request, costs.typically());
  if (door.accepts(request.deadline)) return null;

  const quickestMs = costs.ms(floor, 1);
  const { refused, accepted } = door.boundary();
  return {
    // Were the server idle, this budget would still be too small: patience does not help.
    reason: view.now + quickestMs > request.deadline ? 'budget-too-small' : 'overload',
    smallestBudgetMs: accepted - request.arrivedAt,
    closed: { until: refused, quickestMs },
  };
}

/**
 * Who waits in vain: what even the cheapest sub-networks, were they as quick as they typically are,
 * could not answer with the others. To be told at once, while another replica may still be tried.
 */
export function givenUp(view: View): GivenUp[] {
  const all = admitted(view);
  const costs = costsOf(view).typically();
  const start = nextStart(view.enginesFreeAt, view.now, costs.busyMs(0, view.maxBatch));
  const engines = view.enginesFreeAt.length;
  const { latest } = latestPlan(deadlinesOf(all), costs.floors(all), costs, engines);
  const lost = all.slice(0, firstFeasible(latest, 0, start));
  if (lost.length === 0) return [];
  const kept = ({ id }: Waiting) => !lost.some((other) => other.id === id);
  const rest = { ...view, queue: view.queue.filter(kept), reserved: view.reserved.filter(kept) };
  // Of those with the same floor, what the last one needed is enough for all: looked for once,
  // since an engine that is late may cost many their places at the same time.
  const enough = new Map<number, number>();
  return lost.toReversed().map((request): GivenUp => {
    const deadline =
      enough.get(request.minAccuracy) ?? new Door(rest, request, costsOf(view)).boundary().accepted;
    enough.set(request.minAccuracy, deadline);
    const smallestBudgetMs = deadline - request.arrivedAt;
    return { request, refusal: { reason: 'overload', smallestBudgetMs } };
  });
}

/** How close the smallest budget is looked for: relative to what it exceeds the given one by. */
const CLOSE = 1 / 4;
/** Gives up the search here: it must not take longer than it is worth. */
const DOUBLINGS = 12;

class Door {
  readonly #start: number;
  #lasting: boolean | null = null;
  readonly #deadlines: Float64Array;
  readonly #floors: ArrayLike<number>;
  readonly #floor: number;
  readonly #plan: Plan;
  /** How many of those that wait cannot be answered any more: no reason to refuse others. */
  readonly #lost: number;
  /** When the latest plan, begun at once, is through with all that wait. */
  readonly #end: number;

  constructor(
    private readonly view: View,
    private readonly request: Waiting,
    private readonly costs: Costs,
  ) {
    this.#start = nextStart(view.enginesFreeAt, view.now, costs.busyMs(0, view.maxBatch));
    const all = admitted(view);
    this.#deadlines = deadlinesOf(all);
    this.#floors = costs.floors(all);
    this.#floor = costs.floor(request);
    const engines = view.enginesFreeAt.length;
    this.#plan = latestPlan(this.#deadlines, this.#floors, costs, engines);
    const { latest, size } = this.#plan;
    // Exactly: what is accepted must not miss its deadline by a rounding error.
    this.#lost = firstFeasible(latest, 0, this.#start, 0);
    this.#end = this.#start;
    for (let i = 0; i < size.length; i += size[i]!) {
      let floor = 0;
      for (let k = i; k < i + size[i]!; k++) floor = Math.max(floor, this.#floors[k]!);
      this.#end += costs.busyMs(floor, size[i]!) / engines;
    }
  }

  /** Whether the request, were it due at `deadline`, may join. Later deadlines never hurt. */
  accepts(deadline: number): boolean {
    const engines = this.view.enginesFreeAt.length;
    let at = this.#deadlines.length;
    while (at > 0 && this.#deadlines[at - 1]! > deadline) at--;
    const deadlines = inserted(this.#deadlines, at, deadline);
    const floors = inserted(this.#floors, at, this.#floor);
    const before = { plan: this.#plan, at };
    const { latest } = latestPlan(deadlines, floors, this.costs, engines, before);
    // Plans round the sizes of batches: who comes last may seem one too many, and is not.
    const isLast = at === this.#deadlines.length && this.#lost === 0;
    const fits = isLast && this.#end + ROUNDING_MS <= deadline - this.costs.ms(this.#floor, 1);
    const lost = firstFeasible(latest, 0, this.#start, 0);
    if (!fits && lost > this.#lost) {
      // With a floor it may slow down a whole batch: one place is all that it may take.
      if (lost > this.#lost + 1 || at < lost) return false;
      const { now } = this.view;
      if (deadlines[lost - 1]! - now > YIELDS * (deadline - now)) return false;
    }
    if (!this.#overloadLasts()) return true;
    const longest = longestBatchMs(this.view.arrivals.budgets);
    const steady = steadySchedule(deadlines, floors, this.costs, engines, this.#start, longest);
    // Patience enough to wait for all the others and then some harms nobody.
    return steady.inTime || deadline >= steady.batchBehind;
  }

  /**
   * Between which deadlines refusals end and acceptance begins, close to each other; for a request
   * whose own deadline is refused. It looks one place further, then behind everybody that waits.
   */
  boundary(): { refused: number; accepted: number } {
    const alone = this.#start + this.costs.ms(this.#floor, 1);
    let refused = this.request.deadline;
    if (refused < alone) {
      if (this.accepts(alone)) return { refused, accepted: alone };
      refused = alone;
    }
    const from = refused;
    const perImage = this.costs.busyMs(this.#floor, this.view.maxBatch) / this.view.maxBatch;
    const behind = this.#end + this.costs.ms(this.#floor, 1) + perImage;
    let step = perImage;
    let accepted = from + step;
    for (let i = 0; i < DOUBLINGS && !this.accepts(accepted); i++) {
      refused = accepted;
      step = Math.max(2 * step, behind - from);
      accepted = from + step;
    }
    while (accepted - refused > Math.max(perImage, CLOSE * (accepted - from))) {
      const middle = (refused + accepted) / 2;
      if (this.accepts(middle)) accepted = middle;
      else refused = middle;
    }
    return { refused, accepted };
  }

  /** Whether the cheapest tier is sure not to catch up for a long time. */
  #overloadLasts(): boolean {
    if (this.#lasting === null) {
      const { now, arrivals, enginesFreeAt } = this.view;
      const { budgets } = arrivals;
      const demand = new Demand(arrivals);
      const ms = this.costs.efficientMs(0, longestBatchMs(budgets)) / enginesFreeAt.length;
      const last = (this.#deadlines.at(-1) ?? now) - now;
      const ahead = Math.max(LASTS * (budgets.at(-1) ?? 0), last);
      const count = demand.dueWithin(ahead);
      const room = (now + ahead - this.#end) / ms - count;
      this.#lasting = demand.deviations(room, count, CAUTION) < -SURE;
    }
    return this.#lasting;
  }
}

function inserted(values: ArrayLike<number>, at: number, value: number): Float64Array {
  const longer = new Float64Array(values.length + 1);
  for (let i = 0; i < at; i++) longer[i] = values[i]!;
  longer[at] = value;
  for (let i = at; i < values.length; i++) longer[i + 1] = values[i]!;
  return longer;
}
