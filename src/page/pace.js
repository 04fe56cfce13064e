// How fast a burst sends. It begins below what the super-net can do and rises until answers are
// refused, then stays about there: so depth gives way first, on quick machines and on slow ones.

/** Of what the super-net can do, to begin with. */
const START = 0.6;
/** In one step of the pace. */
const RISE = 1.3;
const FALL = 0.75;
/** Share of refusals from which the pace falls. */
const TOO_MANY = 0.03;
/** Of what the shallowest can do: more would only be refused. */
const MAX_SHARE = 1.1;

export class Pace {
  #max;

  /**
   * @param {number} deepest images a second that the super-net can answer
   * @param {number} shallowest that the quickest sub-network can
   */
  constructor(deepest, shallowest) {
    /** Images a second. */
    this.rate = deepest * START;
    this.#max = Math.max(shallowest * MAX_SHARE, deepest * START);
  }

  /**
   * Once for each step, some hundred ms long.
   *
   * @param {number} answered images
   * @param {number} refused images
   */
  step(answered, refused) {
    if (refused > (answered + refused) * TOO_MANY) this.rate *= FALL;
    else if (answered > 0) this.rate = Math.min(this.#max, this.rate * RISE);
  }
}

/**
 * Images a second that a sub-network can answer, in the batches that suit it best.
 *
 * @param {Readonly<Record<string, number>>} timesByBatch ms
 * @param {number} workers
 */
export function capacityOf(timesByBatch, workers) {
  const best = Object.entries(timesByBatch).map(([batch, ms]) => (Number(batch) * 1000) / ms);
  return workers * Math.max(...best);
}
