import { createGunzip, createInflate } from 'node:zlib';
import type { preParsingAsyncHookHandler } from 'fastify';
import { ServeError } from '../../errors.ts';

const DECODERS = { gzip: createGunzip, deflate: createInflate } as const;

/** Unpacks bodies that Triton's clients send compressed; the body limit holds for what comes out. */
export const decompress: preParsingAsyncHookHandler = async (request, _reply, payload) => {
  const encoding = request.headers['content-encoding'];
  if (encoding === undefined || encoding === 'identity') return payload;
  if (encoding !== 'gzip' && encoding !== 'deflate') {
    const detail = 'Content-Encoding may be gzip or deflate.';
    throw new ServeError('unsupported-media-type', detail);
  }
  const decoder = DECODERS[encoding]();
  // Fastify compares this with Content-Length, which counts the compressed bytes.
  Object.defineProperty(decoder, 'receivedEncodedLength', { get: () => decoder.bytesWritten });
  payload.on('error', (error) => decoder.destroy(error));
  decoder.on('error', (error) => Object.assign(error, { statusCode: 400 }));
  return payload.pipe(decoder);
};
