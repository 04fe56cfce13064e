import { SHARE_OF_BUDGET } from '../../src/telemetry/metrics.ts';

/** What Prometheus scrapes of one replica: counters since its start, and its queue. */
export interface Sample {
  /** Seconds, on the autoscaler's clock. */
  readonly at: number;
  readonly queueLength: number;
  readonly busySeconds: number;
  /** Requests, answered or not. */
  readonly asked: number;
  /** Answered, or turned away because of the load. */
  readonly wanted: number;
  /** Answered within the budget, and what these lack of the best accuracy, added up. */
  readonly met: number;
  readonly accuracyLost: number;
  /** Answers by share of the budget used, one count for each of SHARE_OF_BUDGET and one beyond. */
  readonly budgetUsed: readonly number[];
}

/** One replica's samples, oldest first. */
type History = readonly Sample[];

interface Machine {
  /** Images/s that its engines can answer at full depth. */
  readonly capacity: number;
  /** Cores that the pod requests. */
  readonly cores: number;
  /** Processor time of a request beside its inference. */
  readonly cpuSecondsPerRequest: number;
}

/**
 * The series that autoscalers read, by the names they have in Prometheus (k8s/monitoring/rules).
 * Null: nothing known.
 */
export const SERIES: Readonly<
  Record<string, (history: History, machine: Machine, overSeconds: number) => number | null>
> = {
  depthserve_queue_length: (history, _, overSeconds) => {
    const values = within(history, overSeconds).map(({ queueLength }) => queueLength);
    if (values.length === 0) return null;
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  },
  'depthserve:load:ratio2m': (history, { capacity }) =>
    ofPeriod(
      history,
      120,
      (first, last) => (last.wanted - first.wanted) / (last.at - first.at) / capacity,
    ),
  'depthserve:accuracy_lost:mean5m': (history) =>
    ofPeriod(history, 300, (first, last) => {
      const met = last.met - first.met;
      return met > 0 ? (last.accuracyLost - first.accuracyLost) / met : 0;
    }),
  'depthserve:budget_used:p95_5m': (history) =>
    ofPeriod(history, 300, (first, last) =>
      quantile(
        0.95,
        last.budgetUsed.map((count, i) => count - first.budgetUsed[i]!),
      ),
    ),
  /** Of the processor request, as the metrics server has it. */
  cpu: (history, { cores, cpuSecondsPerRequest }) => {
    const [first, last] = history.slice(-2);
    if (!first || !last) return null;
    const inference = last.busySeconds - first.busySeconds;
    const beside = (last.asked - first.asked) * cpuSecondsPerRequest;
    return (inference + beside) / (last.at - first.at) / cores;
  },
};

/** From the oldest to the newest sample of a period; 0, as the rules say, when there is but one. */
function ofPeriod(
  history: History,
  seconds: number,
  read: (first: Sample, last: Sample) => number,
): number | null {
  const samples = within(history, seconds);
  if (samples.length === 0) return null;
  return samples.length === 1 ? 0 : read(samples[0]!, samples.at(-1)!);
}

function within(history: History, seconds: number): History {
  const since = (history.at(-1)?.at ?? 0) - seconds;
  return history.filter(({ at }) => at > since);
}

/** As Prometheus' histogram_quantile: linear within a bucket; 0 without observations. */
function quantile(share: number, counts: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return 0;
  let left = share * total;
  for (const [i, bound] of SHARE_OF_BUDGET.entries()) {
    const lower = SHARE_OF_BUDGET[i - 1] ?? 0;
    if (left <= counts[i]!) return lower + (bound - lower) * (left / (counts[i] || 1));
    left -= counts[i]!;
  }
  return SHARE_OF_BUDGET.at(-1)!;
}
