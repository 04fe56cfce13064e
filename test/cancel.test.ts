import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startServer } from './server.ts';
import type { Server } from './server.ts';
import { scrape } from './http/client.ts';

describe('a client that goes away', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({ MAX_BATCH: '1', MAX_IMAGES_PER_REQUEST: '3000' });
  });
  afterAll(async () => {
    await server?.stop();
  });

  async function metric(line: string): Promise<number> {
    const text = await scrape(server.url);
    return Number(
      text
        .split('\n')
        .find((each) => each.startsWith(`${line} `))
        ?.split(' ')[1] ?? 0,
    );
  }

  test('takes what has not begun out of the queue, and is counted', async () => {
    const images = 3000;
    const info = (await (await fetch(`${server.url}/model`)).json()) as {
      manifest: { name: string };
    };
    const head = Buffer.from(
      JSON.stringify({
        parameters: { skip: 'FFFF', latency_budget_ms: 3_600_000 },
        inputs: [
          {
            name: 'image',
            shape: [images, 32, 32, 3],
            datatype: 'UINT8',
            parameters: { binary_data_size: images * 32 * 32 * 3 },
          },
        ],
      }),
    );
    const client = new AbortController();
    const request = fetch(`${server.url}/v2/models/${info.manifest.name}/infer`, {
      method: 'POST',
      body: Buffer.concat([head, Buffer.alloc(images * 32 * 32 * 3)]),
      headers: { 'inference-header-content-length': String(head.length) },
      signal: client.signal,
    });
    request.catch(() => {});
    while ((await metric('depthserve_queue_length')) === 0) await sleep(5);
    client.abort();

    const cancelled = 'depthserve_requests_total{tier="none",outcome="cancelled"}';
    while ((await metric(cancelled)) === 0) await sleep(20);
    expect(await metric('depthserve_queue_length')).toBe(0);
    expect(await metric('depthserve_batch_size_count{tier="FFFF"}')).toBeLessThan(images);
  });

  test('does not disturb those who stay', async () => {
    const answer = await fetch(`${server.url}/classify`, {
      method: 'POST',
      body: await (await fetch(`${server.url}/samples/cat.jpg`)).blob(),
      headers: { 'content-type': 'image/jpeg', 'x-latency-budget-ms': '60000' },
    });
    expect(answer.status).toBe(200);
  });
});
