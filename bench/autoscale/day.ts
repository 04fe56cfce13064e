import type { Random } from '../simulator/random.ts';
import { renewal } from '../simulator/arrivals.ts';
import type { Rate } from '../simulator/arrivals.ts';

export const DAY_SECONDS = 86_400;
/** Width of the bins in which a trace's rate is read, s. */
const BIN = 30;
/** Callers that share the service, each with the trace's bursts at a time of its own. */
const CALLERS = 8;
/** Rate of the quietest hour (4:00) by that of the busiest (16:00). */
const NIGHT = 0.2;

/**
 * Requests/s over a day, by the second: a curve from night to day, times the bursts of a recorded
 * trace that is shorter than a day. Several callers repeat it, each from a place of its own.
 *
 * @param trace arrival times in ms.
 * @param mean of the day, requests/s.
 */
export function day(trace: readonly number[], mean: number): (second: number) => number {
  const first = trace[0]!;
  const bins = Math.floor((trace.at(-1)! - first) / 1000 / BIN);
  const counts = Array.from({ length: bins }, () => 0);
  for (const time of trace) {
    const bin = Math.floor((time - first) / 1000 / BIN);
    if (bin < bins) counts[bin]!++;
  }
  const average = counts.reduce((sum, count) => sum + count, 0) / bins;
  const bursts = (second: number) => {
    let sum = 0;
    for (let caller = 0; caller < CALLERS; caller++) {
      const shift = Math.floor((caller * bins) / CALLERS);
      sum += counts[(Math.floor(second / BIN) + shift) % bins]!;
    }
    return sum / CALLERS / average;
  };
  const curve = (second: number) =>
    NIGHT + ((1 - NIGHT) * (1 - Math.cos((2 * Math.PI * (second - 4 * 3600)) / DAY_SECONDS))) / 2;
  // The curve's mean is half way between night and day; the bursts' is 1.
  return (second) => (mean * curve(second) * bursts(second)) / ((1 + NIGHT) / 2);
}

/** Poisson arrivals, ms, on a clock on which the day lasts 1/`speed` of a day. */
export function arrivals(
  rateAt: (second: number) => number,
  speed: number,
  random: Random,
): number[] {
  const rate: Rate = (time) => rateAt((time / 1000) * speed);
  return renewal(rate, 1, (DAY_SECONDS * 1000) / speed, random);
}
