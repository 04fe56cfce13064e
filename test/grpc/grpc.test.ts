import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Metadata, credentials, loadPackageDefinition, status } from '@grpc/grpc-js';
import type {
  CallOptions,
  ClientUnaryCall,
  GrpcObject,
  ServiceDefinition,
  ServiceError,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PYTHON, noPython, runToEnd } from '../clients/python.ts';
import { CAT, scrape } from '../http/client.ts';
import { RawConnection } from '../http/raw.ts';
import { failedStart, freePorts, startServer } from '../server.ts';
import type { Server } from '../server.ts';

const MODEL = 'cifar10-small-resnet';

type Method = (
  request: object,
  metadata: Metadata,
  options: CallOptions,
  callback: (error: ServiceError | null, answer: Answer) => void,
) => ClientUnaryCall;
type Answer = Record<string, never> & {
  readonly parameters: Record<string, { string_param?: string; double_param?: number }>;
  readonly outputs: readonly { name: string; shape: number[] }[];
  readonly raw_output_contents: readonly Buffer[];
};

const { inference } = loadPackageDefinition(
  loadSync('src/grpc/inference.proto', { keepCase: true, longs: Number, defaults: true }),
);
const Stub = (inference as GrpcObject)['GRPCInferenceService'] as unknown as new (
  address: string,
  credentials: unknown,
) => Client & Record<string, Method>;

class Caller {
  readonly stub: Client & Record<string, Method>;

  constructor(port: number) {
    this.stub = new Stub(`127.0.0.1:${port}`, credentials.createInsecure());
  }

  start(
    method: string,
    request: object,
    { headers = {}, ...options }: CallOptions & { headers?: Record<string, string> } = {},
  ) {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    let call!: ClientUnaryCall;
    const answer = new Promise<Answer>((resolve, reject) => {
      call = this.stub[method]!(request, metadata, options, (error, answer) =>
        error ? reject(error) : resolve(answer),
      );
    });
    answer.catch(() => {});
    return { call, answer };
  }

  async call(...args: Parameters<Caller['start']>): Promise<Answer> {
    return this.start(...args).answer;
  }

  async error(...args: Parameters<Caller['start']>): Promise<ServiceError> {
    const outcome = await this.call(...args).catch((error: unknown) => error as ServiceError);
    if (!(outcome instanceof Error)) throw new Error('it was answered');
    return outcome;
  }
}

const within = (ms: number) => ({ deadline: Date.now() + ms });
const photo = (more: object = {}) => ({
  model_name: MODEL,
  inputs: [{ name: 'image', datatype: 'BYTES', shape: [1], contents: { bytes_contents: [CAT] } }],
  ...more,
});
const pixels = (count: number, more: object = {}) => ({
  model_name: MODEL,
  inputs: [{ name: 'image', datatype: 'UINT8', shape: [count, 32, 32, 3] }],
  raw_input_contents: [Buffer.alloc(count * 32 * 32 * 3, 100)],
  ...more,
});

async function startGrpc(settings: Record<string, string>) {
  const [port] = (await freePorts(1)) as [number];
  return { port, server: await startServer({ GRPC_PORT: String(port), ...settings }) };
}

async function metric(server: Server, line: string): Promise<number> {
  const lines = (await scrape(server.url)).split('\n');
  return Number(lines.find((each) => each.startsWith(`${line} `))?.split(' ')[1] ?? 0);
}

describe('gRPC', () => {
  let server: Server;
  let port: number;
  let caller: Caller;
  beforeAll(async () => {
    ({ port, server } = await startGrpc({
      MAX_IMAGES_PER_REQUEST: '2000',
      MAX_BODY_BYTES: '8000000',
      MAX_BYTES_IN_FLIGHT: '8000000',
      DEFAULT_BUDGET_MS: '60000',
    }));
    caller = new Caller(port);
  });
  afterAll(async () => {
    caller?.stub.close();
    await server?.stop();
  });

  it('an image is classified; the answer says how', async () => {
    const answer = await caller.call('ModelInfer', photo({ id: 'mine' }), within(60_000));
    expect(answer).toMatchObject({ id: 'mine', model_name: MODEL });
    expect(answer.outputs.map(({ name, shape }) => [name, shape])).toEqual([
      ['logits', [1, 10]],
      ['probabilities', [1, 10]],
    ]);
    expect(answer.raw_output_contents.map(({ length }) => length)).toEqual([40, 40]);
    expect(answer.parameters['sub_network']!.string_param).toMatch(/^[TF]{4}$/);
  });

  it('the answer is that of REST', async () => {
    const parameters = { skip: { string_param: 'FFFF' } };
    const byGrpc = await caller.call('ModelInfer', photo({ parameters }), within(60_000));
    const answer = await fetch(`${server.url}/v2/models/${MODEL}/infer`, {
      method: 'POST',
      body: JSON.stringify({
        parameters: { skip: 'FFFF' },
        inputs: [{ name: 'image', shape: [1], datatype: 'BYTES', data: [CAT.toString('base64')] }],
      }),
    });
    const { outputs } = (await answer.json()) as { outputs: { data: number[] }[] };
    const logits = byGrpc.raw_output_contents[0]!;
    outputs[0]!.data.forEach((logit, index) => {
      expect(logits.readFloatLE(index * 4)).toBeCloseTo(logit, 3);
    });
  });

  it('pixels may be in contents, too', async () => {
    const { inputs } = pixels(1);
    const contents = { uint_contents: Array.from({ length: 3072 }, () => 100) };
    const request = { model_name: MODEL, inputs: [{ ...inputs[0], contents }] };
    const inContents = await caller.call('ModelInfer', request, within(60_000));
    const raw = await caller.call('ModelInfer', pixels(1), within(60_000));
    expect(inContents.outputs).toEqual(raw.outputs);
  });

  it('the deadline is the budget, as far as no smaller one is asked for', async () => {
    const budgetOf = async (request: object, ms: number) =>
      (await caller.call('ModelInfer', request, within(ms))).parameters['budget_ms']!.double_param!;
    const byDeadline = await budgetOf(photo(), 30_000);
    expect(byDeadline).toBeLessThanOrEqual(30_000);
    expect(byDeadline).toBeGreaterThan(20_000);
    const parameters = { timeout: { int64_param: 10_000_000 } };
    expect(await budgetOf(photo({ parameters }), 30_000)).toBe(10_000);
    const larger = { latency_budget_ms: { double_param: 3_000_000 } };
    expect(await budgetOf(photo({ parameters: larger }), 30_000)).toBeLessThanOrEqual(30_000);
  });

  it('a budget in the metadata counts as the header does, where it is smaller', async () => {
    const asking = (budget: string) => ({ headers: { 'x-latency-budget-ms': budget } });
    const { parameters } = await caller.call('ModelInfer', photo(), asking('20000'));
    expect(parameters['budget_ms']).toMatchObject({ double_param: 20_000 });
    const both = { ...within(60_000), ...asking('20000') };
    const ofBoth = await caller.call('ModelInfer', photo(), both);
    expect(ofBoth.parameters['budget_ms']).toMatchObject({ double_param: 20_000 });
    const hopeless = await caller.error('ModelInfer', photo(), asking('0.01'));
    expect(hopeless.details).toMatch(/^budget-too-small: /);
    const wrong = await caller.error('ModelInfer', photo(), asking('soon'));
    expect(wrong.details).toMatch(/^bad-budget: X-Latency-Budget-Ms is "soon"/);
  });

  it('metadata ask for accuracy and confidence as headers do, and parameters win', async () => {
    const withHeaders = (headers: Record<string, string>) => ({ ...within(60_000), headers });
    const tooMuch = withHeaders({ 'x-min-accuracy': '0.999' });
    const error = await caller.error('ModelInfer', photo(), tooMuch);
    expect(error.details).toMatch(/^accuracy-unavailable: /);
    const parameters = { min_accuracy: { double_param: 0 } };
    await caller.call('ModelInfer', photo({ parameters }), tooMuch);
    const unsure = await caller.error(
      'ModelInfer',
      photo(),
      withHeaders({ 'x-min-confidence': '2' }),
    );
    expect(unsure.code).toBe(status.INVALID_ARGUMENT);
    expect(unsure.details).toMatch(/^bad-min-confidence: /);
    await caller.call('ModelInfer', photo(), withHeaders({ 'x-min-confidence': '0.9' }));
  });

  it('a hopeless budget is refused with what would work', async () => {
    const parameters = { timeout: { int64_param: 1 } };
    const error = await caller.error('ModelInfer', photo({ parameters }), within(60_000));
    expect(error.code).toBe(status.DEADLINE_EXCEEDED);
    expect(error.details).toMatch(/^budget-too-small: .*smallestBudgetMs: [\d.]+\.$/);
    expect(error.metadata.get('depthserve-code')).toEqual(['budget-too-small']);
    expect(Number(error.metadata.get('smallest-budget-ms')[0])).toBeGreaterThan(0);
  });

  const pinned = { parameters: { skip: { string_param: 'FFFF' } } };

  it('a client that cancels takes its images out of the queue, and is counted', async () => {
    const { call, answer } = caller.start('ModelInfer', pixels(2000, pinned), within(600_000));
    while ((await metric(server, 'depthserve_queue_length')) === 0) await sleep(5);
    call.cancel();
    await expect(answer).rejects.toMatchObject({ code: status.CANCELLED });
    const cancelled = 'depthserve_requests_total{tier="none",outcome="cancelled"}';
    while ((await metric(server, cancelled)) === 0) await sleep(10);
    expect(await metric(server, 'depthserve_queue_length')).toBe(0);
  });

  it('bodies under way are bounded together with those of HTTP', async () => {
    const first = caller.start('ModelInfer', pixels(2000, pinned), within(600_000));
    while ((await metric(server, 'depthserve_queue_length')) === 0) await sleep(5);
    const error = await caller.error('ModelInfer', pixels(900), within(600_000));
    expect([error.code, error.details]).toEqual([
      status.UNAVAILABLE,
      expect.stringMatching(/^overloaded: Too many uploads/),
    ]);
    first.call.cancel();
    await first.answer.catch(() => {});
    while ((await metric(server, 'depthserve_queue_length')) > 0) await sleep(5);
    expect((await caller.call('ModelInfer', pixels(1), within(60_000))).outputs).toHaveLength(2);
  });

  it.each([
    ['no model', { model_name: 'other' }, status.NOT_FOUND, /^no-such-model: /],
    ['no version', { model_version: '0' }, status.NOT_FOUND, /^no-such-model: /],
    ['no input', { inputs: [] }, status.INVALID_ARGUMENT, /^bad-request: .*inputs/],
    [
      'two kinds of contents',
      { raw_input_contents: [CAT] },
      status.INVALID_ARGUMENT,
      /^bad-tensor: .*both contents and raw_input_contents/,
    ],
    [
      'a wrong kind',
      { inputs: [{ ...pixels(1).inputs[0], contents: { int_contents: [1] } }] },
      status.INVALID_ARGUMENT,
      /^bad-tensor: .*UINT8 is in int_contents, not in uint_contents/,
    ],
    [
      'no contents',
      { inputs: pixels(1).inputs },
      status.INVALID_ARGUMENT,
      /^bad-tensor: .*neither uint_contents nor raw_input_contents/,
    ],
    [
      'another datatype',
      { inputs: [{ ...pixels(1).inputs[0], datatype: 'FP32' }] },
      status.INVALID_ARGUMENT,
      /^bad-tensor: .*FP32, not UINT8 or BYTES/,
    ],
    [
      'no image',
      {
        inputs: [{ ...photo().inputs[0], contents: { bytes_contents: [Buffer.from('text')] } }],
      },
      status.INVALID_ARGUMENT,
      /^not-an-image: /,
    ],
    [
      'a text for a number',
      { parameters: { timeout: { string_param: '20' } } },
      status.INVALID_ARGUMENT,
      /^bad-budget: Parameter timeout is the text "20"/,
    ],
    [
      'shared memory',
      {
        outputs: [{ name: 'logits', parameters: { shared_memory_region: { string_param: 'a' } } }],
      },
      status.UNIMPLEMENTED,
      /^not-offered: Shared memory/,
    ],
  ])('%s', async (_what, more, code, details) => {
    const error = await caller.error('ModelInfer', { ...photo(), ...more }, within(60_000));
    expect([error.code, error.details]).toEqual([code, expect.stringMatching(details)]);
  });

  it('a message beyond the limit is refused, and counted', async () => {
    const refused = 'depthserve_requests_total{tier="none",outcome="body-too-large"}';
    const before = await metric(server, refused);
    const error = await caller.error('ModelInfer', pixels(3000), within(60_000));
    expect(error.code).toBe(status.RESOURCE_EXHAUSTED);
    while ((await metric(server, refused)) === before) await sleep(10);
  });

  it.each([
    ['cancelled', 'the client goes away', 60_000],
    // Long enough for a busy server to let it in, and to know it from a cancelled one.
    ['deadline-passed', 'its deadline passes', 4000],
  ])('a call is counted as %s when %s before its message is here', async (outcome, _what, ms) => {
    const counted = `depthserve_requests_total{tier="none",outcome="${outcome}"}`;
    const before = await metric(server, counted);
    const call = caller.stub.makeClientStreamRequest(
      '/inference.GRPCInferenceService/ModelInfer',
      (message: Buffer) => message,
      (message: Buffer) => message,
      new Metadata(),
      within(ms),
      () => {},
    );
    if (outcome === 'cancelled') setTimeout(() => call.cancel(), 100);
    while ((await metric(server, counted)) === before) await sleep(10);
  });

  it('metadata say that encoded images are taken', async () => {
    expect(await caller.call('ModelMetadata', { name: MODEL })).toMatchObject({
      properties: { 'image.datatypes': 'UINT8,BYTES' },
    });
  });

  it('calls are in the log, by the id that the caller gave', async () => {
    await caller.call('ModelInfer', photo(), {
      ...within(60_000),
      headers: { 'x-request-id': 'a1' },
    });
    const line = () =>
      server
        .log()
        .split('\n')
        .find((each) => each.includes('"reqId":"a1"'));
    while (line() === undefined) await sleep(5);
    expect(JSON.parse(line()!)).toMatchObject({ protocol: 'grpc', outcome: 'met' });
  });

  it.skipIf(noPython)('the unmodified Python tritonclient[grpc] drives the service', async () => {
    const output = await runToEnd(PYTHON, [
      'test/clients/triton_grpc_client.py',
      `127.0.0.1:${port}`,
      new URL(server.url).host,
      'models/cifar10/samples/cat.jpg',
    ]);
    expect(output).toMatch(/Ran \d+ tests[^]*OK\n$/);
  });

  it('a call that was accepted is answered in a drain, then the port is closed', async () => {
    const busy = caller.start('ModelInfer', pixels(100, pinned), within(600_000));
    while ((await metric(server, 'depthserve_queue_length')) === 0) await sleep(5);
    const stopped = server.stop();
    expect((await busy.answer).outputs).toHaveLength(2);
    expect(await stopped).toBe(0);
    expect((await caller.error('ServerLive', {})).code).toBe(status.UNAVAILABLE);
  });
});

describe('a gRPC call whose message does not come', () => {
  let server: Server;
  let port: number;
  beforeAll(async () => {
    ({ port, server } = await startGrpc({ REQUEST_TIMEOUT_MS: '3000' }));
  });
  afterAll(() => server?.stop());

  it.each([
    ['ModelInfer', 'request-timeout', {}],
    ['ModelInfer', 'deadline-passed', { 'x-latency-budget-ms': '2000' }],
    ['ModelMetadata', 'request-timeout', {}],
  ])('is ended: %s, %s', async (method, code, headers) => {
    const caller = new Caller(port);
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    const error = await new Promise<ServiceError | null>((resolve) => {
      caller.stub.makeClientStreamRequest(
        `/inference.GRPCInferenceService/${method}`,
        (message: Buffer) => message,
        (message: Buffer) => message,
        metadata,
        resolve,
      );
    });
    expect([error!.code, error!.metadata.get('depthserve-code')]).toEqual([
      status.DEADLINE_EXCEEDED,
      [code],
    ]);
    const counted = `depthserve_requests_total{tier="none",outcome="${code}"}`;
    if (method === 'ModelInfer') await expect.poll(() => metric(server, counted)).toBe(1);
    caller.stub.close();
  });

  it('neither fails a drain nor keeps connections of HTTP open', async () => {
    const { port, server } = await startGrpc({ DRAIN_TIMEOUT_MS: '5000' });
    const session = connect(`http://127.0.0.1:${port}`).on('error', () => {});
    const call = session.request({
      ':method': 'POST',
      ':path': '/inference.GRPCInferenceService/ModelInfer',
      'content-type': 'application/grpc',
    });
    call.on('error', () => {});
    // By then the server has the call.
    await new Promise((resolve) => session.ping(resolve));
    const idle = await RawConnection.open(server.url);
    await idle.send('GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n');
    await idle.received(/"status"/);
    const stopped = server.stop();
    await idle.ended();
    expect(call.closed).toBe(false);
    expect(await stopped).toBe(0);
  });
});

/** A gRPC message as it is sent: neither compressed, its length first. */
function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

describe('a gRPC client that does not take its answer', () => {
  /** Asks for an answer that it has no room for. @returns when the server has begun to answer. */
  async function askWithoutReading(port: number, images = 1) {
    const session = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 0 } });
    session.on('error', () => {});
    const call = session.request({
      ':method': 'POST',
      ':path': '/inference.GRPCInferenceService/ModelInfer',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    call.on('error', () => {});
    const { service } = Stub as unknown as { service: ServiceDefinition };
    call.end(framed(service['ModelInfer']!.requestSerialize(pixels(images))));
    await new Promise((resolve) => call.once('response', resolve));
    return { session, call };
  }

  it('holds its bytes for no longer than a request may take to arrive', async () => {
    const { port, server } = await startGrpc({
      REQUEST_TIMEOUT_MS: '2000',
      MAX_BODY_BYTES: '8000',
      MAX_BYTES_IN_FLIGHT: '8000',
      DEFAULT_BUDGET_MS: '60000',
    });
    const { session, call } = await askWithoutReading(port, 2);
    const caller = new Caller(port);
    const another = () =>
      caller.call('ModelInfer', pixels(1)).then(
        () => status.OK,
        ({ code }: ServiceError) => code,
      );
    expect(await another()).toBe(status.UNAVAILABLE);
    await expect.poll(another, { timeout: 10_000 }).toBe(status.OK);
    expect(call.closed).toBe(false);
    session.destroy();
    caller.stub.close();
    expect(await server.stop()).toBe(0);
  });

  it.each(['5000', '4000'])('does not fail a drain of %s ms', async (ms) => {
    const { port, server } = await startGrpc({ DRAIN_TIMEOUT_MS: ms });
    const { session } = await askWithoutReading(port);
    expect(await server.stop()).toBe(0);
    session.destroy();
  });
});

describe('gRPC with tokens', () => {
  it('needs one as HTTP does, and not for health', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'depthserve-grpc-'));
    const sha256 = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'; // of "test"
    await writeFile(join(folder, 't.json'), JSON.stringify({ tokens: [{ name: 'a', sha256 }] }));
    const { port, server } = await startGrpc({ TOKENS_FILE: join(folder, 't.json') });
    const caller = new Caller(port);
    const headers = { authorization: 'Bearer test' };
    expect(await caller.call('ServerReady', {})).toEqual({ ready: true });
    expect((await caller.error('ModelInfer', photo())).code).toBe(status.UNAUTHENTICATED);
    expect((await caller.error('ServerMetadata', {})).code).toBe(status.UNAUTHENTICATED);
    const { outputs } = await caller.call('ModelInfer', photo(), { headers, ...within(60_000) });
    expect(outputs).toHaveLength(2);
    caller.stub.close();
    expect(await server.stop()).toBe(0);
    await rm(folder, { recursive: true });
  });
});

it('a port that is taken ends the start, by its name', async () => {
  const server = await startServer({}, { untilReady: false });
  const { code, output } = await failedStart({
    HOST: '127.0.0.1',
    GRPC_PORT: new URL(server.url).port,
  });
  const why = /^depthserve: port \d+ is in use: .* --grpc-port$/m;
  expect([code, output]).toEqual([1, expect.stringMatching(why)]);
  await server.stop();
});
