import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { loadSync } from '@grpc/proto-loader';
import type { ServiceDefinition } from '@grpc/proto-loader';

export interface CollectedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty: it has no parent. */
  readonly parentId: string;
  /** ns since 1970. */
  readonly start: bigint;
  readonly end: bigint;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** 2: an error. */
  readonly status: number;
  readonly resource: Readonly<Record<string, unknown>>;
}

interface KeyValue {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>> & { readonly value: string };
}

interface Export {
  readonly resource_spans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] };
    readonly scope_spans: readonly {
      readonly spans: readonly {
        readonly name: string;
        readonly trace_id: Buffer;
        readonly span_id: Buffer;
        readonly parent_span_id: Buffer;
        readonly start_time_unix_nano: string;
        readonly end_time_unix_nano: string;
        readonly attributes: readonly KeyValue[];
        readonly status: { readonly code: number } | null;
      }[];
    }[];
  }[];
}

const definition = loadSync('test/tracing/otlp.proto', {
  keepCase: true,
  longs: String,
  defaults: true,
  oneofs: true,
});
const service = definition['opentelemetry.TraceService'] as ServiceDefinition;
const decode = (body: Buffer) => service['Export']!.requestDeserialize(body) as unknown as Export;

/** Takes spans as an OpenTelemetry collector does: OTLP over HTTP, in protobuf. */
export class Collector {
  readonly spans: CollectedSpan[] = [];
  readonly #server = createServer((request, answer) => {
    void this.#take(request).then((status) => answer.writeHead(status).end());
  });

  static async start(): Promise<Collector> {
    const collector = new Collector();
    collector.#server.listen(0, '127.0.0.1');
    await once(collector.#server, 'listening');
    return collector;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** @returns when a span of this trace has come that has no parent among the others. */
  async trace(traceId: string): Promise<readonly CollectedSpan[]> {
    for (;;) {
      const spans = this.spans.filter((span) => span.traceId === traceId);
      const ids = new Set(spans.map(({ spanId }) => spanId));
      if (spans.some(({ parentId }) => !ids.has(parentId))) return spans;
      await once(this.#server, 'request');
      await new Promise(setImmediate);
    }
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #take(request: IncomingMessage): Promise<number> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const type = request.headers['content-type'];
    if (request.url !== '/v1/traces' || type !== 'application/x-protobuf') return 415;
    const body = Buffer.concat(chunks);
    const isPacked = request.headers['content-encoding'] === 'gzip';
    for (const { resource, scope_spans: scopes } of decode(isPacked ? gunzipSync(body) : body)
      .resource_spans) {
      for (const span of scopes.flatMap(({ spans }) => spans)) {
        this.spans.push({
          name: span.name,
          traceId: span.trace_id.toString('hex'),
          spanId: span.span_id.toString('hex'),
          parentId: span.parent_span_id.toString('hex'),
          start: BigInt(span.start_time_unix_nano),
          end: BigInt(span.end_time_unix_nano),
          attributes: valuesOf(span.attributes),
          status: span.status?.code ?? 0,
          resource: valuesOf(resource.attributes),
        });
      }
    }
    return 200;
  }
}

function valuesOf(attributes: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => {
      const held = value[value.value];
      return [key, value.value === 'int_value' ? Number(held) : held];
    }),
  );
}
