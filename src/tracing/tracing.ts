/** Spans of requests, sent by OTLP over HTTP. Loaded only where a collector is named. */
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { Attributes, Context, Span, Tracer } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { performance } from 'node:perf_hooks';
import { ConfigError } from '../config.ts';
import type { Classified } from '../telemetry/recorder.ts';
import type { Caller } from './traceparent.ts';
import type { RequestEnd, RequestTrace, Tracing } from './trace.ts';

/** Longest wait for the last spans to leave at shutdown, in ms. */
const LAST_FLUSH_MS = 2000;

/** Of `performance.now()`, what the SDK takes. */
const epoch = (at: number) => performance.timeOrigin + at;

/**
 * Endpoint, headers, sampling and batching are the SDK's own settings (`OTEL_…`), which it reads from
 * the environment.
 *
 * @param endpoint the SDK would keep silent about one that it cannot use.
 * @throws {ConfigError} for what is no URL.
 */
export function startTracing(version: string, endpoint: string): Tracing {
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol)) {
    const detail = `${endpoint} is no URL like http://collector:4318`;
    throw new ConfigError(`OTEL_EXPORTER_OTLP_ENDPOINT: ${detail}`);
  }
  // It may have been given as a flag.
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = endpoint;
  const own = resourceFromAttributes({ 'service.name': 'depthserve', 'service.version': version });
  const provider = new BasicTracerProvider({
    resource: own.merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  const tracer = provider.getTracer('depthserve', version);
  return {
    begin: (name, attributes, arrivedAt, caller) =>
      new RequestSpan(tracer, name, attributes, arrivedAt, caller),
    async close() {
      // A collector that does not answer must not hold the shutdown up.
      const patience = new Promise((resolve) => setTimeout(resolve, LAST_FLUSH_MS).unref());
      await Promise.race([provider.shutdown().catch(() => {}), patience]);
    },
  };
}

class RequestSpan implements RequestTrace {
  readonly #tracer: Tracer;
  readonly #span: Span;
  readonly #context: Context;

  constructor(
    tracer: Tracer,
    name: string,
    attributes: Attributes,
    arrivedAt: number,
    caller: Caller | null,
  ) {
    this.#tracer = tracer;
    const parent = caller
      ? trace.setSpanContext(ROOT_CONTEXT, {
          traceId: caller.traceId,
          spanId: caller.spanId,
          traceFlags: caller.flags,
          isRemote: true,
        })
      : ROOT_CONTEXT;
    const options = { kind: SpanKind.SERVER, startTime: epoch(arrivedAt), attributes };
    this.#span = tracer.startSpan(name, options, parent);
    this.#context = trace.setSpan(ROOT_CONTEXT, this.#span);
  }

  get ids() {
    const { traceId, spanId } = this.#span.spanContext();
    return { trace_id: traceId, span_id: spanId };
  }

  ran(results: readonly Classified[], budgetMs: number): void {
    this.#span.setAttribute('depthserve.images', results.length);
    if (!this.#span.isRecording()) return;
    results.forEach((result, image) => {
      const { tier, looks, stages } = result;
      const common = {
        'depthserve.image': image,
        'depthserve.tier': tier.skip,
        'depthserve.budget_ms': budgetMs,
        'depthserve.batch_size': looks.at(-1)!.batchSize,
      };
      const { enteredAt, decodedAt, finishedAt } = stages;
      const ranFrom = finishedAt - result.inferenceMs;
      if (result.decodeMs > 0) {
        const from = decodedAt - result.decodeMs;
        this.#child('decoder queue', enteredAt, from, common);
        this.#child('decode', from, decodedAt, common);
      }
      this.#child('queue', decodedAt, ranFrom, common);
      this.#child('inference', ranFrom, finishedAt, {
        ...common,
        'depthserve.expected_accuracy': tier.accuracy,
        'depthserve.predicted_ms': result.predictedMs,
      });
    });
  }

  asks(budgetMs: number): void {
    this.#span.setAttribute('depthserve.budget_ms', budgetMs);
  }

  end({ outcome, isFault, subNetwork, attributes }: RequestEnd): void {
    this.#span.setAttributes({
      ...attributes,
      ...(outcome !== null && { 'depthserve.outcome': outcome }),
      ...(subNetwork !== undefined && { 'depthserve.tier': subNetwork }),
    });
    if (isFault) {
      this.#span.setAttribute('error.type', outcome ?? 'internal');
      this.#span.setStatus({ code: SpanStatusCode.ERROR });
    }
    this.#span.end(epoch(performance.now()));
  }

  #child(name: string, from: number, to: number, attributes: Attributes): void {
    const startTime = epoch(from);
    this.#tracer
      .startSpan(name, { startTime, attributes }, this.#context)
      .end(epoch(Math.max(from, to)));
  }
}
