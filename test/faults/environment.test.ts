import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { CAT, classify, scrape } from '../http/client.ts';
import { freePorts, startServer } from '../server.ts';
import { lacks } from '../tools.ts';

it.skipIf(process.platform !== 'linux')(
  'a full disk under the log costs log lines, which are counted, and nothing else',
  async () => {
    const [port] = await freePorts(1);
    const url = `http://127.0.0.1:${port}`;
    const server = spawn(process.execPath, ['dist/main.js'], {
      env: {
        ...process.env,
        HOST: '127.0.0.1',
        PORT: String(port),
        EXECUTION_PROVIDER: 'cpu',
        MAX_BATCH: '1',
      },
      stdio: ['ignore', openSync('/dev/full', 'w'), 'ignore'],
    });
    const exited = once(server, 'exit');
    try {
      while (!(await isReady(url))) await sleep(50);
      for (let i = 0; i < 20; i++) {
        expect((await classify(url, CAT, { 'x-latency-budget-ms': '60000' })).status).toBe(200);
      }
      const lost = /^depthserve_log_lines_lost_total (\d+)$/m.exec(await scrape(url))!;
      expect(Number(lost[1])).toBeGreaterThanOrEqual(20);
    } finally {
      server.kill('SIGTERM');
    }
    expect(await exited).toEqual([0, null]);
  },
);

it('budgets and timings do not see the time of day jump', async () => {
  const server = await startServer({}, { nodeOptions: ['--import', './test/faults/clock.mjs'] });
  for (let i = 0; i < 20; i++) {
    const { status, body } = await classify(server.url, CAT, { 'x-latency-budget-ms': '60000' });
    expect([status, body.budget.met]).toEqual([200, true]);
    for (const ms of Object.values(body.timing)) {
      expect(ms).toBeGreaterThanOrEqual(0);
      expect(ms).toBeLessThan(60_000);
    }
  }
  expect(await server.stop()).toBe(0);
});

it('the time of day is read only to tell it, and where gRPC states a deadline by it', () => {
  const readers = readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .filter((path) => /Date\.now|new Date/.test(readFileSync(`src/${path}`, 'utf8')));
  expect(readers).toEqual(['grpc/heads.ts', 'telemetry/triton-statistics.ts']);
});

// Node 20 makes the pool before it runs anything, and Linux tells the threads' names since Node 22.
it.skipIf(process.platform !== 'linux' || lacks('node24'))(
  'images are decoded on as many threads as there are cores, unless it is said on how many',
  async () => {
    const cores = availableParallelism();
    for (const [env, least, most] of [
      [{}, Math.max(cores, 5), Infinity],
      [{ UV_THREADPOOL_SIZE: '3' }, 3, 3],
    ] as const) {
      const server = await startServer(env, { node: 'node24' });
      const tasks = `/proc/${server.process.pid}/task`;
      const names = readdirSync(tasks).map((task) =>
        readFileSync(`${tasks}/${task}/comm`, 'latin1'),
      );
      const pool = names.filter((name) => name === 'libuv-worker\n').length;
      expect(await server.stop()).toBe(0);
      expect(pool).toBeGreaterThanOrEqual(least);
      expect(pool).toBeLessThanOrEqual(most);
    }
  },
);

const isReady = (url: string) =>
  fetch(`${url}/health/ready`).then(
    (answer) => answer.ok,
    () => false,
  );
