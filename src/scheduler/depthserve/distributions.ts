/** Of a normal distribution, the 95th percentile lies this many standard deviations up. */
export const P95 = 1.645;

/** P(X > z) of a standard normal, give or take 1.4e-4 (Bowling et al. 2009). */
export function normalTail(z: number): number {
  return 1 / (1 + Math.exp(z * (1.5976 + 0.07056 * z * z)));
}

/**
 * The standard normal deviate that is exceeded as rarely as `ratio` times the mean by a gamma
 * distribution of this shape (Wilson and Hilferty). Counts of bursty arrivals are far more skewed
 * than normal ones.
 */
export function gammaScore(ratio: number, shape: number): number {
  if (ratio <= 0) return -Infinity;
  const ninth = 1 / (9 * shape);
  return (Math.cbrt(ratio) - 1 + ninth) / Math.sqrt(ninth);
}
