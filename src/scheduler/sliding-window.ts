/** Quantiles of the last few values. */
export class SlidingWindow {
  readonly #values: number[] = [];
  readonly #sorted: number[] = [];
  #next = 0;

  constructor(private readonly capacity: number) {}

  add(value: number): void {
    if (this.#values.length === this.capacity) {
      this.#sorted.splice(position(this.#sorted, this.#values[this.#next]!), 1);
    }
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % this.capacity;
    this.#sorted.splice(position(this.#sorted, value), 0, value);
  }

  /** Replaces every value by `change` of it, which must not change their order. */
  map(change: (value: number) => number): void {
    for (const values of [this.#values, this.#sorted]) {
      values.forEach((value, index) => (values[index] = change(value)));
    }
  }

  /** Nearest rank; 0 when nothing was added yet. */
  quantile(share: number): number {
    return nearestRank(this.#sorted, share) ?? 0;
  }

  /** The values, ascending; a live view that later additions change. */
  get sorted(): readonly number[] {
    return this.#sorted;
  }
}

/** A quantile of ascending values, one of them; undefined: there is none. */
export function nearestRank(sorted: readonly number[], share: number): number | undefined {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/** Index of the first element that is not below `value`. */
function position(sorted: readonly number[], value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
