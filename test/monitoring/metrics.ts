import { Metrics } from '../../src/metrics.ts';
import type { Answered, LiveState } from '../../src/metrics.ts';
import type { Tier } from '../../src/scheduler/policy.ts';

export const superNet: Tier = { skip: 'FF', accuracy: 0.9, macs: 1000 };
export const baseNet: Tier = { skip: 'TT', accuracy: 0.8, macs: 400 };

export const calm: LiveState = {
  ready: true,
  engines: 2,
  queueLength: 0,
  oldestAgeMs: 0,
  slowdown: 1,
  delayMs: 0,
  predictions: [],
};

/** Metrics of a model with two sub-networks, as after the warm-up. */
export function servingMetrics(state: LiveState = calm): Metrics {
  const metrics = new Metrics({ name: 'test-model', version: '1.2.3' }, () => state);
  metrics.serving({
    manifest: { version: '1.2.3' },
    engine: { provider: 'cpu', fallback: null },
    front: [baseNet, superNet],
  });
  return metrics;
}

/** An answer of `tier`: 1 ms of decoding, 2 ms in the queue, 4 ms of inference. */
export const answerOf = (tier: Tier): Answered => ({
  tier,
  best: superNet,
  decodeMs: 1,
  queueMs: 2,
  inferenceMs: 4,
  predictedMs: 6,
});

/** The value of one series: `name{label="value"}` without the label of the model. */
export async function read(metrics: Metrics, series: string): Promise<number | undefined> {
  const lines = (await metrics.registry.metrics()).split('\n');
  const plain = lines.map((line) =>
    line
      .replace(/model="test-model",?/, '')
      .replace(',}', '}')
      .replace('{}', ''),
  );
  const line = plain.find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}
