import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CAT, classify } from '../http/client.ts';
import { startServer } from '../server.ts';

const isAlone = availableParallelism() === 1;
if (isAlone) console.warn('skipping the thread that is begun early: with one core there is none');

test.skipIf(isAlone)('an engine thread that ends before it is used is not missed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'depthserve-begun-'));
  const ended = join(folder, 'ended');
  const preload = new URL('./begun-thread-preload.mjs', import.meta.url).pathname;
  const server = await startServer({ ENDED_ONCE: ended }, { nodeOptions: ['--import', preload] });
  try {
    expect(existsSync(ended)).toBe(true);
    expect((await classify(server.url, CAT, { 'x-latency-budget-ms': '10000' })).status).toBe(200);
  } finally {
    await server.stop();
    await rm(folder, { recursive: true });
  }
});
