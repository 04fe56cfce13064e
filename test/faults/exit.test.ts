import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test, vi } from 'vitest';

/*
 * Terminated while it loads its code or opens its session, an engine thread aborts the process, now
 * and then: so what is asked is whether all have ended by themselves.
 */

const preload = new URL('./slow-thread-preload.mjs', import.meta.url).pathname;

/** A server whose engine threads take a second more to load. */
function slowServer(env: NodeJS.ProcessEnv) {
  const settings = { HOST: '127.0.0.1', PORT: '0', EXECUTION_PROVIDER: 'cpu', SLOW_MS: '1000' };
  const child = spawn(process.execPath, ['--import', preload, 'dist/main.js'], {
    env: { ...process.env, ...settings, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const collect = (chunk: Buffer) => (output += chunk.toString());
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  const ended = once(child, 'close');
  const seen = (text: string) => vi.waitFor(() => expect(output).toContain(text), 20_000);
  const times = (text: string) => output.split(text).length - 1;
  return { child, ended, seen, times };
}

const BEGINS = 'an engine thread begins';
const ENDS = 'an engine thread ends by itself';

describe('an exit while engine threads load waits for them', () => {
  test('a second signal', async () => {
    const { child, ended, seen, times } = slowServer({ ENGINE_WORKERS: '2' });
    await seen('Server listening');
    await vi.waitFor(() => expect(times(BEGINS)).toBe(2), 20_000);
    child.kill('SIGINT');
    await seen('"draining"');
    child.kill('SIGINT');
    expect(await ended).toEqual([1, null]);
    expect(times('second SIGINT, exiting')).toBe(1);
    expect(times(ENDS)).toBe(2);
  });

  test('the end of the time for a drain', async () => {
    const { child, ended, seen, times } = slowServer({ DRAIN_TIMEOUT_MS: '100' });
    await seen('Server listening');
    await seen(BEGINS);
    child.kill('SIGTERM');
    expect(await ended).toEqual([1, null]);
    expect(times('killed by timeout')).toBe(1);
    expect(times(ENDS)).toBe(times(BEGINS));
  });

  test('one that does not end in time is killed with the process', async () => {
    const { child, ended, seen, times } = slowServer({ DRAIN_TIMEOUT_MS: '100', SLOW_MS: '60000' });
    await seen('Server listening');
    await seen(BEGINS);
    child.kill('SIGTERM');
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(times('engine threads hang: killing the process')).toBe(1);
  });
});

test('a signal after a start that failed: its exit code stays', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const PORT = String((taken.address() as AddressInfo).port);
  const { child, ended, seen, times } = slowServer({ PORT });
  await seen('is in use');
  child.kill('SIGTERM');
  expect(await ended).toEqual([1, null]);
  expect(times(ENDS)).toBe(times(BEGINS));
  taken.close();
});

describe('a signal while the model is read', () => {
  const folders: string[] = [];
  afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))));

  test.skipIf(process.platform === 'win32')('nothing is started any more', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'depthserve-exit-'));
    folders.push(folder);
    await cp('models/cifar10', folder, { recursive: true });
    const manifest = join(folder, 'model.json');
    const text = await readFile(manifest);
    await rm(manifest);
    // Opened for writing when the server has opened it for reading.
    await promisify(execFile)('mkfifo', [manifest]);
    const { child, ended, seen, times } = slowServer({ MODEL_DIR: folder, SLOW_MS: '2000' });
    const pipe = await open(manifest, 'w');
    child.kill('SIGTERM');
    await seen('"draining"');
    await pipe.writeFile(text);
    await pipe.close();
    expect(await ended).toEqual([0, null]);
    expect(times('Server listening')).toBe(0);
    // That which was begun before the settings were read.
    expect(times(BEGINS)).toBe(availableParallelism() > 1 ? 1 : 0);
    expect(times(ENDS)).toBe(times(BEGINS));
  });
});
