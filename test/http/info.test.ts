import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Check } from 'typebox/value';
import { ModelInfo } from '../../src/http/schemas.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT, classify, scrape } from './client.ts';

describe('what the service tells of itself', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({ EXECUTION_PROVIDER: 'auto' });
  });
  afterAll(() => server.stop());

  const get = async (path: string) => (await fetch(server.url + path)).json() as Promise<never>;

  it('GET /model: the manifest as exported, all 16 accuracies with it', async () => {
    const info: { manifest: { subNetworks: unknown[] } } = await get('/model');
    expect(Check(ModelInfo, info)).toBe(true);
    const exported = JSON.parse(await readFile('models/cifar10/model.json', 'utf8')) as object;
    expect(info.manifest).toEqual(exported);
    expect(info.manifest.subNetworks).toHaveLength(16);
  });

  it('GET /model: tiers are the Pareto front, cheapest first', async () => {
    const { tiers, latency }: { tiers: { skip: string; accuracy: number }[]; latency: object } =
      await get('/model');
    expect(tiers.length).toBeGreaterThan(1);
    const accuracies = tiers.map(({ accuracy }) => accuracy);
    expect(accuracies).toEqual([...new Set(accuracies)].toSorted((a, b) => a - b));
    expect(Object.keys(latency)).toHaveLength(16);
  });

  it('GET /samples: the photos of the model folder, and nothing else of it', async () => {
    const samples: { name: string; file: string }[] = await get('/samples/index.json');
    expect(samples[0]).toMatchObject({ file: 'cat.jpg', name: expect.any(String) });
    const photo = await fetch(`${server.url}/samples/cat.jpg`);
    expect(Buffer.from(await photo.arrayBuffer()).equals(CAT)).toBe(true);
    for (const path of ['missing.jpg', '..%2Fmodel.json', '..%2Fmodel.onnx', '.hidden.jpg']) {
      const { status } = await fetch(`${server.url}/samples/${path}`);
      expect([path, status]).toEqual([path, 404]);
    }
  });

  it('GET /model: a latency for every sub-network at every warmed batch size', async () => {
    type Table = Record<string, Record<string, number>>;
    const info: { latency: Table; latencyNow: Table } = await get('/model');
    expect(Object.keys(info.latencyNow)).toEqual(Object.keys(info.latency));
    for (const row of [info.latency, info.latencyNow].flatMap((table) => Object.values(table))) {
      expect(Object.keys(row)).toEqual(['1', '2', '4']);
      for (const ms of Object.values(row)) expect(ms).toBeGreaterThan(0);
    }
  });

  it('GET /health/live and /health/ready', async () => {
    expect(await get('/health/live')).toEqual({ status: 'live' });
    expect(await get('/health/ready')).toMatchObject({ status: 'ready' });
  });

  it('says so wherever one looks when CUDA was wanted but is missing', async () => {
    const { provider, fallback }: { provider: string; fallback: string | null } =
      await get('/health/ready');
    const metrics = await scrape(server.url);
    expect(metrics).toContain(
      `depthserve_execution_provider{provider="${provider}",fallback="${fallback !== null}"} 1`,
    );
    // On a machine with CUDA there is nothing to fall back from.
    expect(provider === 'cuda').toBe(fallback === null);
    if (fallback !== null) expect(server.log()).toContain('CUDA did not load');
  });

  it('GET /metrics: requests by tier and outcome, durations, queue, batches', async () => {
    const before = await scrape(server.url);
    const { body } = await classify(server.url, CAT, { 'x-latency-budget-ms': '20000' });
    const { skip } = body.subNetwork;
    const counters = [
      `depthserve_requests_total{tier="${skip}",outcome="met"} `,
      ...['decode', 'queue', 'inference', 'total'].map(
        (stage) => `depthserve_duration_seconds_count{stage="${stage}",tier="${skip}"} `,
      ),
      `depthserve_batch_size_count{tier="${skip}"} `,
    ];
    const counted = (metrics: string) =>
      counters.map((counter) => Number(metrics.split(`\n${counter}`)[1]?.split('\n')[0] ?? 0));
    await expect
      .poll(async () => counted(await scrape(server.url)))
      .toEqual(counted(before).map((count) => count + 1));
    expect(await scrape(server.url)).toContain('depthserve_queue_length 0');
  });

  it('GET /docs: a page, and the OpenAPI document with every route', async () => {
    expect((await fetch(`${server.url}/docs/`)).headers.get('content-type')).toMatch(/html/);
    const document: { openapi: string; paths: object } = await get('/docs/json');
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining([
        '/classify',
        '/feedback',
        '/health/live',
        '/health/ready',
        '/live',
        '/metrics',
        '/model',
        '/v2/models/{model}/infer',
      ]),
    );
  });

  it('logs each answer with its request id', async () => {
    await classify(server.url, CAT, {
      'x-request-id': 'find-me',
      'x-latency-budget-ms': '20000',
    });
    const line = () => /^.*"find-me".*$/m.exec(server.log())?.[0];
    // The log is written after the answer, and reaches us through a pipe.
    await expect.poll(line).toBeDefined();
    expect(JSON.parse(line()!)).toMatchObject({ reqId: 'find-me', status: 200, outcome: 'met' });
  });

  it('GET /model: for each tier a budget, larger for deeper ones', async () => {
    const { tiers }: { tiers: { budgetMs: number }[] } = await get('/model');
    const budgets = tiers.map(({ budgetMs }) => budgetMs);
    expect(budgets[0]).toBeGreaterThan(0);
    expect(budgets).toEqual(budgets.toSorted((a, b) => a - b));
  });

  it('GET /live: what callers pinned is not shown as chosen', async () => {
    type Live = { seconds: { pinned: number; tiers: Record<string, number> }[] };
    const images = async (of: (second: Live['seconds'][number]) => number) => {
      const { seconds }: Live = await get('/live');
      return seconds.reduce((sum, second) => sum + of(second), 0);
    };
    const chosen = () =>
      images(({ tiers }) => Object.values(tiers).reduce((sum, count) => sum + count, 0));
    const pinned = () => images((second) => second.pinned);
    const { manifest }: { manifest: { name: string; input: { height: number; width: number } } } =
      await get('/model');
    const { height, width } = manifest.input;
    await classify(server.url, CAT, { 'x-latency-budget-ms': '20000' });
    // Seconds show when they are over.
    const second = async () => ((await get('/live')) as { now: number }).now;
    const answeredAt = await second();
    await expect.poll(second).toBeGreaterThan(answeredAt);
    const before = await chosen();
    expect(before).toBeGreaterThan(0);
    await fetch(`${server.url}/v2/models/${manifest.name}/infer`, {
      method: 'POST',
      body: JSON.stringify({
        parameters: { skip: 'TTTT', latency_budget_ms: 20_000 },
        inputs: [
          {
            name: 'image',
            shape: [1, height, width, 3],
            datatype: 'UINT8',
            data: Array.from({ length: height * width * 3 }, () => 7),
          },
        ],
      }),
    });
    await expect.poll(pinned).toBe(1);
    expect(await chosen()).toBe(before);
  });
});
