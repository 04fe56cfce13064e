import { readFile } from 'node:fs/promises';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { DepthServe, DepthServeError } from '../src/client/client.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

let server: Server;
let client: DepthServe;
let cat: Uint8Array<ArrayBuffer>;
/** The OpenAPI document, as a schema whose parts can be referred to. */
let ajv: Ajv2020;

beforeAll(async () => {
  server = await startServer();
  client = new DepthServe(`${server.url}/`);
  cat = new Uint8Array(await readFile('models/cifar10/samples/cat.jpg'));
  ajv = new Ajv2020({ strict: false });
  addFormats.default(ajv);
  ajv.addSchema(JSON.parse(await readFile('docs/openapi.json', 'utf8')), 'openapi');
});
afterAll(async () => {
  await server?.stop();
});

/** Checks `value` against the schema that the document gives for an answer. */
function expectDocumented(value: unknown, path: string, method: string): void {
  const pointer = ['paths', path.replaceAll('/', '~1'), method, 'responses', '200', 'content'];
  const ref = `openapi#/${pointer.join('/')}/application~1json/schema`;
  ajv.validate({ $ref: ref }, value);
  expect(ajv.errors ?? []).toEqual([]);
}

test('classifies one image, in the form that the OpenAPI document says', async () => {
  const answer = await client.classify(cat, { budgetMs: 60_000, topK: 3 });
  expect(answer.predictions).toHaveLength(3);
  expect(answer.budget).toMatchObject({ requestedMs: 60_000, met: true });
  expectDocumented(answer, '/classify', 'post');
});

test('classifies several under one budget, in their order', async () => {
  const answers = await client.classifyAll([cat, new Blob([cat])], { budgetMs: 60_000 });
  expect(answers.map(({ id }) => id.slice(-2))).toEqual(['-0', '-1']);
  expectDocumented({ results: answers }, '/classify', 'post');
});

test('tells of the model and of readiness', async () => {
  const model = await client.model();
  expect(model.manifest.labels).toContain('cat');
  expectDocumented(model, '/model', 'get');
  expect(await client.ready()).toMatchObject({ status: 'ready' });
});

test('an error carries code, status and what would have worked', async () => {
  const error = await client.classify(cat, { budgetMs: 0.001 }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DepthServeError);
  expect(error).toMatchObject({ status: 503, smallestBudgetMs: expect.any(Number) });
});

test('an error that some proxy answers is told apart', async () => {
  const proxy = async () => new Response('<h1>Bad Gateway</h1>', { status: 502 });
  const behind = new DepthServe('http://proxy.invalid', { fetch: proxy });
  await expect(behind.model()).rejects.toMatchObject({ code: 'not-from-service', status: 502 });
});

test("calls fetch as browsers want it, as nobody's method", async () => {
  const { fetch } = globalThis;
  const strict = function (this: unknown, ...call: Parameters<typeof fetch>) {
    if (this !== undefined && this !== globalThis) throw new TypeError('Illegal invocation');
    return fetch(...call);
  };
  vi.stubGlobal('fetch', strict);
  const { status } = await new DepthServe(server.url).ready().finally(() => vi.unstubAllGlobals());
  expect(status).toBe('ready');
});

test('gives up when told to', async () => {
  const signal = AbortSignal.abort();
  await expect(client.classify(cat, { signal })).rejects.toMatchObject({ name: 'AbortError' });
});
