import { readFileSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import pino from 'pino';
import { expect, test, vi } from 'vitest';

/** What was built: engine threads are of it. Types are those of the sources, which are there before. */
const built = (file: string): Promise<unknown> =>
  import(new URL(file, new URL('../dist/', import.meta.url)).href);
const { Server } = (await built('cli/server.js')) as typeof import('../src/cli/server.ts');
const { readConfig } = (await built('config.js')) as typeof import('../src/config.ts');
const { openModel } = (await built(
  'model/manifest.js',
)) as typeof import('../src/model/manifest.ts');
const { startDeployment } = (await built(
  'start-deployment.js',
)) as typeof import('../src/start-deployment.ts');

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const MODEL_DIR = 'models/cifar10';
const settings = { MODEL_DIR, HOST: '127.0.0.1', EXECUTION_PROVIDER: 'cpu', MAX_BATCH: '1' };

async function server(env: NodeJS.ProcessEnv = {}) {
  return new Server({
    config: readConfig({ ...settings, PORT: '0', ...env }),
    model: await openModel(MODEL_DIR),
    version,
    log: pino({ level: 'silent' }),
    text: null,
    onFailed: () => {},
    onProgress: () => {},
  });
}

/** Threads of this process that have begun since, and have not ended. */
function threads() {
  const running = new Set<Worker>();
  let begun = 0;
  process.on('worker', (thread) => {
    begun += 1;
    running.add(thread);
    thread.once('exit', () => running.delete(thread));
  });
  return { running, begun: () => begun };
}

test.each(['1', '2'])(
  'closed while it starts, it does not listen afterwards, FRONTS=%s',
  async (FRONTS) => {
    const { running } = threads();
    const it = await server({ FRONTS });
    const port = it.start();
    await it.close();
    // It has listened, or been told that it may not.
    const url = await port.then((number) => `http://127.0.0.1:${number}/health/live`);
    await expect(fetch(url)).rejects.toThrow('fetch failed');
    await vi.waitFor(() => expect(running.size).toBe(0));
  },
);

test('given up when it is warm, it ends its threads', async () => {
  const { running } = threads();
  const it = await server();
  await it.start();
  expect(running.size).toBeGreaterThan(0);
  await it.giveUp();
  await vi.waitFor(() => expect(running.size).toBe(0));
  await it.close();
});

test('a deployment that is not wanted any more starts no thread', async () => {
  const { begun } = threads();
  const it = await server();
  const model = await openModel(MODEL_DIR);
  const config = readConfig(settings);
  const { metrics } = it.service;
  const signal = AbortSignal.abort(new Error('stopped'));
  const log = pino({ level: 'silent' });
  const options = { model, config, metrics, log, onFailed: () => {}, signal, warmUpPause: 0 };
  await expect(startDeployment(options)).rejects.toThrow('stopped');
  expect(begun()).toBe(0);
});
