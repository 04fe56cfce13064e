import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import type { IntervalHistogram } from 'node:perf_hooks';

/** A timer that is due so often, in ms, tells how late this thread comes to what has happened. */
const EVERY_MS = 10;
/** By so much, in ms, timers are late even on an idle thread: their clock counts whole ones. */
const ROUNDING_MS = 1;
/** The histogram is read again, and begun anew, after so long, in ms. */
const WINDOW_MS = 500;
const PERCENTILE = 95;

/** In ns; replaced in tests. */
type Delays = Pick<IntervalHistogram, 'percentile' | 'reset'>;

function startHistogram(): Delays {
  const histogram = monitorEventLoopDelay({ resolution: EVERY_MS });
  histogram.enable();
  return histogram;
}

let turnBegan: number | null = null;

/**
 * When this turn of the event loop began to read requests, as `performance.now()`: those that it
 * reads later had arrived by then, too.
 */
export function readingSince(): number {
  if (turnBegan === null) {
    turnBegan = performance.now();
    setImmediate(() => (turnBegan = null));
  }
  return turnBegan;
}

/**
 * How long a request may wait in its socket before it is read. Its budget runs meanwhile, but no
 * clock does: where engines and the thread that speaks HTTP share a core, up to one answer in ten
 * was late to callers under overload (bench/history.md).
 */
export class EventLoopLag {
  #since = -Infinity;
  #ms = 0;

  constructor(private readonly histogram = startHistogram()) {}

  /** The 95th percentile lately, in ms. */
  ms(now: number): number {
    const age = now - this.#since;
    if (age < WINDOW_MS) return this.#ms;
    // Nobody asked for long: what was seen meanwhile is of another load.
    const isOld = age > 2 * WINDOW_MS;
    const late = this.histogram.percentile(PERCENTILE) / 1e6 - EVERY_MS - ROUNDING_MS;
    this.#ms = isOld ? 0 : (this.#ms + Math.max(0, late)) / 2;
    this.histogram.reset();
    this.#since = now;
    return this.#ms;
  }
}
