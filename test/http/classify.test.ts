import sharp from 'sharp';
import { Check } from 'typebox/value';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Answer } from '../../src/http/schemas.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT, classify, classifyForm } from './client.ts';
import type { Problem } from './client.ts';

/** Long enough for any machine: only the tests of the budget itself use another. */
const RELAXED = { 'x-latency-budget-ms': '20000' };

describe('POST /classify', () => {
  let server: Server;
  let tiers: { skip: string; accuracy: number; macs: number }[];

  beforeAll(async () => {
    server = await startServer();
    ({ tiers } = (await (await fetch(`${server.url}/model`)).json()) as { tiers: typeof tiers });
  });
  afterAll(() => server.stop());

  it('recognises the cat in a real photo', async () => {
    const { status, body } = await classify(server.url, CAT, RELAXED);
    expect(status).toBe(200);
    expect(body.predictions[0]!.label).toBe('cat');
  });

  it('answers in the documented shape, with the time it took', async () => {
    const { body, headers } = await classify(server.url, CAT, RELAXED);
    expect(Check(Answer, body)).toBe(true);
    expect(body.model.name).toBe('cifar10-small-resnet');
    expect(body.budget.requestedMs).toBe(20_000);
    const { decodeMs, queueMs, inferenceMs, totalMs } = body.timing;
    expect(decodeMs + queueMs + inferenceMs).toBeLessThanOrEqual(totalMs + 0.01);
    expect(body.budget.actualMs).toBe(totalMs);
    expect(headers.get('server-timing')).toMatch(
      /^decode;dur=[\d.]+, queue;dur=[\d.]+, infer;dur=[\d.]+, total;dur=[\d.]+$/,
    );
    expect(headers.get('x-sub-network')).toBe(body.subNetwork.skip);
  });

  it('orders predictions by probability; together they are certain', async () => {
    const { body } = await classify(server.url, CAT, RELAXED, '?topK=10');
    const probabilities = body.predictions.map(({ probability }) => probability);
    expect(probabilities).toHaveLength(10);
    expect(probabilities).toEqual(probabilities.toSorted((a, b) => b - a));
    expect(probabilities.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
  });

  it('gives five predictions unless topK asks for another number', async () => {
    expect((await classify(server.url, CAT, RELAXED)).body.predictions).toHaveLength(5);
    expect((await classify(server.url, CAT, RELAXED, '?topK=1')).body.predictions).toHaveLength(1);
  });

  it('takes PNG and WebP, whatever the content type says of the bytes', async () => {
    const png = await sharp(CAT).png().toBuffer();
    const webp = await sharp(CAT).webp().toBuffer();
    for (const [image, type] of [
      [png, 'image/png'],
      [webp, 'image/webp'],
      [png, 'application/octet-stream'],
      [webp, 'image/jpeg'],
    ] as const) {
      const { body } = await classify(server.url, image, { ...RELAXED, 'content-type': type });
      expect(body.predictions[0]!.label).toBe('cat');
    }
  });

  it('answers one multipart file like a plain body', async () => {
    const { body } = await classifyForm<Answer>(server.url, [CAT], RELAXED);
    expect(Check(Answer, body)).toBe(true);
  });

  it('answers several files in their order', async () => {
    const grey = await sharp({
      create: { width: 64, height: 64, channels: 3, background: '#808080' },
    })
      .png()
      .toBuffer();
    const { body } = await classifyForm(server.url, [grey, CAT, grey], RELAXED);
    expect(body.results).toHaveLength(3);
    const [first, second, third] = body.results.map(({ predictions }) => predictions[0]!.label);
    expect(second).toBe('cat');
    expect(first).toBe(third);
    expect(first).not.toBe('cat');
    expect(new Set(body.results.map(({ id }) => id)).size).toBe(3);
  });

  it('keeps the request id that it was given, and makes one otherwise', async () => {
    const given = await classify(server.url, CAT, { ...RELAXED, 'x-request-id': 'abc-1.2_3' });
    expect(given.headers.get('x-request-id')).toBe('abc-1.2_3');
    expect(given.body.id).toBe('abc-1.2_3');
    const made = await classify(server.url, CAT, { ...RELAXED, 'x-request-id': 'not one!' });
    expect(made.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('answers a generous budget with one of the two most accurate sub-networks', async () => {
    // The deepest may gain next to nothing over the tier below; then recent load decides.
    const { body } = await classify(server.url, CAT, RELAXED);
    expect(body.subNetwork.expectedAccuracy).toBeGreaterThanOrEqual(tiers.at(-2)!.accuracy);
    expect(body.budget.met).toBe(true);
  });

  it('answers a tight budget with a shallower sub-network, or refuses it', async () => {
    // How fast this machine is just now is unknown, so the budget is swept: from hopeless, over
    // those that only shallow sub-networks meet, to comfortable.
    const images = Array.from({ length: 4 }, () => CAT);
    const seen = new Map<string, number>();
    const statuses = new Set<number>();
    for (let sweep = 0; sweep < 20 && seen.size < 2; sweep++) {
      for (let budget = 0.1; budget < 400; budget *= 1.1) {
        const reply = await classifyForm(server.url, images, {
          'x-latency-budget-ms': budget.toFixed(2),
        });
        statuses.add(reply.status);
        if (reply.status !== 200) continue;
        for (const { subNetwork } of reply.body.results) {
          seen.set(subNetwork.skip, subNetwork.expectedAccuracy);
        }
      }
    }
    expect([...statuses].every((status) => [200, 503, 504].includes(status))).toBe(true);
    expect(statuses.has(503)).toBe(true);
    expect(seen.size).toBeGreaterThan(1);
    expect([...seen.keys()].every((skip) => tiers.some((tier) => tier.skip === skip))).toBe(true);
  }, 120_000);

  it('says of every answer whether its budget was met', async () => {
    for (const budget of ['5', '8', '13', '21', '34', '20000']) {
      const { status, body } = await classify(server.url, CAT, { 'x-latency-budget-ms': budget });
      if (budget === '20000') expect(status).toBe(200);
      if (status === 200) expect(body.budget.met).toBe(body.budget.actualMs <= Number(budget));
    }
  });

  it('never answers below the accuracy floor', async () => {
    const floor = tiers.at(-1)!.accuracy;
    const headers = { 'x-min-accuracy': String(floor) };
    for (const budget of ['3', '6', '12', '24', '48', '20000']) {
      const { status, body } = await classify(server.url, CAT, {
        ...headers,
        'x-latency-budget-ms': budget,
      });
      if (budget === '20000') expect(status).toBe(200);
      if (status === 200) expect(body.subNetwork.expectedAccuracy).toBeGreaterThanOrEqual(floor);
    }
  });

  it('answers many clients at the same time, each with its own picture', async () => {
    const dark = await sharp(CAT).linear(0.02).jpeg().toBuffer();
    const replies = await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        classify(server.url, index % 2 ? dark : CAT, {
          ...RELAXED,
          'x-request-id': `client-${index}`,
        }),
      ),
    );
    replies.forEach(({ status, body }, index) => {
      expect(status).toBe(200);
      expect(body.id).toBe(`client-${index}`);
      expect(body.predictions[0]!.label === 'cat').toBe(index % 2 === 0);
    });
  });

  it('in a burst of all kinds of budgets, answers or says what would have been enough', async () => {
    // Of which one is too small for any machine.
    const each = [0.01, 20, 40, 80, 160, 320, 640];
    const budgets = Array.from({ length: 280 }, (_, index) => each[index % each.length]!);
    const replies = await Promise.all(
      budgets.map((budget) =>
        classify<Problem>(server.url, CAT, { 'x-latency-budget-ms': String(budget) }),
      ),
    );
    const refused = replies.flatMap((reply, index) =>
      reply.status === 503 ? [[reply.body, budgets[index]!] as const] : [],
    );
    expect(replies.every(({ status }) => [200, 503, 504].includes(status))).toBe(true);
    expect(refused.length).toBeGreaterThanOrEqual(40);
    for (const [{ smallestBudgetMs }, budget] of refused) {
      expect(smallestBudgetMs).toBeGreaterThan(budget);
    }
    // Nothing of it stays behind.
    expect((await classify(server.url, CAT, RELAXED)).status).toBe(200);
  });
});
