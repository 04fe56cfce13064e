import { describe, expect, it, vi } from 'vitest';
import type { ErrorCode } from '../../src/errors.ts';
import type { Manifest } from '../../src/model/manifest.ts';
import { FeedbackMemory } from '../../src/telemetry/feedback-memory.ts';
import { History } from '../../src/telemetry/history.ts';
import { Recorder } from '../../src/telemetry/recorder.ts';
import type { Classified, Outcome } from '../../src/telemetry/recorder.ts';
import { TritonStatistics } from '../../src/telemetry/triton-statistics.ts';
import { baseNet, read, servingMetrics, superNet } from '../monitoring/metrics.ts';

const manifest = { name: 'm', version: '1', labels: ['cat', 'dog'] } as unknown as Manifest;

const output = Float32Array.of(0, 1);
/** An image that `baseNet` takes for a dog, in a batch of two that ran for 4 ms. */
const dog: Classified = {
  tier: baseNet,
  best: superNet,
  manifest,
  output,
  looks: [{ tier: baseNet, confidence: 0.7, output, at: 7, batchSize: 2, batchMs: 4 }],
  arrivedAt: 0,
  decodeMs: 1,
  queueMs: 2,
  inferenceMs: 4,
  predictedMs: 6,
  stages: { enteredAt: 0, decodedAt: 1, finishedAt: 7 },
};

const answered = (ids: readonly string[], totalMs: number, isPinned = false) => ({
  ids,
  images: ids.map(() => dog),
  isPinned,
  budgetMs: 10,
  totalMs,
});
const unanswered = (code: ErrorCode) => ({ code, manifest, totalMs: 3 });

/** A recorder with all that the service has it tell, and a clock for the history. */
function everyone() {
  const clock = { ms: 5000 };
  const metrics = servingMetrics();
  const history = new History(() => clock.ms);
  const statistics = new TritonStatistics();
  const feedback = new FeedbackMemory(2, (tier, isCorrect) => metrics.judged(tier, isCorrect));
  const recorder = new Recorder(metrics, history, statistics, feedback);
  return { clock, metrics, history, statistics, feedback, recorder };
}

describe('the recorder', () => {
  it('tells every subscriber once of each outcome, in order', () => {
    const seen: [string, Outcome][] = [];
    const listener = (name: string) => ({
      record: (outcome: Outcome) => void seen.push([name, outcome]),
    });
    const recorder = new Recorder(listener('a'), listener('b'));
    recorder.answered(answered(['1'], 10));
    recorder.unanswered(unanswered('overloaded'));
    recorder.flush();
    expect(seen.map(([name, { kind }]) => `${name} ${kind}`)).toEqual([
      'a answered',
      'b answered',
      'a unanswered',
      'b unanswered',
    ]);
  });

  it('gathers outcomes, and passes them on soon or when there are many', () => {
    vi.useFakeTimers();
    const seen: Outcome[] = [];
    const recorder = new Recorder({ record: (outcome) => void seen.push(outcome) });
    recorder.unanswered(unanswered('overloaded'));
    expect(seen).toHaveLength(0);
    vi.advanceTimersByTime(100);
    expect(seen).toHaveLength(1);
    for (let i = 0; i < 64; i++) recorder.unanswered(unanswered('overloaded'));
    expect(seen).toHaveLength(65);
    vi.useRealTimers();
  });

  it('says whether the budget was met', () => {
    const recorder = new Recorder();
    expect(recorder.answered(answered(['1'], 10))).toBe('met');
    expect(recorder.answered(answered(['1'], 10.1))).toBe('late');
  });

  it('lets all who count agree: answers, refusals, expiries, failures', async () => {
    const { clock, metrics, history, statistics, recorder } = everyone();
    recorder.answered(answered(['1', '2'], 8));
    recorder.answered(answered(['3'], 12));
    for (const code of ['overloaded', 'deadline-passed', 'engine-failed'] as const) {
      recorder.unanswered(unanswered(code));
    }
    recorder.flush();
    clock.ms += 1000;

    const requests = (labels: string) => read(metrics, `depthserve_requests_total{${labels}}`);
    expect(await requests('tier="TT",outcome="met"')).toBe(2);
    expect(await requests('tier="TT",outcome="late"')).toBe(1);
    expect(await requests('tier="none",outcome="engine-failed"')).toBe(1);
    // Of the failures, only the lack of time is a refusal.
    expect(history.since(0)).toMatchObject([{ tiers: { TT: 3 }, late: 1, refused: 2, busyMs: 6 }]);
    expect(statistics.report(manifest)).toMatchObject({
      inference_count: 3,
      execution_count: 2,
      inference_stats: { success: { count: 2, ns: 20e6 }, fail: { count: 3, ns: 9e6 } },
    });
  });

  it('counts each look as its share of its own batch', () => {
    const { clock, history, statistics, recorder } = everyone();
    const first = { ...dog.looks[0]!, batchSize: 8, batchMs: 16 };
    const second = { ...first, tier: superNet, at: 12, batchSize: 1, batchMs: 5 };
    const sure = { ...dog, looks: [first] };
    const unsure = { ...dog, tier: superNet, looks: [first, second], inferenceMs: 21 };
    const images = [unsure, ...Array.from({ length: 7 }, () => sure)];
    recorder.answered({ ...answered(['1'], 8), images });
    recorder.flush();
    clock.ms += 1000;

    // Eight shared the first batch's 16 ms, and one had 5 ms to itself.
    expect(history.since(0)).toMatchObject([{ busyMs: 21 }]);
    expect(statistics.report(manifest)).toMatchObject({
      execution_count: 2,
      inference_stats: { compute_infer: { count: 8, ns: 21e6 } },
      batch_stats: [
        { batch_size: 1, compute_infer: { count: 1, ns: 5e6 } },
        { batch_size: 8, compute_infer: { count: 1, ns: 16e6 } },
      ],
    });
  });

  it('keeps the totals of each version of the model apart', () => {
    const { statistics, recorder } = everyone();
    const next = { ...manifest, version: '2' };
    recorder.unanswered(unanswered('overloaded'));
    recorder.unanswered({ ...unanswered('overloaded'), manifest: next });
    recorder.unanswered({ ...unanswered('overloaded'), manifest: next });
    recorder.flush();
    expect(statistics.report(manifest).inference_stats.fail.count).toBe(1);
    expect(statistics.report(next).inference_stats.fail.count).toBe(2);
  });

  it('tells the history which answers were no choice of the service', () => {
    const { clock, history, recorder } = everyone();
    recorder.answered(answered(['1'], 8, true));
    recorder.flush();
    clock.ms += 1000;
    expect(history.since(0)).toMatchObject([{ tiers: {}, pinned: 1, accuracy: null }]);
  });
});

describe('feedback', () => {
  it('is counted by tier: right or wrong, once', async () => {
    const { metrics, feedback, recorder } = everyone();
    recorder.answered(answered(['1', '2'], 8));
    recorder.flush();
    feedback.judge('1', 'dog', []);
    feedback.judge('2', 'cat', []);
    expect(() => feedback.judge('2', 'cat', manifest.labels)).toThrow('No answer with this id');
    expect(await read(metrics, 'depthserve_feedback_total{tier="TT",result="correct"}')).toBe(1);
    expect(await read(metrics, 'depthserve_feedback_total{tier="TT",result="wrong"}')).toBe(1);
  });

  it('needs a label that the model has; the answer is remembered on', () => {
    const { feedback, recorder } = everyone();
    recorder.answered(answered(['1'], 8));
    recorder.flush();
    expect(() => feedback.judge('1', 'bird', [])).toThrow('does not have this label');
    expect(() => feedback.judge('1', 'dog', [])).not.toThrow();
  });

  it('forgets the oldest answers first', () => {
    const { feedback, recorder } = everyone();
    recorder.answered(answered(['1', '2', '3'], 8));
    recorder.flush();
    expect(() => feedback.judge('1', 'dog', manifest.labels)).toThrow('No answer with this id');
    expect(() => feedback.judge('3', 'dog', [])).not.toThrow();
  });
});
