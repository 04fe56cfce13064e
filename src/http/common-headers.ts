import { randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Serving } from './serving.ts';

const SECURITY = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
};
const SECURITY_PAIRS: readonly string[] = Object.entries(SECURITY).flat();

/** Headers that every answer has: for one that is written past Fastify, as names and values. */
export const commonHeaders = (requestId: string): string[] => [
  'x-request-id',
  requestId,
  ...SECURITY_PAIRS,
];

/** The caller's own id of a request, where it is fit for a log; else a new one. */
export const requestIdOf = (given: unknown): string =>
  typeof given === 'string' && /^[\w.-]{1,128}$/.test(given) ? given : randomUUID();

/**
 * Content-Security-Policy of a page that needs nothing from elsewhere.
 *
 * @param pictures where they may come from beside this server.
 */
export const pagePolicy = (pictures: string): string =>
  [
    "default-src 'none'",
    ...['script-src', 'style-src', 'connect-src'].map((kind) => `${kind} 'self'`),
    `img-src 'self' ${pictures}`,
    ...['base-uri', 'form-action', 'frame-ancestors'].map((kind) => `${kind} 'none'`),
  ].join('; ');

type Closing = Pick<Serving, 'isClosing'>;

/** Sets them when an answer leaves: those that are refused early do without Fastify's way. */
export function setCommonHeaders(app: FastifyInstance, service: Closing): void {
  app.addHook('onSend', (request, reply, payload, done) => {
    stamp(request, reply, service);
    done(null, payload);
  });
}

/** Sets them for an answer to which no hook is told. */
export function stamp({ id }: FastifyRequest, reply: FastifyReply, { isClosing }: Closing): void {
  reply.header('x-request-id', id).headers(SECURITY);
  // A connection kept alive would hold the drain up until it times out.
  if (isClosing) reply.header('connection', 'close');
}
