import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

let server: Server;
let model: string;
beforeAll(async () => {
  server = await startServer({ MAX_IMAGES_PER_REQUEST: '8', DEFAULT_BUDGET_MS: '60000' });
  const info = (await (await fetch(`${server.url}/model`)).json()) as {
    manifest: { name: string };
  };
  model = `${server.url}/v2/models/${info.manifest.name}`;
});
afterAll(async () => {
  await server?.stop();
});

const PIXELS = 32 * 32 * 3;
const image = (value = 100, count = 1) => ({
  name: 'image',
  shape: [count, 32, 32, 3],
  datatype: 'UINT8',
  data: Array.from({ length: count * PIXELS }, () => value),
});

async function infer(request: unknown, headers: Record<string, string> = {}) {
  const answer = await fetch(`${model}/infer`, {
    method: 'POST',
    body: typeof request === 'string' ? request : JSON.stringify(request),
    headers,
  });
  return {
    status: answer.status,
    type: answer.headers.get('content-type'),
    body: (await answer.json()) as { error: string; outputs: { data: unknown[] }[] },
  };
}

/** The request's JSON, followed by bytes, as the binary extension has it. */
async function inferBinary(json: object, bytes: Uint8Array, length?: string) {
  const head = Buffer.from(JSON.stringify(json));
  const answer = await fetch(`${model}/infer`, {
    method: 'POST',
    body: Buffer.concat([head, bytes]),
    headers: { 'inference-header-content-length': length ?? String(head.length) },
  });
  return { status: answer.status, body: (await answer.json()) as { error: string } };
}

describe('a tensor must be exactly what its shape says', () => {
  const { data, ...head } = image();
  test.each([
    ['too few values', { ...head, data: data.slice(1) }, 'there are 3071 values'],
    ['too many values', { ...head, data: [...data, 1] }, 'more than the 3072 values'],
    ['a value above 255', { ...head, data: [256, ...data.slice(1)] }, 'no integer from 0 to 255'],
    ['a fraction', { ...head, data: [0.5, ...data.slice(1)] }, 'no integer from 0 to 255'],
    ['text', { ...head, data: ['1', ...data.slice(1)] }, 'no integer from 0 to 255'],
    ['deep nesting', { ...head, data: [[[[[data]]]]] }, 'nested deeper'],
    ['another size', { ...head, shape: [1, 31, 32, 3], data }, 'the shape is [1, 31, 32, 3]'],
    ['no images', { ...head, shape: [0, 32, 32, 3], data: [] }, 'holds no image'],
    ['floats', { ...head, datatype: 'FP32', data }, 'not UINT8 or BYTES'],
    ['another name', { ...head, name: 'picture', data }, 'no input "picture"'],
    ['nothing at all', head, 'neither data nor binary_data_size'],
  ])('%s: 400', async (_case, input, message) => {
    const { status, body } = await infer({ inputs: [input] });
    expect([status, body.error]).toEqual([400, expect.stringContaining(message)]);
    expect(body.error).toMatch(/^bad-tensor: /);
  });

  test('more images than a request may hold: 413', async () => {
    const { status, body } = await infer({ inputs: [image(1, 9)] });
    expect([status, body.error]).toEqual([413, expect.stringMatching(/^too-many-images: /)]);
  });

  test.each([
    ['longer than announced', { binary_data_size: PIXELS }, PIXELS + 1],
    ['shorter than announced', { binary_data_size: PIXELS }, PIXELS - 1],
    ['shorter than the shape', { binary_data_size: 5 }, 5],
    ['unannounced', {}, PIXELS],
  ])('binary data %s: 400', async (_case, parameters, bytes) => {
    const request = { inputs: [{ ...head, parameters }] };
    expect((await inferBinary(request, new Uint8Array(bytes))).status).toBe(400);
  });

  test.each(['-1', '1e3', '99999999', 'x'])('JSON length %s: 400', async (length) => {
    const request = { inputs: [{ ...head, parameters: { binary_data_size: PIXELS } }] };
    const { status, body } = await inferBinary(request, new Uint8Array(PIXELS), length);
    expect([status, body.error]).toEqual([400, expect.stringMatching(/^bad-request: /)]);
  });

  test.each([
    ['a length beyond the tensor', Uint8Array.of(255, 255, 255, 255, 1)],
    ['half a length', Uint8Array.of(1, 0)],
  ])('BYTES with %s: 400', async (_case, bytes) => {
    const parameters = { binary_data_size: bytes.length };
    const request = { inputs: [{ name: 'image', shape: [1], datatype: 'BYTES', parameters }] };
    const { status, body } = await inferBinary(request, bytes);
    expect([status, body.error]).toEqual([400, expect.stringContaining('longer than the tensor')]);
  });

  test.each([
    ['binary', { parameters: { binary_data_size: 4_000_000 } }, new Uint8Array(4_000_000)],
    ['in JSON', { data: Array.from({ length: 1_000_000 }, () => '') }, new Uint8Array()],
  ])('millions of empty elements, %s: refused by the shape', async (_how, input, bytes) => {
    const request = { inputs: [{ name: 'image', shape: [2], datatype: 'BYTES', ...input }] };
    const { status, body } = await inferBinary(request, bytes);
    expect([status, body.error]).toEqual([
      400,
      expect.stringContaining('more than the 2 elements'),
    ]);
  });

  test('BYTES that are no image: 422', async () => {
    const input = { name: 'image', shape: [1], datatype: 'BYTES', data: ['AAAA'] };
    expect((await infer({ inputs: [input] })).status).toBe(422);
  });
});

describe('parameters', () => {
  test.each([
    [{ latency_budget_ms: 0 }, /^bad-budget: /],
    [{ latency_budget_ms: '5' }, /^bad-budget: /],
    [{ timeout: -1 }, /^bad-budget: /],
    [{ min_accuracy: 2 }, /^bad-min-accuracy: /],
    [{ skip: 'TT' }, /^bad-skip: /],
    [{ skip: true }, /^bad-skip: /],
  ])('%j: 400', async (parameters, message) => {
    const { status, body } = await infer({ inputs: [image()], parameters });
    expect([status, body.error]).toEqual([400, expect.stringMatching(message)]);
  });

  test('a sub-network off the Pareto front can be pinned, too', async () => {
    const info = (await (await fetch(`${server.url}/model`)).json()) as {
      tiers: { skip: string }[];
      manifest: { subNetworks: { skip: string }[] };
    };
    const onFront = new Set(info.tiers.map(({ skip }) => skip));
    const { skip } = info.manifest.subNetworks.find((one) => !onFront.has(one.skip))!;
    const { body } = await infer({ inputs: [image()], parameters: { skip } });
    expect(body).toMatchObject({ parameters: { sub_network: skip } });
  });

  test('requests with different pins and without are all answered', async () => {
    const pins = ['FFFF', 'TTTT', undefined, 'TTTT', 'FTFT', undefined];
    const answers = await Promise.all(
      pins.map((skip) => infer({ inputs: [image()], ...(skip && { parameters: { skip } }) })),
    );
    answers.forEach(({ status, body }, index) => {
      expect(status).toBe(200);
      if (!pins[index]) return;
      expect(body).toMatchObject({ parameters: { sub_network: pins[index] } });
    });
  });
});

describe('errors have the form of the protocol', () => {
  test.each(['', '{', '[]', '{"inputs": []}', '{"inputs": [{"name": 1}]}', '"inputs"'])(
    'body %j: 400',
    async (body) => {
      const answer = await infer(body);
      expect(answer).toMatchObject({
        status: 400,
        type: expect.stringMatching('application/json'),
      });
      expect(answer.body.error).toMatch(/^bad-request: /);
    },
  );

  test.each([
    ['/v2/models/other', 404, /^no-such-model: /],
    ['/v2/models/other/versions/9/stats', 404, /^no-such-model: /],
    ['/v2/nothing', 404, /^not-found: /],
    // Fastify does not route these.
    ['/v2/models/%ZZ', 400, /^bad-request: /],
    [`/v2/models/${'a'.repeat(300)}`, 400, /^bad-request: /],
  ])('GET %s: %i', async (path, status, message) => {
    const answer = await fetch(`${server.url}${path}`);
    expect(answer.status).toBe(status);
    expect(((await answer.json()) as { error: string }).error).toMatch(message);
  });

  test('a wrong method: 405 with the right ones', async () => {
    const answer = await fetch(`${model}/infer`);
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toBe('POST');
  });

  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
  test.each([
    ['parameters', `{"inputs": [], "parameters": {"x": ${nested(50_000)}}}`],
    ['inputs', `{"inputs": ${nested(50_000)}}`],
    ['everything', nested(1000)],
  ])('%s nested too deep: 400', async (_where, body) => {
    const answer = await infer(body);
    expect([answer.status, answer.body.error]).toEqual([
      400,
      expect.stringMatching(/^bad-request: The request is nested deeper than/),
    ]);
  });

  test.each(['', 'nonsense', 'text/plain'])('whatever the body is called: %j', async (type) => {
    expect((await infer({ inputs: [image()] }, { 'content-type': type })).status).toBe(200);
  });

  test('a compression that is not known: 415', async () => {
    expect((await infer({ inputs: [image()] }, { 'content-encoding': 'zz' })).status).toBe(415);
  });
});
