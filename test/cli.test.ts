import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

const CAT = 'models/cifar10/samples/cat.jpg';

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** `depthserve <args>` as a user runs it. */
function depthserve(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const settings = { ...process.env, EXECUTION_PROVIDER: 'cpu', ...env };
    const child = execFile(
      process.execPath,
      ['dist/cli/main.js', ...args],
      { env: settings },
      (_error, out, err) => resolve({ code: child.exitCode ?? -1, out, err }),
    );
  });
}

describe('help and wrong usage', () => {
  test('--help lists the commands', async () => {
    const { code, out } = await depthserve(['--help']);
    expect(code).toBe(0);
    for (const name of ['serve', 'classify', 'profile']) expect(out).toContain(name);
  });

  test.each(['classify', 'profile', 'serve'])('%s --help: 0', async (name) => {
    const { code, out } = await depthserve([name, '--help']);
    expect([code, out]).toEqual([0, expect.stringContaining('Usage')]);
  });

  test.each([
    [[]],
    [['nonsense']],
    [['classify']],
    [['classify', CAT, '--budget', 'soon']],
    [['classify', CAT, '--no-such-option']],
    [['classify', 'no/such/photo.jpg']],
  ])('%j: 2', async (args) => {
    expect((await depthserve(args)).code).toBe(2);
  });
});

describe('classify', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(async () => {
    await server?.stop();
  });

  test('by a service: words for people', async () => {
    const args = ['classify', CAT, '--budget', '60000', '--url', server.url];
    const { code, out } = await depthserve(args);
    expect([code, out]).toEqual([0, expect.stringMatching(/% {2}\w+[^]*within the budget/)]);
  });

  test('by a service: one line of JSON for each photo', async () => {
    const { code, out } = await depthserve(
      [
        'classify',
        CAT,
        'test/fixtures/pillow/64x64-444.jpg',
        '--budget',
        '60000',
        '--json',
        '--top-k',
        '2',
      ],
      { DEPTHSERVE_URL: server.url },
    );
    expect(code).toBe(0);
    const answers = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { photo: string; predictions: unknown[] });
    expect(answers.map(({ photo }) => photo)).toEqual([CAT, 'test/fixtures/pillow/64x64-444.jpg']);
    expect(answers[0]!.predictions).toHaveLength(2);
  });

  test('no answer within the budget: 3, and what would have been enough', async () => {
    const args = ['classify', CAT, '--budget', '0.01', '--url', server.url];
    const { code, err } = await depthserve(args);
    expect([code, err]).toEqual([3, expect.stringMatching(/^depthserve: .+/)]);
  });

  test('no photo at all, no service there: 1', async () => {
    expect((await depthserve(['classify', 'package.json', '--url', server.url])).code).toBe(1);
    expect((await depthserve(['classify', CAT, '--url', 'http://127.0.0.1:9'])).code).toBe(1);
  });

  test('by a model of its own', async () => {
    const { code, out } = await depthserve(['classify', CAT, '--budget', '60000', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ photo: CAT, budget: { met: true } });
  });
});

describe('profile', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'depthserve-profile-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true });
  });

  test('prints the latency table as JSON and draws it', async () => {
    const plot = join(folder, 'latency.svg');
    const { code, out } = await depthserve(['profile', '--plot', plot], { MAX_BATCH: '2' });
    expect(code).toBe(0);
    const { latency, front } = JSON.parse(out) as {
      latency: Record<string, Record<string, number>>;
      front: { skip: string }[];
    };
    expect(Object.keys(latency)).toHaveLength(16);
    expect(Object.keys(latency['FFFF']!)).toEqual(['1', '2']);
    const picture = await readFile(plot, 'utf8');
    for (const { skip } of front) expect(picture).toContain(`>${skip}</text>`);
  });
});
