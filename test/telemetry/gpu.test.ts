import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { watchGpus } from '../../src/telemetry/gpu.ts';
import type { GpuSample } from '../../src/telemetry/gpu.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nvidia-smi-'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

/** Puts a program called nvidia-smi first on the path. */
async function standIn(script: string): Promise<void> {
  const file = join(folder, 'nvidia-smi');
  await writeFile(file, `#!/bin/sh\n${script}\n`);
  await chmod(file, 0o755);
  vi.stubEnv('PATH', `${folder}${delimiter}${process.env['PATH']}`);
}

describe('watching the GPUs', () => {
  it('reads the utilisation and memory of every GPU', async () => {
    await standIn('echo "0, 37, 1024, 81559"; echo "1, 0, 3, 81559"; exec sleep 60');
    const seen: (readonly GpuSample[])[] = [];
    const stop = watchGpus(10, (samples) => seen.push(samples));
    await expect.poll(() => seen.at(-1)?.length).toBe(2);
    stop();
    expect(seen.at(-1)![0]).toEqual({
      gpu: '0',
      utilisation: 0.37,
      usedBytes: 1024 * 2 ** 20,
      totalBytes: 81_559 * 2 ** 20,
    });
  });

  it('skips what the driver does not tell', async () => {
    await standIn('echo "0, [N/A], 1024, 81559"; echo "1, 5, 3, 81559"; exec sleep 60');
    const seen: (readonly GpuSample[])[] = [];
    const stop = watchGpus(10, (samples) => seen.push(samples));
    await expect.poll(() => seen.at(-1)?.map(({ gpu }) => gpu)).toEqual(['1']);
    stop();
  });

  it('reports no GPU once nvidia-smi ends', async () => {
    await standIn('echo "0, 37, 1024, 81559"; exit 9');
    const seen: (readonly GpuSample[])[] = [];
    watchGpus(10, (samples) => seen.push(samples));
    await expect.poll(() => seen.map(({ length }) => length)).toEqual([1, 0]);
  });

  it('reports no GPU while nvidia-smi hangs, and what it says when it goes on', async () => {
    const goOn = join(folder, 'go-on');
    const line = 'echo "0, 37, 1024, 81559"';
    await standIn(
      `${line}; while [ ! -e ${goOn} ]; do sleep 0.05; done; while ${line}; do sleep 0.05; done`,
    );
    const seen: (readonly GpuSample[])[] = [];
    const latest = () => seen.at(-1)?.length;
    const stop = watchGpus(0.1, (samples) => seen.push(samples));
    await expect.poll(() => seen.some(({ length }) => length === 1)).toBe(true);
    await expect.poll(latest).toBe(0);
    await writeFile(goOn, '');
    await expect.poll(latest).toBe(1);
    stop();
  });

  it('reports no GPU where there is no nvidia-smi', async () => {
    vi.stubEnv('PATH', folder);
    const seen: (readonly GpuSample[])[] = [];
    watchGpus(10, (samples) => seen.push(samples));
    await expect.poll(() => seen.at(-1)).toEqual([]);
  });
});
