import { performance } from 'node:perf_hooks';
import { nearestRank } from '../scheduler/sliding-window.ts';
import type { Outcome, Subscriber } from './recorder.ts';

/** One second of the service's life. */
export interface Second {
  /** Whole seconds since 1970. */
  readonly at: number;
  /** Images answered, by sub-network. */
  readonly tiers: Readonly<Record<string, number>>;
  /** Images answered whose sub-network the caller named: no choice of the service. */
  readonly pinned: number;
  /** Of those in `tiers`, how many were late. */
  readonly late: number;
  /** Requests refused or expired for lack of time. */
  readonly refused: number;
  /** Mean expected accuracy of the images answered in time; null: none was. */
  readonly accuracy: number | null;
  /** Percentiles of the time from arrival to answer, in ms; null: nothing was answered. */
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  /** Percentiles of that time as a share of the budget. */
  readonly p50Used: number | null;
  readonly p99Used: number | null;
  /** Time that engines worked on what was answered, in ms. */
  readonly busyMs: number;
}

/** How far back the history goes, in seconds. */
const KEPT = 300;
/** Requests of one second whose times are kept; a random choice of them where there are more. */
const SAMPLES = 400;
const LACK_OF_TIME: ReadonlySet<string> = new Set([
  'overloaded',
  'budget-too-small',
  'deadline-passed',
]);

class Bucket {
  readonly tiers: Record<string, number> = {};
  pinned = 0;
  late = 0;
  refused = 0;
  busyMs = 0;
  inTime = 0;
  accuracy = 0;
  requests = 0;
  readonly samples: { ms: number; used: number }[] = [];

  constructor(readonly at: number) {}

  sample(ms: number, used: number): void {
    this.requests++;
    const place =
      this.requests <= SAMPLES ? this.requests - 1 : Math.floor(Math.random() * this.requests);
    if (place < SAMPLES) this.samples[place] = { ms, used };
  }

  summary(): Second {
    const { at, tiers, pinned, late, refused, busyMs } = this;
    const ms = this.samples.map((sample) => sample.ms).sort((a, b) => a - b);
    const used = this.samples.map((sample) => sample.used).sort((a, b) => a - b);
    return {
      at,
      tiers,
      pinned,
      late,
      refused,
      busyMs,
      accuracy: this.inTime ? this.accuracy / this.inTime : null,
      p50Ms: nearestRank(ms, 0.5) ?? null,
      p99Ms: nearestRank(ms, 0.99) ?? null,
      p50Used: nearestRank(used, 0.5) ?? null,
      p99Used: nearestRank(used, 0.99) ?? null,
    };
  }
}

/** ms since 1970 by the monotonic clock: setting the time of day moves no seconds. */
export const steadyNow = (): number => performance.timeOrigin + performance.now();

/** The last minutes, second by second: for the page's live strip and for load reports. */
export class History implements Subscriber {
  readonly #buckets: Bucket[] = [];

  /** @param now ms since 1970. */
  constructor(private readonly now: () => number = steadyNow) {}

  record(outcome: Outcome): void {
    if (outcome.kind === 'unanswered') {
      if (LACK_OF_TIME.has(outcome.code)) this.#current().refused++;
      return;
    }
    const { images, isPinned, isMet, budgetMs, totalMs } = outcome;
    const bucket = this.#current();
    // Each image of a batch reports the whole batch's time.
    for (const { looks } of images) {
      for (const { batchMs, batchSize } of looks) bucket.busyMs += batchMs / batchSize;
    }
    if (isPinned) {
      bucket.pinned += images.length;
      return;
    }
    for (const { tier } of images) {
      bucket.tiers[tier.skip] = (bucket.tiers[tier.skip] ?? 0) + 1;
      if (!isMet) {
        bucket.late++;
      } else {
        bucket.inTime++;
        bucket.accuracy += tier.accuracy;
      }
    }
    bucket.sample(totalMs, totalMs / budgetMs);
  }

  /** Seconds that are over and later than `since`, oldest first; seconds without requests miss. */
  since(since: number): readonly Second[] {
    const current = Math.floor(this.now() / 1000);
    return this.#buckets
      .filter(({ at }) => at > since && at < current && at >= current - KEPT)
      .map((bucket) => bucket.summary());
  }

  #current(): Bucket {
    const at = Math.floor(this.now() / 1000);
    const last = this.#buckets.at(-1);
    if (last?.at === at) return last;
    const bucket = new Bucket(at);
    this.#buckets.push(bucket);
    if (this.#buckets.length > KEPT) this.#buckets.shift();
    return bucket;
  }
}
