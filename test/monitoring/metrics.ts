import type { ErrorCode } from '../../src/errors.ts';
import type { Manifest } from '../../src/model/manifest.ts';
import type { Tier } from '../../src/scheduler/policy.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import type { Classified } from '../../src/telemetry/recorder.ts';
import { Recorder } from '../../src/telemetry/recorder.ts';
import { notWarm } from '../../src/telemetry/status.ts';
import type { DeploymentStatus, State } from '../../src/telemetry/status.ts';

export const superNet: Tier = { skip: 'FF', accuracy: 0.9, macs: 1000 };
export const baseNet: Tier = { skip: 'TT', accuracy: 0.8, macs: 400 };

const manifest = { name: 'test-model', version: '1.2.3' } as Manifest;

/** A deployment of two sub-networks with nothing to do. */
export const calm: DeploymentStatus = {
  ...notWarm(manifest),
  provider: 'cpu',
  engines: 2,
  tiers: [baseNet, superNet].map((tier) => ({ ...tier, budgetMs: 10 })),
};

/** Metrics of a model with two sub-networks, as after the warm-up. */
export function servingMetrics(deployment = calm, state: State = 'ready'): Metrics {
  return new Metrics('test-model', () => ({ state, update: null, deployment }));
}

/**
 * Records an answer by `tier`: 1 ms of decoding, 2 ms in the queue, 4 ms of inference.
 *
 * @param looked the sub-networks that looked at it, one after the other.
 */
export function answer(
  metrics: Metrics,
  tier: Tier,
  budgetMs: number,
  totalMs: number,
  count = 1,
  looked = [tier],
): void {
  const output = Float32Array.of(0, 1);
  const image: Classified = {
    tier,
    best: superNet,
    manifest,
    output,
    looks: looked.map((by, look) => ({
      tier: by,
      confidence: 0.7,
      output: look === 0 ? output : output.toReversed(),
      at: 7,
      batchSize: 1,
      batchMs: 4,
    })),
    arrivedAt: 0,
    decodeMs: 1,
    queueMs: 2,
    inferenceMs: 4,
    predictedMs: 6,
    stages: { enteredAt: 0, decodedAt: 1, finishedAt: 7 },
  };
  const images = Array.from({ length: count }, () => image);
  const request = {
    ids: images.map((_, id) => `${id}`),
    images,
    isPinned: false,
    budgetMs,
    totalMs,
  };
  const recorder = new Recorder(metrics);
  recorder.answered(request);
  recorder.flush();
}

/** Records a request that got no answer. */
export function failure(metrics: Metrics, code: ErrorCode): void {
  const recorder = new Recorder(metrics);
  recorder.unanswered({ code, manifest, totalMs: 1 });
  recorder.flush();
}

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
