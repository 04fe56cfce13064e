import { calibrated } from '../model/logits.ts';
import { isInTime } from '../telemetry/recorder.ts';
import type { Classified } from '../telemetry/recorder.ts';
import type { Answer } from './schemas.ts';

/** The `k` most probable labels, best first. */
export function topK(
  probabilities: Float32Array,
  labels: readonly string[],
  k: number,
): Answer['predictions'] {
  // A few of many classes: sorting all of them takes longer than whatever else makes an answer.
  const best: number[] = [];
  for (let index = 0; index < probabilities.length; index++) {
    const probability = probabilities[index]!;
    if (best.length === k && probability <= probabilities[best.at(-1)!]!) continue;
    let at = best.length;
    while (at > 0 && probabilities[best[at - 1]!]! < probability) at--;
    best.splice(at, 0, index);
    if (best.length > k) best.pop();
  }
  return best.map((index) => ({
    label: labels[index] ?? String(index),
    index,
    probability: probabilities[index]!,
  }));
}

/** Microseconds are as fine as these timings are true. */
export const rounded = (ms: number) => Math.round(ms * 1000) / 1000;

/**
 * @param totalMs from the arrival of the request's head until now.
 * @param k number of predictions.
 */
export function answerOf(
  id: string,
  result: Classified,
  budgetMs: number,
  totalMs: number,
  k: number,
): Answer {
  const { manifest, tier, output, looks } = result;
  const probabilities = calibrated(manifest, tier.skip, output);
  return {
    id,
    model: { name: manifest.name, version: manifest.version },
    predictions: topK(probabilities, manifest.labels, k),
    confidence: looks.at(-1)!.confidence,
    looks: looks.map((look) => ({
      subNetwork: look.tier.skip,
      confidence: look.confidence,
      atMs: rounded(look.at - result.arrivedAt),
    })),
    subNetwork: {
      skip: tier.skip,
      expectedAccuracy: tier.accuracy,
      macs: tier.macs,
    },
    ...(result.warning !== undefined && { warning: result.warning }),
    budget: {
      requestedMs: budgetMs,
      predictedMs: rounded(result.predictedMs),
      actualMs: rounded(totalMs),
      met: isInTime({ totalMs, budgetMs }),
    },
    timing: {
      decodeMs: rounded(result.decodeMs),
      queueMs: rounded(result.queueMs),
      inferenceMs: rounded(result.inferenceMs),
      totalMs: rounded(totalMs),
    },
  };
}

/** The sub-networks that answered, each once, in the order of the images. */
export function subNetworksOf(results: readonly Classified[]): string {
  if (results.length === 1) return results[0]!.tier.skip;
  return [...new Set(results.map(({ tier }) => tier.skip))].join(', ');
}

/** What browsers' developer tools show as the request's phases: those of its slowest image. */
export function serverTimingOf(results: readonly Classified[], totalMs: number): string {
  const stay = (one: Classified) => one.decodeMs + one.queueMs + one.inferenceMs;
  const slowest = results.reduce((a, b) => (stay(b) > stay(a) ? b : a));
  const { decodeMs, queueMs, inferenceMs } = slowest;
  return (
    `decode;dur=${rounded(decodeMs)}, queue;dur=${rounded(queueMs)}, ` +
    `infer;dur=${rounded(inferenceMs)}, total;dur=${rounded(totalMs)}`
  );
}
