import type { View } from '../policy.ts';
import { costsOf } from './costs.ts';
import type { Demand } from './demand.ts';
import { normalTail } from './distributions.ts';
import { levelsOf } from './levels.ts';
import type { Level } from './levels.ts';
import { floorAt, planOf, startOf } from './plan.ts';

/** What engine time is worth, and what that leaves of a request's value. */
export interface Price {
  /** Accuracy expected to be lost elsewhere for every ms of engine time. */
  readonly perMs: number;
  /** Worth of answering one more request, less the engine time that it takes. */
  readonly request: number;
}

/** Looks this many longest budgets ahead; what comes later can still be mended. */
const HORIZONS = [1, 2];

/**
 * The price of engine time: the expected dual of the problem of how deep to answer what waits and
 * what will come. If everything from now on ran at one level, would the demand fit? Its plan has
 * some slack at every deadline; the demand to come is known but for its variance; so there is a
 * probability that a ms spent now must be taken back at that level, at the level's slope.
 */
export function priceOf(view: View, demand: Demand): Price {
  const { levels } = levelsOf(view);
  const batches = batchesOf(view, demand);
  let perMs = 0;
  let below = 0;
  for (const level of levels) {
    // A deeper level is never easier to keep up.
    const probability = Math.max(below, normalTail(tightest(view, batches, demand, level)));
    perMs += level.slope * (probability - below);
    below = probability;
  }
  let request = 0;
  for (const { accuracy, ms } of levels) request = Math.max(request, accuracy - perMs * ms);
  return { perMs, request };
}

/** A batch of the plan: its last deadline, and how many who will come are due before. */
interface Batch {
  readonly size: number;
  readonly floor: number;
  readonly deadline: number;
  readonly due: number;
}

function batchesOf(view: View, demand: Demand): Batch[] {
  const plan = planOf(view);
  const batches: Batch[] = [];
  for (let i = 0; i < plan.size.length; i += plan.size[i]!) {
    const size = plan.size[i]!;
    const deadline = plan.deadlines[i + size - 1]!;
    const due = demand.dueWithin(deadline - view.now);
    batches.push({ size, floor: floorAt(plan, i), deadline, due });
  }
  return batches;
}

/** Least slack of running everything at `level`, in standard deviations of the demand to absorb. */
function tightest(view: View, batches: readonly Batch[], demand: Demand, level: Level): number {
  const costs = costsOf(view);
  const { now, arrivals, enginesFreeAt } = view;
  const engines = enginesFreeAt.length;
  const perRequest = level.ms / engines;
  let start = startOf(view);
  let least = Infinity;
  for (const { size, floor, deadline, due } of batches) {
    let tier = Math.max(level.tier, floor);
    // Who has no time for the level takes the deepest that there is time for.
    while (tier > floor && now + costs.ms(tier, size) > deadline) tier--;
    const slack = deadline - start - costs.ms(tier, size);
    least = Math.min(least, demand.deviations(slack / perRequest - due, due, level.scatter));
    start += (level.stretch * costs.busyMs(tier, size)) / engines;
  }
  const longest = arrivals.budgets.at(-1) ?? 0;
  const last = (batches.at(-1)?.deadline ?? now) - now;
  for (const horizons of HORIZONS) {
    const ms = Math.max(horizons * longest, last);
    const due = demand.dueWithin(ms);
    least = Math.min(
      least,
      demand.deviations((now + ms - start) / perRequest - due, due, level.scatter),
    );
  }
  return least;
}
