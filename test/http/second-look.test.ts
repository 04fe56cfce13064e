import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT, classify, scrape } from './client.ts';
import type { Problem } from './client.ts';

describe('how sure an answer is', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({});
  });
  afterAll(() => server.stop());

  const patient = { 'x-latency-budget-ms': '20000' };

  it('comes with it, and with every sub-network that looked', async () => {
    const { body } = await classify(server.url, CAT, patient);
    expect(body.confidence).toBeCloseTo(body.predictions[0]!.probability, 5);
    const last = body.looks.at(-1)!;
    expect(last.subNetwork).toBe(body.subNetwork.skip);
    expect(last.confidence).toBe(body.confidence);
    expect(last.atMs).toBeGreaterThan(0);
    expect(last.atMs).toBeLessThanOrEqual(body.timing.totalMs);
  });

  it('is the softmax at the temperature of the manifest', async () => {
    const { body } = await classify(server.url, CAT, patient);
    const model = (await (await fetch(`${server.url}/model`)).json()) as {
      manifest: { confidence: { temperatures: Record<string, number> } };
    };
    const temperature = model.manifest.confidence.temperatures[body.subNetwork.skip]!;
    const v2 = await fetch(`${server.url}/v2/models/cifar10-small-resnet/infer`, {
      method: 'POST',
      body: JSON.stringify({
        parameters: { skip: body.subNetwork.skip, latency_budget_ms: 20_000, min_confidence: 0.5 },
        inputs: [
          {
            name: 'image',
            shape: [1],
            datatype: 'BYTES',
            data: [Buffer.from(CAT).toString('base64')],
          },
        ],
        outputs: [{ name: 'logits' }, { name: 'probabilities' }],
      }),
    });
    const answer = (await v2.json()) as {
      parameters: { looks: string; confidence: string };
      outputs: { data: number[] }[];
    };
    const logits = answer.outputs[0]!.data;
    const most = Math.max(...logits);
    const sum = logits.reduce((all, logit) => all + Math.exp((logit - most) / temperature), 0);
    expect(1 / sum).toBeCloseTo(body.confidence, 3);
    expect(Math.max(...answer.outputs[1]!.data)).toBeCloseTo(body.confidence, 3);
    expect(answer.parameters.looks).toBe(body.subNetwork.skip);
    expect(Number(answer.parameters.confidence)).toBeCloseTo(body.confidence, 3);
  });

  it.each(['-0.1', '1.1', 'sure', ''])('X-Min-Confidence %j: 400', async (value) => {
    const reply = await classify<Problem>(server.url, CAT, { 'x-min-confidence': value });
    expect(reply.status).toBe(400);
    expect(reply.body.code).toBe('bad-min-confidence');
    expect(reply.body.detail).toContain('from 0 to 1');
  });

  it('is taken as a wish, not as a condition', async () => {
    const reply = await classify(server.url, CAT, { ...patient, 'x-min-confidence': '1' });
    expect(reply.status).toBe(200);
  });

  it('is counted: looks by tier, and confidence delivered', async () => {
    const metrics = await scrape(server.url);
    expect(metrics).toMatch(/^depthserve_looks_total\{.*look="first".*\} [1-9]/m);
    expect(metrics).toMatch(/^depthserve_confidence_delivered_total\S* [0-9.]+/m);
  });
});
