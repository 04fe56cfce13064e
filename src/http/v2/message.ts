import { Ajv } from 'ajv';
import { ServeError } from '../../errors.ts';
import { refuseUnoffered } from './offered.ts';
import { InferRequest } from './schemas.ts';

/** Some editors and frameworks begin UTF-8 with a byte order mark. */
const withoutBom = (text: string) => text.replace(/^\uFEFF/, '');

/** A request taken apart: its JSON, and the bytes that follow it (none: all tensors in JSON). */
export interface Message {
  readonly json: InferRequest;
  readonly binary: Buffer;
}

// Not the server's own validator: that one converts types, and a budget of "true" is none.
const ajv = new Ajv({ strict: false });
const validate = ajv.compile<InferRequest>(InferRequest);

/**
 * Splits a body by Triton's binary tensor extension.
 *
 * @param jsonLength the header Inference-Header-Content-Length; absent: the body is all JSON; 0:
 *   there is none, the body is the input itself.
 * @param rawInput the input of a body without JSON.
 * @throws {ServeError} bad-request, not-offered
 */
export function readMessage(
  body: Buffer,
  jsonLength: string | undefined,
  rawInput: (body: Buffer) => Message,
): Message {
  const end = jsonLength === undefined ? body.length : Number(jsonLength);
  if (jsonLength !== undefined && (!/^\d+$/.test(jsonLength) || end > body.length)) {
    throw new ServeError(
      'bad-request',
      `Inference-Header-Content-Length is ${jsonLength.slice(0, 20)}, the body has ${body.length} bytes.`,
    );
  }
  if (jsonLength !== undefined && end === 0) return rawInput(body);
  let json: unknown;
  try {
    json = JSON.parse(withoutBom(body.toString('utf8', 0, end)));
  } catch (error) {
    throw new ServeError('bad-request', 'The request is not JSON.', {}, undefined, {
      cause: error,
    });
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
function withoutNulls(json: unknown): unknown {
  if (Array.isArray(json)) return json.map((each) => withoutNulls(each));
  if (typeof json !== 'object' || json === null) return json;
  const members = Object.entries(json).filter(([, value]) => value !== null);
  return Object.fromEntries(
    // The values of a tensor may be megabytes, and are judged one by one later.
    members.map(([name, value]) => [name, name === 'data' ? value : withoutNulls(value)]),
  );
}
