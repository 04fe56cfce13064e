import type { Outcome } from './run.ts';

/** What a run achieved. Accuracies are expected ones, 0 to 1. */
export interface Summary {
  readonly requests: number;
  /** Share of all requests answered within their budget; a refused one is a missed one. */
  readonly attainment: number;
  /** Mean accuracy of the answers in time; 0 when there is none. */
  readonly accuracy: number;
  /** attainment x accuracy. */
  readonly delivered: number;
  /** Correct answers in time per second. */
  readonly goodput: number;
  /** Of all answers, from arrival, ms; null when there is none. */
  readonly p50: number | null;
  readonly p99: number | null;
  /** p95 of |predicted - actual| / budget over the answers. */
  readonly predictionError: number;
  /** Shares of all requests. */
  readonly refused: number;
  readonly expired: number;
  /** Share of the answers that took a second look. */
  readonly lookedAgain: number;
  /** Share of the answers by sub-network. */
  readonly tierMix: Readonly<Record<string, number>>;
}

export function summarise(outcomes: readonly Outcome[]): Summary {
  const answered = outcomes.filter(({ tier }) => tier !== null);
  const inTime = outcomes.filter((outcome) => outcome.inTime);
  const correct = inTime.reduce((sum, { accuracy }) => sum + accuracy, 0);
  const latencies = answered.map(({ at, request }) => at - request.arrivedAt).sort((a, b) => a - b);
  const errors = answered
    .map(({ predictionError, request }) => Math.abs(predictionError) / request.budget)
    .sort((a, b) => a - b);
  const seconds = (outcomes.at(-1)?.request.arrivedAt ?? 0) / 1000;
  const total = Math.max(1, outcomes.length);
  const counts = new Map<string, number>();
  for (const { tier } of answered) counts.set(tier!.skip, (counts.get(tier!.skip) ?? 0) + 1);
  return {
    requests: outcomes.length,
    attainment: inTime.length / total,
    accuracy: inTime.length === 0 ? 0 : correct / inTime.length,
    delivered: correct / total,
    goodput: seconds === 0 ? 0 : correct / seconds,
    p50: percentile(latencies, 0.5),
    p99: percentile(latencies, 0.99),
    predictionError: percentile(errors, 0.95) ?? 0,
    refused: outcomes.filter(({ result }) => result === 'refused').length / total,
    expired: outcomes.filter(({ result }) => result === 'expired').length / total,
    lookedAgain: answered.filter(({ looks }) => looks > 1).length / Math.max(1, answered.length),
    tierMix: Object.fromEntries([...counts].map(([skip, n]) => [skip, n / answered.length])),
  };
}

/** Nearest rank. */
export function percentile(sorted: readonly number[], share: number): number | null {
  if (sorted.length === 0) return null;
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
}
