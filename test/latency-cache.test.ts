import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { LatencyCache } from '../src/engine/latency-cache.ts';

const ON = { sha256: 'abc', provider: 'cpu', workers: 1, threadsEach: 1, sizes: [1, 8] };
const TABLE = { TT: { 1: 2, 8: 9 }, FF: { 1: 4, 8: 18 } };

async function setUp() {
  const folder = join(await mkdtemp(join(tmpdir(), 'latency-')), 'made', 'by', 'itself');
  const warnings: string[] = [];
  const log = pino({}, { write: (line: string) => void warnings.push(line) });
  return { folder, log, warnings, cache: new LatencyCache(folder, ON, log) };
}

describe('the latency cache', () => {
  test('gives back what was measured on the same processor, and nothing at first', async () => {
    const { cache, warnings } = await setUp();
    expect(await cache.read()).toBeNull();
    await cache.write(TABLE);
    expect(await cache.read()).toEqual(TABLE);
    expect(warnings).toEqual([]);
  });

  test('is written by several replicas at once, all of which have the same process id', async () => {
    const { folder, log, warnings } = await setUp();
    const replicas = Array.from({ length: 8 }, () => new LatencyCache(folder, ON, log));
    await Promise.all(replicas.map((replica) => replica.write(TABLE)));
    expect(warnings).toEqual([]);
    expect(await replicas[0]!.read()).toEqual(TABLE);
    expect(await readdir(folder)).toHaveLength(1);
  });

  test('leaves no part of a table that it could not keep', async () => {
    const { cache, folder, warnings } = await setUp();
    await cache.write(TABLE);
    const [name] = await readdir(folder);
    await rm(join(folder, name!));
    await mkdir(join(folder, name!, 'in the way'), { recursive: true });
    await cache.write(TABLE);
    expect(warnings.some((line) => line.includes('cannot be kept'))).toBe(true);
    expect(await readdir(folder)).toEqual([name]);
  });

  test.each([
    { sha256: 'another file' },
    { provider: 'cuda' },
    { workers: 2 },
    { threadsEach: 4 },
    { sizes: [1, 4] },
  ])('has nothing for %o', async (other) => {
    const { cache, folder, log } = await setUp();
    await cache.write(TABLE);
    expect(await new LatencyCache(folder, { ...ON, ...other }, log).read()).toBeNull();
  });

  test.each(['', '{', '[]', 'null', '{"on":{},"table":{}}'])(
    'does without a file of %j',
    async (text) => {
      const { cache, folder } = await setUp();
      await cache.write(TABLE);
      const [name] = await readdir(folder);
      await writeFile(join(folder, name!), text);
      expect(await cache.read()).toBeNull();
    },
  );

  test('does without a row that lacks a batch size', async () => {
    const { cache } = await setUp();
    await cache.write({ TT: { 1: 2 } });
    expect(await cache.read()).toBeNull();
  });

  test('a folder that cannot be made costs a line in the log', async () => {
    const { folder, log, warnings } = await setUp();
    await mkdir(join(folder, '..'), { recursive: true });
    await writeFile(folder, 'a file where the folder should be');
    const cache = new LatencyCache(folder, ON, log);
    expect(await cache.read()).toBeNull();
    await cache.write(TABLE);
    expect(warnings.some((line) => line.includes('cannot be kept'))).toBe(true);
    expect(await readFile(folder, 'utf8')).toContain('a file');
  });

  test.runIf(process.platform === 'linux')('a folder in /proc, too', async () => {
    const { log, warnings } = await setUp();
    await new LatencyCache('/proc/nope/x', ON, log).write(TABLE);
    expect(warnings.some((line) => line.includes('cannot be kept'))).toBe(true);
  });
});
