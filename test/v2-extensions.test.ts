import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CAT } from './http/client.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

let server: Server;
let model: string;
beforeAll(async () => {
  server = await startServer({ MAX_IMAGES_PER_REQUEST: '8', DEFAULT_BUDGET_MS: '60000' });
  const info = (await (await fetch(`${server.url}/model`)).json()) as {
    manifest: { name: string };
  };
  model = `/v2/models/${info.manifest.name}`;
});
afterAll(async () => {
  await server?.stop();
});

interface Output {
  readonly shape: readonly number[];
  readonly data: readonly (number | string)[];
}

async function call(path: string, method = 'GET', body?: unknown, headers = {}) {
  const raw = body instanceof Uint8Array ? new Uint8Array(body) : JSON.stringify(body);
  const answer = await fetch(`${server.url}${path}`, {
    method,
    headers,
    ...(body !== undefined && { body: raw }),
  });
  const json = (await answer.json()) as { error?: string; outputs: readonly Output[] };
  return { status: answer.status, json };
}

const infer = (request: unknown) => call(`${model}/infer`, 'POST', request);
const inferRaw = (body: Uint8Array) =>
  call(`${model}/infer`, 'POST', body, { 'inference-header-content-length': '0' });

const encoded = {
  name: 'image',
  shape: [1],
  datatype: 'BYTES',
  data: [CAT.toString('base64')],
};
const pinned = { skip: 'FFFF' };
const PIXELS = 32 * 32 * 3;

describe("Triton's raw binary request: a body without JSON", () => {
  test('an encoded image is answered as in JSON', async () => {
    const [inJson, raw] = await Promise.all([infer({ inputs: [encoded] }), inferRaw(CAT)]);
    expect(raw.status).toBe(200);
    expect(raw.json.outputs[0]!.shape).toEqual([1, 10]);
    const best = ({ outputs }: typeof raw.json) => {
      const values = outputs[1]!.data as number[];
      return values.indexOf(Math.max(...values));
    };
    expect(best(raw.json)).toBe(best(inJson.json));
  });

  test.each([1, 2, 8])('pixels of %i images are answered', async (count) => {
    const { status, json } = await inferRaw(new Uint8Array(count * PIXELS).fill(100));
    expect([status, json.outputs[0]!.shape]).toEqual([200, [count, 10]]);
  });

  test.each([
    ['too many images', 9 * PIXELS, 413, /^too-many-images: /],
    ['neither pixels nor a file', PIXELS + 1, 422, /^not-an-image: /],
    ['nothing', 0, 422, /^not-an-image: /],
  ])('%s', async (_what, length, status, error) => {
    const answer = await inferRaw(new Uint8Array(length).fill(1));
    expect([answer.status, answer.json.error]).toEqual([status, expect.stringMatching(error)]);
  });

  test('pixels of a wrong length: the error says which are right', async () => {
    const { json } = await inferRaw(new Uint8Array(PIXELS - 1));
    expect(json.error).toContain(`PNG or WebP file, or N x ${PIXELS} bytes of RGB pixels.`);
  });
});

describe('members that are null count as absent', () => {
  test.each([
    ['all of the request', { id: null, parameters: null, outputs: null }, {}],
    ['parameters of the request', { parameters: { timeout: null, skip: null } }, {}],
    ['parameters of the input', {}, { parameters: null }],
    ['one parameter of the input', {}, { parameters: { binary_data_size: null } }],
    ['of an output', { outputs: [{ name: 'logits', parameters: null }] }, {}],
    ['of an output once more', { outputs: [{ name: 'logits', parameters: { x: null } }] }, {}],
  ])('%s', async (_what, request, input) => {
    const { status, json } = await infer({ ...request, inputs: [{ ...encoded, ...input }] });
    expect([status, json.error]).toEqual([200, undefined]);
  });

  test('but not in a tensor', async () => {
    const { json } = await infer({ inputs: [{ ...encoded, data: [null] }] });
    expect(json.error).toMatch(/^bad-tensor: .*base64/);
  });
});

describe('what is wrong is told as it is', () => {
  const { data: _data, ...head } = encoded;
  test.each([
    [{ parameters: { binary_data_size: '3072' } }, 'binary_data_size is the text "3072"'],
    [{ parameters: { binary_data_size: 1.5 } }, 'binary_data_size is 1.5, no whole number'],
    [{ shape: ['1'], data: encoded.data }, 'request/inputs/0/shape/0 must be integer'],
  ])('input %j', async (input, message) => {
    const { status, json } = await infer({ inputs: [{ ...head, ...input }] });
    expect([status, json.error]).toEqual([400, expect.stringContaining(message)]);
  });

  test.each([
    [{ classification: '3' }, 'classification is the text "3"'],
    [{ binary_data: 'true' }, 'binary_data is the text "true", not true or false'],
  ])('output parameters %j', async (parameters, message) => {
    const outputs = [{ name: 'logits', parameters }];
    const { status, json } = await infer({ inputs: [encoded], outputs });
    expect([status, json.error]).toEqual([400, expect.stringContaining(message)]);
  });

  test.each([
    [{ timeout: '20000' }, 'bad-budget: Parameter timeout is the text "20000". Send a number'],
    [{ timeout: -1 }, 'timeout in microseconds, or latency_budget_ms in ms'],
    [{ latency_budget_ms: 0 }, 'timeout in microseconds, or latency_budget_ms in ms'],
    [{ min_accuracy: '0.5' }, 'Parameter min_accuracy is the text "0.5". Send a number'],
    [{ binary_data_output: 1 }, 'binary_data_output is 1, not true or false'],
  ])("%j: in the protocol's terms", async (parameters, message) => {
    const { json } = await infer({ inputs: [encoded], parameters });
    expect(json.error).toContain(message);
    expect(json.error).not.toMatch(/X-/);
  });

  test('an accuracy that no sub-network has: told what to lower', async () => {
    const { status, json } = await infer({ inputs: [encoded], parameters: { min_accuracy: 1 } });
    expect(status).toBe(422);
    expect(json.error).toMatch(
      /^accuracy-unavailable: .* Lower the accuracy floor \(.*min_accuracy/,
    );
  });

  test('parameters that mean nothing here may be anything', async () => {
    const parameters = { headers: { 'X-A': 'b' }, tags: [1, 'two'] };
    expect((await infer({ inputs: [encoded], parameters })).status).toBe(200);
  });
});

describe('what a client can discover', () => {
  test('metadata tell that encoded images are taken', async () => {
    expect((await call(model)).json).toMatchObject({
      inputs: [{ name: 'image', datatype: 'UINT8' }],
      properties: {
        'image.datatypes': 'UINT8,BYTES',
        'image.BYTES.content_types': 'image/jpeg,image/png,image/webp',
      },
    });
    expect((await call(`${model}/config`)).json).toMatchObject({
      parameters: { 'image.datatypes': { string_value: 'UINT8,BYTES' } },
    });
  });

  test('statistics of all models', async () => {
    expect((await call('/v2/models/stats')).json).toMatchObject({
      model_stats: [{ name: model.split('/').at(-1) }],
    });
  });

  test('every extension that is announced works', async () => {
    const { extensions } = (await call('/v2')).json as unknown as { extensions: string[] };
    const shown: Record<string, () => Promise<{ status: number }>> = {
      binary_tensor_data: () => inferRaw(CAT),
      classification: () =>
        infer({
          inputs: [encoded],
          outputs: [{ name: 'logits', parameters: { classification: 2 } }],
        }),
      model_configuration: () => call(`${model}/config`),
      parameters: () => infer({ inputs: [encoded], parameters: pinned }),
      statistics: () => call(`${model}/stats`),
    };
    expect(Object.keys(shown)).toEqual(extensions);
    for (const name of extensions) expect((await shown[name]!()).status, name).toBe(200);
  });
});

describe('what is not offered is refused by name', () => {
  test.each([
    ['GET', '/v2/systemsharedmemory/status', 'Shared memory'],
    ['POST', '/v2/systemsharedmemory/region/a/register', 'Shared memory'],
    ['POST', '/v2/cudasharedmemory/unregister', 'Shared memory'],
    ['POST', '/v2/repository/index', 'The model repository extension'],
    ['POST', '/v2/repository/models/a/load', 'The model repository extension'],
    ['GET', '/v2/trace/setting', 'The trace extension'],
    ['POST', '/v2/models/cifar10-small-resnet/trace/setting', 'The trace extension'],
    ['GET', '/v2/logging', 'The logging extension'],
    ['POST', '/v2/models/cifar10-small-resnet/generate', 'The generate extension'],
  ])('%s %s', async (method, path, what) => {
    const { status, json } = await call(path, method, method === 'POST' ? {} : undefined);
    expect([status, json.error]).toEqual([
      400,
      expect.stringMatching(`^not-offered: ${what}, which ${path} asks for, is not offered here`),
    ]);
  });

  const region = { shared_memory_region: 'a', shared_memory_byte_size: 3072 };
  test.each([
    ['the input', { inputs: [{ ...encoded, parameters: region }] }, 'shared_memory_region'],
    [
      'an output',
      { inputs: [encoded], outputs: [{ name: 'logits', parameters: region }] },
      'shared_memory_region',
    ],
    ['sequences', { inputs: [encoded], parameters: { sequence_id: 7 } }, 'sequence_id'],
    ['priorities', { inputs: [encoded], parameters: { priority: 1 } }, 'priority'],
  ])('in parameters: %s', async (_where, request, name) => {
    const { status, json } = await infer(request);
    expect([status, json.error]).toEqual([
      400,
      expect.stringMatching(`^not-offered: .*parameter ${name} asks for`),
    ]);
  });

  test('parameters that ask for nothing are no matter', async () => {
    const parameters = { priority: 0, sequence_id: 0, sequence_start: false, sequence_end: false };
    expect((await infer({ inputs: [encoded], parameters })).status).toBe(200);
  });
});
