import { Client, Metadata, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import type { GrpcObject } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { callerOf } from '../../src/tracing/traceparent.ts';
import { CAT, classify } from '../http/client.ts';
import { freePorts, startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { Collector } from './collector.ts';
import type { CollectedSpan } from './collector.ts';

const MODEL = 'cifar10-small-resnet';
const PARENT = '00f067aa0ba902b7';
const PATIENT = { 'x-latency-budget-ms': '60000' };
let count = 0;
/** A trace of its own for each test. */
const newTrace = () => (++count).toString(16).padStart(32, 'a');
const header = (traceId: string, flags = '01') => `00-${traceId}-${PARENT}-${flags}`;

/** The log line of the request that belongs to a trace. */
async function lineOf(server: Server, traceId: string): Promise<Record<string, unknown>> {
  for (;;) {
    const lines = server
      .log()
      .split('\n')
      .filter((each) => each.includes(traceId));
    const line = lines.find((each) => each.includes('"msg":"classify"'));
    if (line !== undefined) return JSON.parse(line) as Record<string, unknown>;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const named = (spans: readonly CollectedSpan[], name: string) => {
  const found = spans.filter((span) => span.name === name);
  expect(found, name).toHaveLength(1);
  return found[0]!;
};

describe('traceparent', () => {
  const id = '4bf92f3577b34da6a3ce929d0e0e4736';
  it.each([`00-${id}-${PARENT}-01`, `00-${id}-${PARENT}-00`, `01-${id}-${PARENT}-01-more`])(
    '%s is one',
    (text) => {
      expect(callerOf(text)).toMatchObject({ traceId: id, spanId: PARENT });
    },
  );

  it.each([
    '',
    `ff-${id}-${PARENT}-01`,
    `00-${id}-${PARENT}-01-more`,
    `00-${'0'.repeat(32)}-${PARENT}-01`,
    `00-${id}-${'0'.repeat(16)}-01`,
    `00-${id.toUpperCase()}-${PARENT}-01`,
    `00-${id}-${PARENT}-01, 00-${id}-${PARENT}-01`,
  ])('%j is none', (text) => {
    expect(callerOf(text)).toBeNull();
  });
});

describe('without a collector', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({}, { nodeOptions: ['--import', './test/tracing/forbid.mjs'] });
  });
  afterAll(() => server?.stop());

  it('the log has the ids of the caller, and nothing of OpenTelemetry or gRPC is loaded', async () => {
    const traceId = newTrace();
    await classify(server.url, CAT, { ...PATIENT, traceparent: header(traceId) });
    expect(await lineOf(server, traceId)).toMatchObject({ trace_id: traceId, span_id: PARENT });
  });

  it('a request without traceparent, or with a broken one, is logged as ever', async () => {
    for (const [id, traceparent] of [
      ['none', {}],
      ['broken', { traceparent: '00-1-2-3' }],
    ] as const) {
      await classify(server.url, CAT, { ...PATIENT, 'x-request-id': id, ...traceparent });
      while (!server.log().includes(`"reqId":"${id}"`)) await new Promise(setImmediate);
    }
    expect(server.log().match(/"reqId":"(none|broken)".*trace_id/)).toBeNull();
  });
});

describe('with OTEL_EXPORTER_OTLP_ENDPOINT', () => {
  let collector: Collector;
  let server: Server;
  let grpcPort: number;
  beforeAll(async () => {
    collector = await Collector.start();
    [grpcPort] = (await freePorts(1)) as [number];
    server = await startServer({
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_SERVICE_NAME: 'photos',
      OTEL_BSP_SCHEDULE_DELAY: '50',
      GRPC_PORT: String(grpcPort),
    });
  });
  afterAll(async () => {
    await server?.stop();
    collector?.close();
  });

  it('a request leaves spans of its stages, with tier, budget and batch', async () => {
    const traceId = newTrace();
    const { headers } = await classify(server.url, CAT, {
      ...PATIENT,
      traceparent: header(traceId),
    });
    const spans = await collector.trace(traceId);
    const root = named(spans, 'POST /classify');
    const tier = headers.get('x-sub-network');
    expect(root).toMatchObject({
      parentId: PARENT,
      status: 0,
      resource: { 'service.name': 'photos' },
      attributes: {
        'http.request.method': 'POST',
        'http.route': '/classify',
        'http.response.status_code': 200,
        'depthserve.outcome': 'met',
        'depthserve.budget_ms': 60000,
        'depthserve.tier': tier,
      },
    });
    const stages = ['decoder queue', 'decode', 'queue', 'inference'].map((name) =>
      named(spans, name),
    );
    let last = root.start;
    for (const stage of stages) {
      expect(stage.parentId).toBe(root.spanId);
      expect(stage.attributes).toMatchObject({
        'depthserve.tier': tier,
        'depthserve.budget_ms': 60000,
        'depthserve.batch_size': 1,
      });
      // One after the other, within the request; the clocks' grain aside.
      expect(stage.start).toBeGreaterThanOrEqual(last - 1_000_000n);
      expect(stage.end).toBeGreaterThanOrEqual(stage.start);
      last = stage.end;
    }
    expect(last).toBeLessThanOrEqual(root.end + 1_000_000n);
    expect(await lineOf(server, traceId)).toMatchObject({
      trace_id: traceId,
      span_id: root.spanId,
    });
  });

  it('v2 does, too, for every image', async () => {
    const traceId = newTrace();
    await fetch(`${server.url}/v2/models/${MODEL}/infer`, {
      method: 'POST',
      body: new Uint8Array(2 * 3072),
      headers: { ...PATIENT, 'inference-header-content-length': '0', traceparent: header(traceId) },
    });
    const spans = await collector.trace(traceId);
    expect(named(spans, 'POST /v2/models/:model/infer').parentId).toBe(PARENT);
    const images = spans.filter(({ name }) => name === 'inference');
    expect(images.map(({ attributes }) => attributes['depthserve.image'])).toEqual([0, 1]);
    expect(spans.filter(({ name }) => name === 'decode')).toEqual([]);
  });

  it('gRPC does, too', async () => {
    const traceId = newTrace();
    const loaded = loadPackageDefinition(
      loadSync('src/grpc/inference.proto', { keepCase: true, longs: Number, defaults: true }),
    );
    const Stub = (loaded['inference'] as GrpcObject)['GRPCInferenceService'] as typeof Client;
    const stub = new Stub(`127.0.0.1:${grpcPort}`, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set('traceparent', header(traceId));
    const request = {
      model_name: MODEL,
      inputs: [{ name: 'image', datatype: 'UINT8', shape: [1, 32, 32, 3] }],
      raw_input_contents: [Buffer.alloc(3072)],
    };
    const options = { deadline: Date.now() + 60_000 };
    await new Promise((resolve, reject) => {
      type Infer = (...args: unknown[]) => void;
      (stub as unknown as { ModelInfer: Infer }).ModelInfer(
        request,
        metadata,
        options,
        (error: Error | null, answer: unknown) => (error ? reject(error) : resolve(answer)),
      );
    });
    stub.close();
    const spans = await collector.trace(traceId);
    const root = named(spans, 'inference.GRPCInferenceService/ModelInfer');
    expect(root).toMatchObject({
      parentId: PARENT,
      attributes: { 'rpc.system': 'grpc', 'rpc.grpc.status_code': 0, 'depthserve.outcome': 'met' },
    });
    expect(named(spans, 'inference').parentId).toBe(root.spanId);
    expect(await lineOf(server, traceId)).toMatchObject({ span_id: root.spanId });
  });

  it('what is refused says why', async () => {
    const traceId = newTrace();
    await classify(server.url, CAT, {
      'x-latency-budget-ms': '0.01',
      traceparent: header(traceId),
    });
    expect(await collector.trace(traceId)).toMatchObject([
      {
        name: 'POST /classify',
        status: 2,
        attributes: {
          'http.response.status_code': 503,
          'depthserve.outcome': 'budget-too-small',
          'depthserve.budget_ms': 0.01,
          'error.type': 'budget-too-small',
        },
      },
    ]);
  });

  it('a caller that does not sample is followed', async () => {
    const [unsampled, sampled] = [newTrace(), newTrace()];
    for (const traceparent of [header(unsampled, '00'), header(sampled)]) {
      await classify(server.url, CAT, { ...PATIENT, traceparent });
    }
    await collector.trace(sampled);
    expect(collector.spans.filter(({ traceId }) => traceId === unsampled)).toEqual([]);
  });

  it('a request without traceparent begins a trace, which its log line names', async () => {
    await classify(server.url, CAT, { ...PATIENT, 'x-request-id': 'first' });
    const log = () =>
      server
        .log()
        .split('\n')
        .find((each) => each.includes('"reqId":"first"'));
    while (log() === undefined) await new Promise(setImmediate);
    const { trace_id: traceId } = JSON.parse(log()!) as { trace_id: string };
    expect(named(await collector.trace(traceId), 'POST /classify').parentId).toBe('');
  });
});

it('the collector may be named by a flag, too', async () => {
  const collector = await Collector.start();
  const args = ['serve', '--otel-exporter-otlp-endpoint', collector.url];
  const server = await startServer({ OTEL_BSP_SCHEDULE_DELAY: '50' }, { args });
  const traceId = newTrace();
  await classify(server.url, CAT, { ...PATIENT, traceparent: header(traceId) });
  expect(named(await collector.trace(traceId), 'POST /classify').parentId).toBe(PARENT);
  expect(await server.stop()).toBe(0);
  collector.close();
});

it('a collector that is not there costs nothing but spans', async () => {
  const [nobody] = (await freePorts(1)) as [number];
  const server = await startServer({
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${nobody}`,
  });
  expect((await classify(server.url, CAT, PATIENT)).status).toBe(200);
  expect(await server.stop()).toBe(0);
});
