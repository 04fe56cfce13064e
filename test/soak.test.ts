import { expect, it } from 'vitest';
import { freePorts } from './server.ts';
import { soak } from '../bench/endurance/soak.ts';

/** The short version of `npm run bench:soak`; slow machines can carry this load, too. */
const MINUTES = 1;
const RATE = 50;

it.skipIf(process.platform !== 'linux')(
  `${MINUTES} minute of load leave memory, files and threads as they were`,
  { timeout: 600_000 },
  async () => {
    const [port] = await freePorts(1);
    const result = await soak(MINUTES, RATE, port);
    expect(result.unanswered).toBe(0);
    expect(result.answered).toBeGreaterThan(0);
    // Pools start threads when they are first needed, and none for each request.
    expect(result.threads.last).toBeLessThanOrEqual(result.threads.first + 2);
    expect(result.openFiles.last).toBeLessThanOrEqual(result.openFiles.first + 2);
    // An image of 128 x 128 pixels kept of each request would be 49 MB from one third to the next.
    expect(result.residentMb.last - result.residentMb.first).toBeLessThan(40);
    console.log(result);
  },
);
