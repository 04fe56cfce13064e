import { Ajv } from 'ajv';
import { ServeError } from '../../errors.ts';
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
 * @param jsonLength the header Inference-Header-Content-Length; absent: the body is all JSON.
 * @throws {ServeError} bad-request
 */
export function readMessage(body: Buffer, jsonLength: string | undefined): Message {
  const end = jsonLength === undefined ? body.length : Number(jsonLength);
  if (jsonLength !== undefined && (!/^\d+$/.test(jsonLength) || end > body.length)) {
    throw new ServeError(
      'bad-request',
      `Inference-Header-Content-Length is ${jsonLength.slice(0, 20)}, the body has ${body.length} bytes.`,
    );
  }
  let json: unknown;
  try {
    json = JSON.parse(withoutBom(body.toString('utf8', 0, end)));
  } catch (error) {
    throw new ServeError('bad-request', 'The request is not JSON.', {}, undefined, {
      cause: error,
    });
  }
  if (!validate(json)) {
    const why = ajv.errorsText(validate.errors, { dataVar: 'request' });
    throw new ServeError('bad-request', `${why}.`);
  }
  return { json, binary: body.subarray(end) };
}
