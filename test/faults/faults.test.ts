import { mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CAT, classify, scrape } from '../http/client.ts';
import type { Problem } from '../http/client.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';

/** In the order of FAULTS in preload.mjs. */
const FAULTS = ['crash', 'exit', 'hang', 'slow', 'stuck', 'error', 'nan', 'beyond'] as const;
type Fault = (typeof FAULTS)[number];

/** An image that makes the session which runs it fail; `sticky`: with every batch from then on. */
function colourOf(fault: Fault, sticky = false): Promise<Buffer> {
  const background = { r: 250, g: Number(sticky), b: FAULTS.indexOf(fault) };
  return sharp({ create: { width: 32, height: 32, channels: 3, background } })
    .png()
    .toBuffer();
}

const PATIENT = { 'x-latency-budget-ms': '60000' };
const PRELOAD = ['--import', './test/faults/preload.mjs'];

let server: Server;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'depthserve-'));
  return () => rm(folder, { recursive: true });
});
afterEach(async () => {
  await server?.stop();
});

const start = async (env: NodeJS.ProcessEnv = {}) => {
  await rm(join(folder, 'broken'), { force: true });
  server = await startServer(
    {
      MAX_BATCH: '2',
      ENGINE_WORKERS: '1',
      ENGINE_HANG_MS: '500',
      FAULTS_FILE: join(folder, 'broken'),
      ...env,
    },
    { nodeOptions: PRELOAD },
  );
};

async function ask(image: Uint8Array) {
  const { status, body } = await classify<Problem>(server.url, image, PATIENT);
  return [status, body.code];
}

async function readiness(): Promise<[number, string]> {
  const answer = await fetch(`${server.url}/health/ready`);
  return [answer.status, ((await answer.json()) as { status: string }).status];
}

async function until(probe: () => Promise<boolean>): Promise<void> {
  while (!(await probe())) await sleep(20);
}

const isReady = async () => (await readiness())[0] === 200;

describe('a worker that is lost in the middle of a batch', () => {
  it.each(['crash', 'exit', 'hang', 'stuck'] as const)(
    '(%s): its requests get 503, it is replaced, and until then the service is not ready',
    async (fault) => {
      await start();
      expect(await ask(await colourOf(fault))).toEqual([503, 'engine-failed']);
      expect(await readiness()).toEqual([503, 'recovering']);
      expect(await scrape(server.url)).toMatch(/^depthserve_ready 0$/m);
      expect(await scrape(server.url)).toMatch(/^depthserve_engines 0$/m);
      const refused = await classify<Problem>(server.url, CAT, PATIENT);
      expect([refused.status, refused.body.code]).toEqual([503, 'engine-failed']);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);

      await until(isReady);
      expect(await ask(CAT)).toEqual([200, undefined]);
      const metrics = await scrape(server.url);
      const kind = fault === 'crash' || fault === 'exit' ? 'crash' : 'hang';
      expect(metrics).toMatch(
        new RegExp(`^depthserve_engine_faults_total{fault="${kind}"} 1$`, 'm'),
      );
      expect(metrics).toMatch(/^depthserve_engine_recoveries_total 1$/m);
      expect(metrics).toMatch(/^depthserve_ready 1$/m);
      expect(server.log()).toContain('"an engine worker failed"');
      expect(server.log()).toContain('"the engine worker runs again"');
      // Whose native code never returns cannot be ended: the process ends itself.
      expect(await server.stop()).toBe(kind === 'hang' ? 'SIGKILL' : 0);
      expect(server.log()).toContain('"drained"');
    },
  );

  it('leaves the others at work, and every request gets one answer', async () => {
    // On a busy machine the other one may take longer than half a second.
    await start({ ENGINE_WORKERS: '2', ENGINE_HANG_MS: '30000' });
    const crash = await colourOf('crash');
    const images = Array.from({ length: 120 }, (_, index) => (index === 40 ? crash : CAT));
    const replies = await Promise.all(
      images.map((image) => classify<Problem>(server.url, image, PATIENT)),
    );
    const count = (status: number) => replies.filter((reply) => reply.status === status).length;
    expect(replies[40]!.status).toBe(503);
    // Whoever shared its batch of at most two; the other worker answered the rest.
    expect(count(503)).toBeLessThanOrEqual(2);
    expect(count(200) + count(503)).toBe(images.length);

    const metrics = await scrape(server.url);
    const counted = [...metrics.matchAll(/^depthserve_requests_total{.*} (\d+)$/gm)];
    expect(counted.reduce((sum, [, value]) => sum + Number(value), 0)).toBe(images.length);
    await until(async () => /^depthserve_engines 2$/m.test(await scrape(server.url)));
  });

  it('that comes back after it was given up is not answered twice, and ends', async () => {
    await start();
    expect(await ask(await colourOf('slow'))).toEqual([503, 'engine-failed']);
    await until(isReady);
    await until(async () => existsSync(join(folder, 'broken.ended')));
    expect(await ask(CAT)).toEqual([200, undefined]);
    const metrics = await scrape(server.url);
    expect(metrics).toMatch(/^depthserve_requests_total{[^}]*outcome="engine-failed"} 1$/m);
    // No thread hangs any more, which the process would have to kill.
    expect(await server.stop()).toBe(0);
  });
});

describe('a worker that cannot be replaced', () => {
  it('is tried again a few times, ever later; then the process exits with code 1', async () => {
    await start();
    expect(await ask(await colourOf('beyond'))).toEqual([503, 'engine-failed']);
    expect(await once(server.process, 'exit')).toEqual([1, null]);
    expect(server.log().match(/"an engine worker failed"/g)!.length).toBeGreaterThan(3);
    expect(server.log()).toContain('"the engine failed"');
    expect(server.log()).toContain('"drained"');
  });
});

describe('a run that fails on a living worker', () => {
  it.each(['error', 'nan'] as const)(
    '(%s): costs its batch a 503 and no more, when the next inference succeeds',
    async (fault) => {
      await start();
      expect(await ask(await colourOf(fault))).toEqual([503, 'engine-failed']);
      await until(isReady);
      expect(await ask(CAT)).toEqual([200, undefined]);
      const metrics = await scrape(server.url);
      expect(metrics).toMatch(/^depthserve_engine_faults_total{fault="error"} 1$/m);
      expect(await server.stop()).toBe(0);
    },
  );

  it.each(['error', 'nan'] as const)(
    '(%s, and again with an image known to be good): latched, not ready, drained, exit code 1',
    async (fault) => {
      await start();
      const bad = await colourOf(fault, true);
      const burst = [bad, ...Array.from({ length: 30 }, () => CAT)].map((image) => ask(image));
      const exited = once(server.process, 'exit');
      const answers = await Promise.allSettled(burst);
      // All are answered, by the engine before it failed or by its failure; connections that
      // were not accepted yet are refused whole.
      expect(answers[0]).toMatchObject({ value: [503, 'engine-failed'] });
      const answered = answers.flatMap((one) => (one.status === 'fulfilled' ? [one.value[0]] : []));
      expect(answered.filter((status) => status !== 200 && status !== 503)).toEqual([]);
      expect(await exited).toEqual([1, null]);
      expect(server.log()).toContain('"the engine failed"');
      expect(server.log()).toContain('"drained"');
    },
  );
});
