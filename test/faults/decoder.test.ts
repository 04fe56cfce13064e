import { afterAll, beforeAll, expect, test } from 'vitest';
import { CAT, classify, classifyForm } from '../http/client.ts';
import type { Problem } from '../http/client.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';

const DEADLY = Buffer.concat([CAT, Buffer.from('deadly')]);
const RELAXED = { 'x-latency-budget-ms': '10000' };

let server: Server;
beforeAll(async () => {
  server = await startServer(
    { MAX_DECODES: '1' },
    { nodeOptions: ['--import', new URL('./decoder-preload.mjs', import.meta.url).pathname] },
  );
});
afterAll(async () => {
  await server?.stop();
});

test('a decoder that dies of a file is replaced, and the file refused', async () => {
  const refused = await classify<Problem>(server.url, DEADLY, RELAXED);
  expect([refused.status, refused.body.code]).toEqual([422, 'not-an-image']);
  expect((await classify(server.url, CAT, RELAXED)).status).toBe(200);
  expect(server.log()).toContain('a decoder was lost, and is replaced');
});

test('those decoded beside it do not pay for it', async () => {
  const others = Array.from({ length: 6 }, () => classify(server.url, CAT, RELAXED));
  const [refused, ...answers] = await Promise.all([
    classifyForm<Problem>(server.url, [CAT, DEADLY], RELAXED),
    ...others,
  ]);
  expect(refused.status).toBe(422);
  expect(refused.body.detail).toContain('Image 2 of 2');
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
});
