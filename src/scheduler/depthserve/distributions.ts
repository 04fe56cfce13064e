/** Of a normal distribution, the 95th percentile lies this many standard deviations up. */
export const P95 = 1.645;

/** P(X > z) of a standard normal (Abramowitz and Stegun 26.2.17, error below 1e-7). */
export function normalTail(z: number): number {
  if (z > 8) return 0;
  if (z < -8) return 1;
  const t = 1 / (1 + 0.2316419 * Math.abs(z));
  const series =
    t *
    (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  const tail = 0.3989422804 * Math.exp((-z * z) / 2) * series;
  return z > 0 ? tail : 1 - tail;
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
