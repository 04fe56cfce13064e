import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { ConnectionError, FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { EngineError } from '../engine/protocol.ts';
import { ServeError, explain, problemOf, statusOf } from '../errors.ts';
import type { ErrorCode, ErrorParts } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Refusal } from '../scheduler/policy.ts';
import { ExpiredError, RefusedError } from '../scheduler/scheduler.ts';
import { commonHeaders } from './common-headers.ts';
import { answerOn } from './connections.ts';

/** Of Fastify's own parsers, which read JSON; bodies that hold images are read by ours. */
const FASTIFY_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body-too-large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported-media-type',
};
const JSON_ADVICE = 'Send application/json of the form and lengths that docs/openapi.json says.';

const TOO_SLOW = 'The request took too long.';

/** Of Node's HTTP server and its parser: the error's code and what happened. */
const CONNECTION_ERRORS: Readonly<Record<string, readonly [ErrorCode, detail: string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: ['request-timeout', TOO_SLOW],
  HPE_HEADER_OVERFLOW: ['headers-too-large', 'The URL and the headers together are too long.'],
  HPE_INVALID_METHOD: ['bad-request', 'The request begins with a method that is not known.'],
};
const NO_REQUEST = ['bad-request', 'The bytes that arrived are no whole HTTP request.'] as const;

/** Which the operators should look into. */
const FAULTS: ReadonlySet<ErrorCode> = new Set(['internal', 'engine-failed']);

/** As `toServeError`; logs what was thrown if the operators should look into it. */
export function logged(thrown: unknown, log: Pick<Log, 'error'>, context: object): ServeError {
  const error = toServeError(thrown);
  // Refusals are the scheduler at work: under load, a stack for each would be a load of its own.
  // Nor is it news to each request that no engine works: the engine's fault was logged.
  if (FAULTS.has(error.code) && error !== thrown) {
    log.error({ ...context, err: thrown }, error.detail);
  }
  return error;
}

/** Turns whatever was thrown into an error with a code; the unknown becomes `internal`. */
export function toServeError(error: unknown): ServeError {
  if (error instanceof ServeError) return error;
  if (error instanceof RefusedError) return fromRefusal(error.refusal);
  if (error instanceof ExpiredError) {
    return new ServeError('deadline-passed', 'The budget ran out before there was an answer.');
  }
  const cause = { cause: error };
  if (error instanceof EngineError) {
    const more = { retryAfterMs: 1000, ...cause };
    return new ServeError('engine-failed', 'The engine could not run the batch.', more);
  }
  const { code, statusCode, message } = error as Partial<FastifyError>;
  const known = code === undefined ? undefined : FASTIFY_CODES[code];
  if (known) {
    return new ServeError(known, `${message}.`, { ...cause, advice: JSON_ADVICE });
  }
  if (code === 'ECONNRESET') {
    return new ServeError('cancelled', 'The client went away before its request was here.');
  }
  if (statusCode === 408) return new ServeError('request-timeout', TOO_SLOW);
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new ServeError('bad-request', `${message}.`, cause);
  }
  return new ServeError('internal', 'Something went wrong here.', cause);
}

/** What an error says of a refusal. */
function partsOf(refusal: Refusal): ErrorParts {
  if (refusal.reason === 'accuracy-unavailable') {
    const detail = 'The accuracy floor is above every sub-network.';
    return ['accuracy-unavailable', detail, {}];
  }
  // Rounded up, so that a caller who sends exactly this is not refused for a fraction.
  const smallestBudgetMs = Math.ceil(refusal.smallestBudgetMs * 10) / 10;
  const extra = { smallestBudgetMs };
  if (refusal.reason === 'overload') {
    const detail = 'Not even the cheapest sub-network can answer within the budget now.';
    return ['overloaded', detail, { extra, retryAfterMs: smallestBudgetMs }];
  }
  // No Retry-After: the same budget fails at any time.
  if (refusal.leftMs === undefined) {
    const detail = 'The budget is shorter than decoding and the cheapest sub-network take.';
    return ['budget-too-small', detail, { extra }];
  }
  const detail =
    `The upload left ${refusal.leftMs.toFixed(1)} ms of the budget, ` +
    'less than decoding and the cheapest sub-network take.';
  const advice = 'Send a budget of at least smallestBudgetMs, or the request faster.';
  return ['budget-too-small', detail, { extra, advice }];
}

export const fromRefusal = (refusal: Refusal) => new ServeError(...partsOf(refusal));

/** For the Retry-After header. */
const wholeSeconds = (ms: number) => Math.ceil(ms / 1000);

/** Logs an error, notes the outcome, and sets what every protocol's answer has in common. */
function settleError(error: unknown, request: FastifyRequest, reply: FastifyReply) {
  const problem = logged(error, request.log, { reqId: request.id });
  request.outcome = problem.code;
  if (problem.retryAfterMs !== undefined) {
    reply.header('retry-after', wholeSeconds(problem.retryAfterMs));
  }
  if (problem.code === 'unauthorized') reply.header('www-authenticate', 'Bearer');
  reply.code(problem.status);
  return { error: problem, document: problemOf(problem, request.id) };
}

const brokenOff = new WeakMap<Socket, ErrorCode>();

/** Why a connection was closed in the middle of a request; undefined: it was not closed by us. */
export const brokenOffFor = (socket: Socket) => brokenOff.get(socket);

/** Of connections whose bytes are no request: answered, as far as anyone listens, and closed. */
export function answerClientError(error: ConnectionError, socket: Socket): void {
  // In the middle of an answer another would be taken for a part of it.
  const canAnswer = socket.writable && !answerOn(socket)?.headersSent;
  if (canAnswer && error.code !== 'ECONNRESET') {
    const problem = new ServeError(...(CONNECTION_ERRORS[error.code] ?? NO_REQUEST));
    // Who ends in the middle of a body has gone away, or wants to hear that it is not whole.
    if (error.code !== 'HPE_INVALID_EOF_STATE') brokenOff.set(socket, problem.code);
    const id = randomUUID();
    const body = JSON.stringify(problemOf(problem, id));
    const headers = commonHeaders(id)
      .concat('content-type', 'application/problem+json', 'connection', 'close')
      .concat('content-length', String(Buffer.byteLength(body)));
    const lines = headers.map((text, i) => text + (i % 2 === 0 ? ': ' : '\r\n')).join('');
    const { status } = problem;
    socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines}\r\n${body}`);
  }
  socket.destroy();
}

/** Bytes of a refused body that are still read, and thrown away. */
const MAX_DISCARDED = 64 * 1024 * 1024;

/**
 * Resolves when the client has sent the rest of a body, within reason. Where the connection closes
 * with the answer, few clients read that before they have sent everything, and none after a reset.
 */
function bodyDiscarded({ raw }: FastifyRequest): Promise<void> {
  return new Promise((resolve) => {
    // One that waits to be told to go on has sent nothing.
    if (raw.complete || raw.destroyed || raw.headers.expect !== undefined) return resolve();
    let left = MAX_DISCARDED;
    raw.unpipe();
    raw.on('data', (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) resolve();
    });
    raw.once('end', resolve).once('close', resolve).resume();
  });
}

/**
 * The answer to an upload that is too slow or too large leaves at once, but the client is still
 * sending: a connection that is closed now would be reset, and the client would see that instead of
 * the answer. What it sends on is read and thrown away, for as long as a request may take.
 */
function keepWhileSending(
  { code }: ServeError,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  if (code !== 'deadline-passed' && code !== 'body-too-large') return;
  reply.removeHeader('connection');
  request.raw.resume();
}

/**
 * Refuses a request whose body has not been read, by the shortest way: under overload many requests
 * are answered so. Fastify's way from an error to an answer takes several times as long; an error
 * is not even made.
 */
export function refuseEarly(
  refusal: Refusal,
  request: FastifyRequest,
  reply: FastifyReply,
  isClosing: boolean,
): void {
  const [code, detail, { extra = {}, retryAfterMs, advice }] = partsOf(refusal);
  request.outcome = code;
  const explanation = explain(code, detail, advice);
  const body = JSON.stringify(problemOf({ code, explanation, extra }, request.id));
  const head = commonHeaders(request.id);
  head.push('content-type', 'application/problem+json; charset=utf-8');
  head.push('content-length', String(Buffer.byteLength(body)));
  if (retryAfterMs !== undefined) head.push('retry-after', String(wholeSeconds(retryAfterMs)));
  // A connection kept alive would hold the drain up until it times out.
  if (isClosing) head.push('connection', 'close');
  for (const [name, value] of Object.entries(reply.getHeaders())) head.push(name, String(value));
  reply.hijack();
  reply.raw.writeHead(statusOf(code), head);
  reply.raw.end(body);
}

/**
 * An error handler of Fastify's.
 *
 * @param bodyOf what is sent, as JSON.
 */
export function errorHandler(
  type: string,
  bodyOf: (settled: ReturnType<typeof settleError>) => object,
) {
  return async (
    error: unknown,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<FastifyReply> => {
    const settled = settleError(error, request, reply);
    const isClosed = !reply.raw.shouldKeepAlive;
    if (isClosed && settled.error.code === 'body-too-large') await bodyDiscarded(request);
    keepWhileSending(settled.error, request, reply);
    return reply.type(type).serializer(JSON.stringify).send(bodyOf(settled));
  };
}

/** Errors leave as problem+json. */
export const answerError = errorHandler('application/problem+json', ({ document }) => document);
