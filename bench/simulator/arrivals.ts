import { Random } from './random.ts';

/** A request as the simulator plays it. Times in ms from the start of the run. */
export interface Request {
  readonly arrivedAt: number;
  /** ms. */
  readonly budget: number;
  readonly minAccuracy: number;
  /** From arrival to the queue: reading and decoding. */
  readonly decodeMs?: number;
}

/** Rate in requests/s at `time` ms. */
export type Rate = (time: number) => number;

export const constant =
  (perSecond: number): Rate =>
  () =>
    perSecond;

/** Equally long steps, one for each rate. */
export const steps =
  (rates: readonly number[], durationMs: number): Rate =>
  (time) =>
    rates[Math.min(rates.length - 1, Math.floor((time / durationMs) * rates.length))]!;

/** Straight lines through equally spaced rates. */
export const ramp =
  (rates: readonly number[], durationMs: number): Rate =>
  (time) => {
    const position = Math.min(Math.max(time / durationMs, 0), 1) * (rates.length - 1);
    const left = Math.min(Math.floor(position), rates.length - 2);
    return rates[left]! + (rates[left + 1]! - rates[left]!) * (position - left);
  };

const RATE_STEP_MS = 10;

/**
 * Arrival times of a renewal process whose gaps are gamma distributed with squared coefficient of
 * variation `cv2` (1: Poisson), stretched to follow `rate`.
 */
export function renewal(rate: Rate, cv2: number, durationMs: number, random: Random): number[] {
  const times: number[] = [];
  // Gaps of mean 1 in operational time; `rate`, read every 10 ms, turns them into ms.
  const gap = () => (cv2 === 1 ? random.exponential() : random.gamma(1 / cv2) * cv2);
  let time = 0;
  let left = gap();
  while (time < durationMs) {
    const tick = RATE_STEP_MS * Math.floor(time / RATE_STEP_MS);
    const end = Math.min(tick + RATE_STEP_MS, durationMs);
    const perMs = rate(tick) / 1000;
    if (left <= perMs * (end - time)) {
      time += left / perMs;
      times.push(time);
      left = gap();
    } else {
      left -= perMs * (end - time);
      time = end;
    }
  }
  return times;
}

/**
 * Reads a trace: CSV with the header `arrival_s`, one offset in seconds per line, replayed `scale`
 * times as fast.
 * @throws {SyntaxError} naming the line that is not a number.
 */
export function parseTrace(csv: string, scale = 1): number[] {
  const [header, ...lines] = csv.trim().split(/\r?\n/);
  const column = header?.split(',').indexOf('arrival_s') ?? -1;
  if (column < 0) throw new SyntaxError('a trace starts with a header that names arrival_s');
  if (lines.length === 0) throw new SyntaxError('the trace holds no arrivals');
  const times = lines.map((line, index) => {
    const seconds = Number(line.split(',')[column] || NaN);
    if (!Number.isFinite(seconds)) {
      throw new SyntaxError(`line ${index + 2} of the trace is not a time: ${line}`);
    }
    return (seconds * 1000) / scale;
  });
  return times.sort((a, b) => a - b);
}

/** The same arrivals, first at 0, so fast that their mean rate is `perSecond`. */
export function atRate(times: readonly number[], perSecond: number): number[] {
  const first = times[0] ?? 0;
  const factor = ((times.length / perSecond) * 1000) / (times.at(-1)! - first || 1);
  return times.map((time) => (time - first) * factor);
}

/** Gives each arrival a budget (ms) and an accuracy floor, drawn evenly from those listed. */
export function requests(
  times: readonly number[],
  budgets: readonly number[],
  floors: readonly number[],
  random: Random,
): Request[] {
  return times.map((arrivedAt) => ({
    arrivedAt,
    budget: random.pick(budgets),
    minAccuracy: random.pick(floors),
  }));
}
