import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startServer } from './server.ts';

it("keeps onnxruntime's telemetry off: no identifier and no cache at home", async () => {
  const home = await mkdtemp(join(tmpdir(), 'home-'));
  const server = await startServer({ HOME: home, XDG_CACHE_HOME: '', MAX_BATCH: '1' });
  await server.stop();
  expect(await readdir(home)).toEqual([]);
  await rm(home, { recursive: true });
});
