import { admitted } from '../policy.ts';
import type { Refusal, View, Waiting } from '../policy.ts';
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
import { priceOf } from './price.ts';

/**
 * Whoever makes batches inefficient must be worth it: engine time has become so dear that an
 * answer is worth less than this share of its accuracy beyond the time that it takes.
 */
const SCARCE = 0.8;

/**
 * Refuses a request that even the cheapest sub-networks in the best batches could not answer
 * together with all that was accepted before. Under overload also one whose deadline forces small
 * batches: they cost others their place, and a queue of tight deadlines never gets out of them.
 * So overload is refused at the door, while another replica may still be tried, and what is
 * accepted is kept.
 */
export function admit(view: View, request: Waiting): Refusal | null {
  const costs = costsOf(view);
  const floor = costs.floor(request);
  if (floor === costs.tiers.length) {
    return { reason: 'accuracy-unavailable', smallestBudgetMs: Infinity };
  }
  const door = new Door(view, request, costs);
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

/** How close the smallest budget is looked for: relative to what it exceeds the given one by. */
const CLOSE = 1 / 4;
/** Gives up the search here: it must not take longer than it is worth. */
const DOUBLINGS = 12;

class Door {
  readonly #start: number;
  readonly #admitted: readonly Waiting[];
  #scarce: boolean | null = null;
  readonly #deadlines: Float64Array;
  readonly #floors: ArrayLike<number>;
  readonly #floor: number;
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
    this.#admitted = admitted(view);
    this.#deadlines = deadlinesOf(this.#admitted);
    this.#floors = costs.floors(this.#admitted);
    this.#floor = costs.floor(request);
    const engines = view.enginesFreeAt.length;
    const { latest, size } = latestPlan(this.#deadlines, this.#floors, costs, engines);
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
    const { enginesFreeAt, arrivals } = this.view;
    const engines = enginesFreeAt.length;
    let at = this.#deadlines.length;
    while (at > 0 && this.#deadlines[at - 1]! > deadline) at--;
    const deadlines = inserted(this.#deadlines, at, deadline);
    const floors = inserted(this.#floors, at, this.#floor);
    const longest = longestBatchMs(arrivals.budgets);
    const { latest } = latestPlan(deadlines, floors, this.costs, engines);
    const steady = steadySchedule(deadlines, floors, this.costs, engines, this.#start, longest);
    // Plans round the sizes of batches: who comes last may seem one too many, and is not.
    const isLast = at === this.#deadlines.length && this.#lost === 0;
    const fits = isLast && this.#end + ROUNDING_MS <= deadline - this.costs.ms(this.#floor, 1);
    if (!fits && firstFeasible(latest, 0, this.#start, 0) > this.#lost) return false;
    // Patience enough to wait for all the others and then some harms nobody.
    return steady.inTime || deadline >= steady.batchBehind || !this.#timeIsScarce();
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

  #timeIsScarce(): boolean {
    if (this.#scarce === null) {
      const { now, arrivals, enginesFreeAt } = this.view;
      const price = priceOf(
        {
          queue: this.#admitted,
          floors: this.costs.floors(this.#admitted),
          now,
          start: this.#start,
          engines: enginesFreeAt.length,
          arrivals,
          demand: new Demand(arrivals),
        },
        this.costs,
      );
      this.#scarce = price.request < SCARCE * this.costs.tiers[0]!.accuracy;
    }
    return this.#scarce;
  }
}

function inserted(values: ArrayLike<number>, at: number, value: number): Float64Array {
  const longer = new Float64Array(values.length + 1);
  for (let i = 0; i < at; i++) longer[i] = values[i]!;
  longer[at] = value;
  for (let i = at; i < values.length; i++) longer[i + 1] = values[i]!;
  return longer;
}
