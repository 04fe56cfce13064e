import { percentile } from '../simulator/summary.ts';
import type { Reply } from './load.ts';

/** What a live run achieved. Times in ms, shares 0 to 1. */
export function figures(replies: readonly Reply[], seconds: number) {
  const answered = replies.filter(({ answer }) => answer !== null);
  const inTime = {
    client: answered.filter(({ latency, budget }) => latency <= budget),
    server: answered.filter(({ answer }) => answer!.budget.met),
  };
  const share = (part: readonly Reply[], whole: readonly Reply[] = replies) =>
    whole.length === 0 ? 0 : part.length / whole.length;
  const mean = (values: readonly number[]) =>
    values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;
  const quantiles = (values: readonly number[]) => {
    const sorted = values.toSorted((a, b) => a - b);
    return [0.5, 0.95, 0.99].map((at) => rounded(percentile(sorted, at) ?? NaN));
  };
  const counts = (keys: readonly string[]) => {
    const all: Record<string, number> = {};
    for (const key of keys) all[key] = (all[key] ?? 0) + 1;
    return all;
  };
  const budgets = [...new Set(replies.map(({ budget }) => budget))].sort((a, b) => a - b);
  const expected = mean(inTime.server.map(({ answer }) => answer!.subNetwork.expectedAccuracy));
  return {
    requests: replies.length,
    attainment: { client: share(inTime.client), server: share(inTime.server) },
    attainmentByBudget: Object.fromEntries(
      budgets.map((budget) => {
        const ofBudget = (all: readonly Reply[]) => all.filter((one) => one.budget === budget);
        return [budget, rounded(share(ofBudget(inTime.server), ofBudget(replies)))];
      }),
    ),
    /** Of the answers in time. */
    accuracy: { labelled: share(correct(inTime.server), inTime.server), expected },
    /** attainment x accuracy, by the labels. */
    delivered: share(correct(inTime.server)),
    /** Correct answers in time per second. */
    goodput: correct(inTime.server).length / seconds,
    /** p50, p95, p99 of the answers. */
    latencyMs: {
      client: quantiles(answered.map(({ latency }) => latency)),
      server: quantiles(answered.map(({ answer }) => answer!.timing.totalMs)),
      decode: quantiles(answered.map(({ answer }) => answer!.timing.decodeMs)),
      queue: quantiles(answered.map(({ answer }) => answer!.timing.queueMs)),
      inference: quantiles(answered.map(({ answer }) => answer!.timing.inferenceMs)),
    },
    /** p50, p95, p99 of what requests were sent later than intended. */
    latenessMs: quantiles(replies.map(({ lateness }) => lateness)),
    /** p95 of |predicted - actual| / budget. */
    predictionError: quantiles(
      answered.map(({ answer }) => {
        const { predictedMs, actualMs, requestedMs } = answer!.budget;
        return Math.abs(predictedMs - actualMs) / requestedMs;
      }),
    )[1]!,
    unanswered: counts(
      replies
        .filter(({ answer }) => answer === null)
        .map(({ code, status }) => code ?? `${status}`),
    ),
    tierMix: Object.fromEntries(
      Object.entries(counts(answered.map(({ answer }) => answer!.subNetwork.skip))).map(
        ([skip, count]) => [skip, rounded(count / answered.length)],
      ),
    ),
  };
}

const correct = (replies: readonly Reply[]) => replies.filter((reply) => reply.correct);

const rounded = (value: number) => Math.round(value * 10_000) / 10_000;
