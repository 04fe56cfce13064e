import type { FastifyRequest } from 'fastify';
import { ServeError } from '../../errors.ts';
import { newAjv, parseJson } from '../../json.ts';
import { refuseUnoffered } from './offered.ts';
import { InferRequest } from './schemas.ts';
import { shown } from './requirements.ts';

/** Deeper than any request needs. */
const DEEPEST = 32;

/** A request taken apart: its JSON, and the bytes that follow it (none: all tensors in JSON). */
export interface Message {
  readonly json: InferRequest;
  readonly binary: Buffer;
}

// Not the server's own validator: that one converts types, and a budget of "true" is none.
const ajv = newAjv();
const validate = ajv.compile<InferRequest>(InferRequest);

/**
 * Bytes of JSON that a body begins with.
 *
 * @throws {ServeError} bad-request
 */
export function jsonLengthOf({ headers }: FastifyRequest): number | undefined {
  const length = headers['inference-header-content-length'];
  if (length === undefined) return undefined;
  if (typeof length === 'string' && /^\d+$/.test(length)) {
    // Before the body is sent; of one that is packed, only the unpacked bytes tell.
    if (headers['content-encoding'] === undefined) {
      assertWithin(Number(length), Number(headers['content-length'] ?? Infinity));
    }
    return Number(length);
  }
  const detail = `Inference-Header-Content-Length is ${shown(length)}, no number of bytes.`;
  throw new ServeError('bad-request', detail);
}

/** @throws {ServeError} bad-request */
function assertWithin(jsonLength: number, bodyLength: number): void {
  if (jsonLength <= bodyLength) return;
  const detail = `Inference-Header-Content-Length is ${jsonLength}, the body has ${bodyLength} bytes.`;
  throw new ServeError('bad-request', detail);
}

/**
 * Splits a body by Triton's binary tensor extension.
 *
 * @param jsonLength what `jsonLengthOf` says; absent: the body is all JSON; 0: there is none, the
 *   body is the input itself.
 * @param rawInput the input of a body without JSON.
 * @throws {ServeError} bad-request, not-offered
 */
export function readMessage(
  body: Buffer,
  jsonLength: number | undefined,
  rawInput: (body: Buffer) => Message,
): Message {
  const end = jsonLength ?? body.length;
  assertWithin(end, body.length);
  if (jsonLength === 0) return rawInput(body);
  let json: unknown;
  try {
    json = parseJson(body.toString('utf8', 0, end));
  } catch (error) {
    throw new ServeError('bad-request', 'The request is not JSON.', { cause: error });
  }
  return { json: checked(json), binary: body.subarray(end) };
}

/** @throws {ServeError} bad-request, not-offered */
export function checked(json: unknown): InferRequest {
  const request = withoutNulls(json);
  if (!validate(request)) {
    const why = ajv.errorsText(validate.errors, { dataVar: 'request' });
    throw new ServeError('bad-request', `${why}.`);
  }
  refuseUnoffered(request);
  return request;
}

/** Clients generated from a schema send `null` for what they leave out; tensors have none. */
function withoutNulls(json: unknown, depth = 1): unknown {
  if (typeof json !== 'object' || json === null) return json;
  if (depth > DEEPEST) {
    throw new ServeError('bad-request', `The request is nested deeper than ${DEEPEST} levels.`);
  }
  if (Array.isArray(json)) return json.map((each) => withoutNulls(each, depth + 1));
  const members = Object.entries(json).filter(([, value]) => value !== null);
  return Object.fromEntries(
    // The values of a tensor may be megabytes, and are judged one by one later.
    members.map(([name, value]) => [
      name,
      name === 'data' ? value : withoutNulls(value, depth + 1),
    ]),
  );
}
