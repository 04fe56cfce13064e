// The scale of the slider. The sub-networks of a machine are often within a few ms of each other,
// so the scale is not one of time: each sub-network has as much of it as any other.

/** What reading a request and writing its answer takes beside the predicted time, in ms. */
const AROUND_MS = 1.5;
/** Of the cheapest budget: predictions change between two looks at them. */
const MARGIN = 0.05;
/** Positions at most: where the service refuses, and between two stops or beyond the last. */
const REFUSED = 4;
const BETWEEN = 10;

/**
 * The budgets at which sub-networks are offered: a little more than the service reckons with, the
 * same for all, so that a stop is not enough for the next sub-network, where it takes longer by
 * more than that. Each is larger than the one before.
 *
 * @param {readonly { budgetMs: number }[]} tiers cheapest first
 * @returns {number[]} ms
 */
export function stopsOf(tiers) {
  const more = AROUND_MS + MARGIN * (tiers[0]?.budgetMs ?? 0);
  /** @type {number[]} */
  const stops = [];
  for (const { budgetMs } of tiers) {
    const last = stops.at(-1) ?? 0;
    stops.push(Math.max(rounded(budgetMs + more), rounded(last + stepAt(last))));
  }
  return stops;
}

/** From a little below the first stop, where a refusal can be seen, to twice the last. */
export class Track {
  /** @param {readonly { budgetMs: number }[]} tiers cheapest first */
  constructor(tiers) {
    const stops = stopsOf(tiers);
    const edge = stops[0] ?? 1;
    const to = 2 * (stops.at(-1) ?? 1);
    const anchors = [Math.max(0.1, edge * 0.85), ...stops, to];
    const positions = anchors.slice(1).flatMap((end, index) => {
      const start = anchors[index] ?? end;
      const parts = index === 0 ? REFUSED : BETWEEN;
      return Array.from({ length: parts }, (_, part) => start + ((end - start) * part) / parts);
    });
    /** The budget at each position, in ms: no two are written alike. */
    this.budgets = [...new Set([...positions, to].map(rounded))];
  }

  get from() {
    return this.budgets[0] ?? 0;
  }

  get to() {
    return this.budgets.at(-1) ?? 0;
  }

  get last() {
    return this.budgets.length - 1;
  }

  /** @param {number} position @returns {number} ms */
  at(position) {
    return this.budgets[position] ?? this.to;
  }

  /**
   * Where a budget lies, between two positions as the case may be.
   *
   * @param {number} ms
   * @returns {number} 0 to `last`
   */
  positionOf(ms) {
    const above = this.budgets.findIndex((budget) => budget >= ms);
    if (above === -1) return this.last;
    if (above === 0) return 0;
    const [start, end] = [this.at(above - 1), this.at(above)];
    return above - 1 + (ms - start) / (end - start);
  }
}

/** As fine as budgets are written. @param {number} ms */
function stepAt(ms) {
  return ms < 100 ? 0.1 : 1;
}

/** @param {number} ms */
function rounded(ms) {
  return Number(ms.toFixed(ms < 100 ? 1 : 0));
}
