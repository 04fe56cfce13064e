import cors from '@fastify/cors';
import type { FastifyInstance } from 'fastify';
import { ConfigError } from '../config.ts';

/** Request headers that this service reads and browsers do not send without asking. */
const READ = [
  'Authorization',
  'Content-Encoding',
  'Content-Type',
  'Endpoint-Load-Metrics-Format',
  'Inference-Header-Content-Length',
  'Traceparent',
  'Tracestate',
  'X-Latency-Budget-Ms',
  'X-Min-Accuracy',
  'X-Min-Confidence',
  'X-Request-Id',
];

/** Headers of answers that browsers keep from scripts without being told. */
const WRITTEN = [
  'Allow',
  'Endpoint-Load-Metrics',
  'Inference-Header-Content-Length',
  'Retry-After',
  'Server-Timing',
  'WWW-Authenticate',
  'X-Request-Id',
  'X-Sub-Network',
];

/** How long a browser may remember that it asked, in s: each time costs a round trip. */
const REMEMBERED_S = 7200;

/**
 * Lets scripts of pages from other origins use the service. To be called before the hooks that
 * refuse requests: a browser asks first (preflight), without a token, and must be able to read why
 * it was refused.
 *
 * @param text CORS_ORIGINS.
 * @throws {ConfigError} for what is no origin.
 */
export async function allowOrigins(app: FastifyInstance, text: string): Promise<void> {
  const origins = originsOf(text);
  if (origins.size === 0) return;
  await app.register(cors, {
    origin(origin, decide) {
      // Others are answered as if there were no CORS.
      const isAllowed = origin && (origins.has('*') || origins.has(origin));
      decide(null, isAllowed ? origin : false);
    },
    methods: ['GET', 'HEAD', 'POST'],
    allowedHeaders: READ,
    exposedHeaders: WRITTEN,
    maxAge: REMEMBERED_S,
    strictPreflight: false,
  });
}

/** @throws {ConfigError} for what is no origin. */
export function originsOf(text: string): ReadonlySet<string> {
  const names = text.split(',').map((name) => name.trim());
  return new Set(names.filter((name) => name !== '').map((name) => originOf(name)));
}

function originOf(name: string): string {
  if (name === '*') return name;
  const url = URL.canParse(name) && !name.includes('*') ? new URL(name) : null;
  // As browsers write it: in lower case, without the port that is the scheme's.
  if (url && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/`) return url.origin;
  throw new ConfigError(`CORS_ORIGINS: ${name} is no origin like https://app.example, nor *`);
}
