import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT, classify, scrape } from './client.ts';

let server: Server;
beforeAll(async () => {
  server = await startServer({ MAX_BATCH: '1', SHADOW_CHECKS_PER_MINUTE: '600' });
});
afterAll(() => server.stop());

function feedback(body: object): Promise<Response> {
  return fetch(`${server.url}/feedback`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

const calm = { 'x-latency-budget-ms': '20000' };

describe('POST /feedback', () => {
  it('counts a right and a wrong answer by tier', async () => {
    const { body: first } = await classify(server.url, CAT, calm);
    const { body: second } = await classify(server.url, CAT, calm);
    const predicted = first.predictions[0]!.label;
    const other = predicted === 'frog' ? 'cat' : 'frog';
    expect((await feedback({ id: first.id, label: predicted })).status).toBe(204);
    expect((await feedback({ id: second.id, label: other })).status).toBe(204);
    const tier = first.subNetwork.skip;
    const metrics = await scrape(server.url);
    expect(metrics).toContain(`depthserve_feedback_total{tier="${tier}",result="correct"} 1`);
    expect(metrics).toContain(`depthserve_feedback_total{tier="${tier}",result="wrong"} 1`);
  });

  it('counts an answer once', async () => {
    const { body } = await classify(server.url, CAT, calm);
    expect((await feedback({ id: body.id, label: 'cat' })).status).toBe(204);
    const again = await feedback({ id: body.id, label: 'cat' });
    expect(again.status).toBe(404);
    expect(await again.json()).toMatchObject({ code: 'unknown-request' });
  });

  it('refuses a label that the model does not have', async () => {
    const { body } = await classify(server.url, CAT, calm);
    const reply = await feedback({ id: body.id, label: 'unicorn' });
    expect(reply.status).toBe(400);
    expect(await reply.json()).toMatchObject({ code: 'unknown-label' });
  });

  it.each([{}, { id: 'x' }, { id: 1, label: [] }, { id: 'x', label: 'cat', weight: 2 }])(
    'refuses %j',
    async (body) => {
      const reply = await feedback(body);
      expect(reply.status).toBeGreaterThanOrEqual(400);
      expect(reply.status).toBeLessThan(500);
    },
  );
});

describe('the idle re-run', () => {
  it('asks the super-net about a shallow answer, and accounts for the cost', async () => {
    // A budget that only a shallow sub-network can keep, found by what the server does.
    const askForShallow = async () => {
      for (let budget = 400; budget > 1; budget *= 0.8) {
        const headers = { 'x-latency-budget-ms': String(Math.ceil(budget)) };
        const { status, body } = await classify(server.url, CAT, headers);
        if (status === 200 && body.subNetwork.skip.includes('T')) return;
      }
    };
    const checked = /depthserve_shadow_answers_total\{tier="F*T[TF]*",agreement="\w+"\} [1-9]/;
    // Answers before the shadow has started are not offered to it.
    const toldAfterwards = async () => {
      await askForShallow();
      return scrape(server.url);
    };
    await expect.poll(toldAfterwards, { timeout: 60_000, interval: 500 }).toMatch(checked);
    const metrics = await scrape(server.url);
    expect(metrics).toMatch(/depthserve_shadow_seconds_total [\d.e-]*[1-9]/);
    expect(metrics).toMatch(/depthserve_shadow_macs_total [1-9]/);
  });

  it.each([
    ['another type', 'image/jpeg', 'x', 415],
    ['too much', 'application/json', JSON.stringify({ id: 'x'.repeat(5000) }), 413],
  ])('%s: told in terms of this route', async (_what, type, body, status) => {
    const headers = { 'content-type': type };
    const answer = await fetch(`${server.url}/feedback`, { method: 'POST', headers, body });
    expect(answer.status).toBe(status);
    const { detail } = (await answer.json()) as { detail: string };
    expect(detail).toContain('Send application/json');
    expect(detail).not.toContain('image');
  });
});
