import type { Manifest } from './manifest.ts';

/** Probabilities from logits, `[classes]` each. */
function softmax(logits: Float32Array): Float32Array {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map((logit) => Math.exp(logit - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** Index of the most probable class. */
export function argmax(logits: Float32Array): number {
  return logits.reduce((best, logit, index) => (logit > logits[best]! ? index : best), 0);
}

/**
 * Probabilities of the classes as the manifest's calibration corrects them: logits are divided by
 * the sub-network's temperature. Without one they are the softmax's own.
 */
export function calibrated(manifest: Manifest, skip: string, logits: Float32Array): Float32Array {
  const temperature = manifest.confidence?.temperatures[skip] ?? 1;
  return softmax(temperature === 1 ? logits : logits.map((logit) => logit / temperature));
}

/** How sure an answer of this sub-network is: the largest calibrated probability, 0 to 1. */
export function confidenceOf(manifest: Manifest, skip: string, logits: Float32Array): number {
  const temperature = manifest.confidence?.temperatures[skip] ?? 1;
  let most = -Infinity;
  for (const logit of logits) most = Math.max(most, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp((logit - most) / temperature);
  return 1 / sum;
}
