import { dense } from '../../../src/scheduler/latency.ts';
import type { Request } from '../arrivals.ts';
import type { Profile } from '../tables.ts';

/** What a batch may be made of: one or several tiers that are the same to those who ask for them. */
export interface Kind {
  /** Worth of each answer. */
  readonly worth: number;
  /** By batch size, from 1 to the largest allowed, ms; never falling. */
  readonly ms: readonly number[];
  /** Who accepts such an answer, by `minAccuracy`. */
  readonly accuracy: number;
}

/** Answers are worth their accuracy. */
export function byAccuracy({ tiers, latency, maxBatch }: Profile): Kind[] {
  return tiers.map(({ skip, accuracy }) => ({
    worth: accuracy,
    accuracy,
    ms: rising(dense(latency[skip]!).slice(0, maxBatch + 1)),
  }));
}

/** Every answer is worth 1: for each floor that is asked for, the quickest that meets it. */
export function byCount(profile: Profile, requests: readonly Request[]): Kind[] {
  const kinds = byAccuracy(profile);
  const floors = [...new Set(requests.map(({ minAccuracy }) => minAccuracy))].sort((a, b) => a - b);
  return floors.flatMap((floor) => {
    const meeting = kinds.filter(({ accuracy }) => accuracy >= floor);
    if (meeting.length === 0) return [];
    const accuracy = Math.min(...meeting.map((kind) => kind.accuracy));
    const longest = Math.max(...meeting.map(({ ms }) => ms.length));
    const ms = Array.from({ length: longest }, (_, batch) =>
      Math.min(...meeting.map((kind) => kind.ms[batch] ?? Infinity)),
    );
    return [{ worth: 1, accuracy, ms }];
  });
}

/** The least time for this many or more. */
export function rising(times: readonly number[]): number[] {
  const least = [...times];
  for (let batch = least.length - 2; batch >= 0; batch--) {
    least[batch] = Math.min(least[batch]!, least[batch + 1]!);
  }
  return least;
}

/** A deadline met but for a rounding error is met. */
const ROUNDING_MS = 1e-6;

/**
 * Whole batches that nothing interrupts, one after the other on every engine; but a request may be
 * answered any number of times, at a price for each. Whatever the prices are, no schedule is worth
 * more than the best of these plus the sum of the prices (a Lagrangian bound). docs/bound.md
 * argues why.
 *
 * The best is found by dynamic programming over starts at multiples of `step` ms.
 */
export class PricedBatches {
  /** Who may be in a batch that starts in these steps, both included. */
  readonly #first: Int32Array;
  readonly #last: Int32Array;
  readonly #deadline: Float64Array;
  /** Index of the first kind that the request accepts. */
  readonly #floor: Int32Array;
  readonly #byArrival: Int32Array;
  /** Those with any hope, who must start earliest last. */
  readonly #byLast: Int32Array;
  readonly #origin: number;
  readonly #horizon: number;
  /** By kind and batch size: whole steps that it takes. */
  readonly #steps: readonly Int32Array[];
  /** By step: worth of the best batches that start there or later, less the prices. */
  readonly #value: Float64Array;
  /** By step: kind and size of the batch that starts there; size 0: none does. */
  readonly #kind: Int32Array;
  readonly #size: Int32Array;

  /** @param kinds least accurate first. */
  constructor(
    private readonly kinds: readonly Kind[],
    private readonly requests: readonly Request[],
    private readonly engines: number,
    private readonly step: number,
  ) {
    const shortest = Math.min(...kinds.map(({ ms }) => ms[1]!));
    const byArrival = [...requests.keys()];
    byArrival.sort((a, b) => requests[a]!.arrivedAt - requests[b]!.arrivedAt);
    this.#byArrival = Int32Array.from(byArrival);
    const origin = requests[byArrival[0]!]!.arrivedAt;
    this.#origin = origin;
    this.#deadline = Float64Array.from(
      requests,
      ({ arrivedAt, budget }) => arrivedAt + budget + ROUNDING_MS,
    );
    // Rounding errors may only widen a window.
    this.#first = Int32Array.from(requests, ({ arrivedAt }) =>
      Math.max(0, Math.floor((arrivedAt - origin) / step - 1e-9)),
    );
    this.#last = Int32Array.from(this.#deadline, (at) =>
      Math.floor((at - shortest - origin) / step),
    );
    this.#floor = Int32Array.from(requests, ({ minAccuracy }) => {
      const floor = kinds.findIndex(({ accuracy }) => accuracy >= minAccuracy);
      return floor < 0 ? kinds.length : floor;
    });
    this.#byLast = this.#byArrival
      .filter((i) => this.#last[i]! >= this.#first[i]! && this.#floor[i]! < kinds.length)
      .sort((a, b) => this.#last[b]! - this.#last[a]!);
    this.#steps = kinds.map(({ ms }) =>
      Int32Array.from(ms, (each) => Math.max(1, Math.floor(each / step))),
    );
    this.#horizon = this.#byLast.length === 0 ? 0 : this.#last[this.#byLast[0]!]! + 1;
    const beyond = Math.max(...this.#steps.map((steps) => steps.at(-1)!));
    this.#value = new Float64Array(this.#horizon + beyond + 1);
    this.#kind = new Int32Array(this.#horizon);
    this.#size = new Int32Array(this.#horizon);
  }

  /** The bound that these prices give; `counts`: how often its batches answer each request. */
  bound(prices: Float64Array, counts: Float64Array): number {
    this.#plan(prices);
    this.#follow(prices, counts);
    const sum = prices.reduce((total, price) => total + price, 0);
    return sum + this.engines * this.#value[0]!;
  }

  #plan(prices: Float64Array): void {
    const value = this.#value;
    const present = new Present(this.requests.length);
    let next = 0;
    for (let at = this.#horizon - 1; at >= 0; at--) {
      present.leave(at);
      for (; next < this.#byLast.length; next++) {
        const i = this.#byLast[next]!;
        if (this.#last[i]! < at) break;
        if (this.#first[i]! <= at) {
          present.add(prices[i]!, this.#deadline[i]!, this.#floor[i]!, this.#first[i]!);
        }
      }
      this.#choose(at, present, value);
    }
  }

  /** The best that can start at this step, if all later ones are planned. */
  #choose(at: number, present: Present, value: Float64Array): void {
    const { kinds } = this;
    const now = this.#origin + at * this.step;
    let best = value[at + 1]!;
    let bestKind = 0;
    let bestSize = 0;
    for (let kind = 0; kind < kinds.length; kind++) {
      const { worth, ms } = kinds[kind]!;
      const steps = this.#steps[kind]!;
      const most = Math.min(present.size, ms.length - 1);
      for (let size = 1; size <= most; size++) {
        const after = value[at + steps[size]!]!;
        // Even with the cheapest, whatever their deadlines.
        if (size * worth - present.cheapest(size) + after <= best) continue;
        const price = present.priceOf(size, now + ms[size]!, kind);
        // Who has no time for this batch has none for a larger one.
        if (price === Infinity) break;
        const total = size * worth - price + after;
        if (total > best) {
          best = total;
          bestKind = kind;
          bestSize = size;
        }
      }
    }
    value[at] = best;
    this.#kind[at] = bestKind;
    this.#size[at] = bestSize;
  }

  /** How often the planned batches of all engines answer each request. */
  #follow(prices: Float64Array, counts: Float64Array): void {
    const longest = this.requests.reduce((most, { budget }) => Math.max(most, budget), 0);
    counts.fill(0);
    let oldest = 0;
    for (let at = 0; at < this.#horizon;) {
      const size = this.#size[at]!;
      if (size === 0) {
        at++;
        continue;
      }
      const kind = this.#kind[at]!;
      const now = this.#origin + at * this.step;
      const end = now + this.kinds[kind]!.ms[size]!;
      const able: number[] = [];
      while (this.requests[this.#byArrival[oldest]!]!.arrivedAt + longest < now) oldest++;
      for (let k = oldest; k < this.#byArrival.length; k++) {
        const i = this.#byArrival[k]!;
        if (this.#first[i]! > at) break;
        if (this.#deadline[i]! >= end && this.#floor[i]! <= kind) able.push(i);
      }
      able.sort((a, b) => prices[a]! - prices[b]!);
      for (const i of able.slice(0, size)) counts[i]! += this.engines;
      at += this.#steps[kind]![size]!;
    }
  }
}

/** Requests that could be in a batch now, the lowest price first. */
class Present {
  #size = 0;
  readonly #price: Float64Array;
  readonly #deadline: Float64Array;
  readonly #floor: Int32Array;
  readonly #first: Int32Array;
  /** `sums[k]`: the k lowest prices. */
  readonly #sums: Float64Array;
  #latestFirst = -1;

  constructor(most: number) {
    this.#price = new Float64Array(most);
    this.#deadline = new Float64Array(most);
    this.#floor = new Int32Array(most);
    this.#first = new Int32Array(most);
    this.#sums = new Float64Array(most + 1);
  }

  get size(): number {
    return this.#size;
  }

  add(price: number, deadline: number, floor: number, first: number): void {
    let i = this.#size++;
    for (; i > 0 && this.#price[i - 1]! > price; i--) this.#move(i - 1, i);
    this.#price[i] = price;
    this.#deadline[i] = deadline;
    this.#floor[i] = floor;
    this.#first[i] = first;
    this.#latestFirst = Math.max(this.#latestFirst, first);
    this.#sum();
  }

  /** Whoever could start at step `at + 1` at the earliest is not there yet. */
  leave(at: number): void {
    if (this.#latestFirst <= at) return;
    let kept = 0;
    this.#latestFirst = -1;
    for (let i = 0; i < this.#size; i++) {
      if (this.#first[i]! > at) continue;
      this.#latestFirst = Math.max(this.#latestFirst, this.#first[i]!);
      this.#move(i, kept++);
    }
    this.#size = kept;
    this.#sum();
  }

  cheapest(count: number): number {
    return this.#sums[count]!;
  }

  /** Sum of the lowest prices of `count` who have time until `end` and accept `kind`, if any. */
  priceOf(count: number, end: number, kind: number): number {
    let found = 0;
    let sum = 0;
    for (let i = 0; i < this.#size; i++) {
      if (this.#deadline[i]! < end || this.#floor[i]! > kind) continue;
      sum += this.#price[i]!;
      if (++found === count) return sum;
    }
    return Infinity;
  }

  #move(from: number, to: number): void {
    this.#price[to] = this.#price[from]!;
    this.#deadline[to] = this.#deadline[from]!;
    this.#floor[to] = this.#floor[from]!;
    this.#first[to] = this.#first[from]!;
  }

  #sum(): void {
    for (let i = 0; i < this.#size; i++) this.#sums[i + 1] = this.#sums[i]! + this.#price[i]!;
  }
}
