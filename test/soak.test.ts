import { expect, it } from 'vitest';
import { soak } from '../bench/endurance/soak.ts';

/** The short version of `npm run bench:soak`; slow machines can carry this load, too. */
const MINUTES = 2;
const RATE = 30;

it.skipIf(process.platform !== 'linux')(
  `${MINUTES} minutes of load leave memory, files and threads as they were`,
  { timeout: 600_000 },
  async () => {
    const result = await soak(MINUTES, RATE);
    expect(result.unanswered).toBe(0);
    expect(result.answered).toBeGreaterThan(0);
    expect(result.threads.last).toBe(result.threads.first);
    expect(result.openFiles.last).toBeLessThanOrEqual(result.openFiles.first + 20);
    // 10 KB lost with each request would be 24 MB in the last two thirds.
    expect(result.residentMb.last - result.residentMb.first).toBeLessThan(24);
  },
);
