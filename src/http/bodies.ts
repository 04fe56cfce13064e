import { performance } from 'node:perf_hooks';
import { Transform } from 'node:stream';
import type { Readable } from 'node:stream';
import * as zlib from 'node:zlib';
import type { FastifyInstance, FastifyRequest, RequestPayload } from 'fastify';
import { ServeError, uploadLate } from '../errors.ts';
import { FORM_TYPE } from './images.ts';
import type { SharedCounter } from './shared-counter.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** When the body must be here, as `performance.now()`: its budget is used up then. */
    uploadDue: number | null;
  }
}

/** By the names of Content-Encoding, in lower case; zstd where this Node has it. */
const DECODERS: Readonly<Record<string, CreateDecoder | undefined>> = {
  gzip: zlib.createGunzip,
  'x-gzip': zlib.createGunzip,
  deflate: () => new Inflate(),
  br: zlib.createBrotliDecompress,
  ...('createZstdDecompress' in zlib && {
    zstd: zlib.createZstdDecompress as typeof zlib.createGunzip,
  }),
};

/**
 * Bounds the bytes of all bodies that the service holds, from their arrival to the answer. What
 * counts are the unpacked bytes, when they are there and not when they are announced: a client that
 * only promises takes no one's place.
 */
export class BytesInFlight {
  constructor(
    private readonly maxBytes: number,
    private readonly held: SharedCounter,
  ) {}

  /** @throws {ServeError} overloaded; the bytes count nevertheless until they are given back. */
  take(bytes: number): void {
    this.held.add(bytes);
    if (this.held.total > this.maxBytes) {
      // No budget helps.
      const more = { retryAfterMs: 1000, advice: 'Retry after the Retry-After header.' };
      throw new ServeError('overloaded', 'Too many uploads are under way.', more);
    }
  }

  giveBack(bytes: number): void {
    this.held.add(-bytes);
  }

  /**
   * Takes a whole body at once.
   *
   * @returns gives it back.
   * @throws {ServeError} overloaded
   */
  hold(bytes: number): () => void {
    try {
      this.take(bytes);
    } catch (error) {
      this.giveBack(bytes);
      throw error;
    }
    return () => this.giveBack(bytes);
  }
}

/** A body that is read whole, by `readWhole`; all others are passed on as a stream. */
const isReadWhole = (request: FastifyRequest) =>
  request.routeOptions.config.classifies === true &&
  !request.headers['content-type']?.trimStart().toLowerCase().startsWith(FORM_TYPE);

/**
 * Unpacks bodies that are passed on as streams, and has them count.
 *
 * @param maxBody bytes of one.
 */
export function limitBodies(app: FastifyInstance, inFlight: BytesInFlight, maxBody: number): void {
  // Not async: the parser must listen before the first bytes can fail.
  app.addHook('preParsing', (request, _reply, payload, done) => {
    let createDecoder: CreateDecoder | null;
    try {
      // Before the client is told to go on.
      createDecoder = decoderOf(request, maxBody);
    } catch (error) {
      done(error as ServeError);
      return;
    }
    if (isReadWhole(request)) {
      done(null, payload);
      return;
    }
    const account = new Account(request, inFlight, maxBody);
    const counted: Transform & RequestPayload = new Transform({
      transform(chunk: Buffer, _encoding, passOn) {
        try {
          account.add(chunk.length);
        } catch (error) {
          passOn(error as ServeError);
          return;
        }
        passOn(null, chunk);
      },
    });
    const decoder = createDecoder?.() ?? null;
    const unpacked = unpack(request, payload, decoder);
    // Fastify compares this with Content-Length, which counts the bytes on the wire.
    Object.defineProperty(counted, 'receivedEncodedLength', {
      get: () => decoder?.bytesWritten ?? account.bytes,
    });
    const stopWatching = watchUpload(request, (late) => counted.destroy(late));
    counted.once('end', stopWatching).once('close', stopWatching);
    payload.on('error', (error) => counted.destroy(error));
    decoder?.on('error', (error) => counted.destroy(error));
    // What nobody reads must not be left standing in its connection.
    const throwAway = () => {
      unpacked.unpipe(counted).resume();
      if (decoder) payload.unpipe().resume();
    };
    counted.on('error', throwAway);
    request.atClose.push(throwAway);
    done(null, unpacked.pipe(counted));
  });
}

/**
 * A parser for Fastify: the body, unpacked and counted, in one piece. It does without the streams
 * that a parser of Fastify's own would be given: they would cost more than all else here.
 *
 * @param maxBody bytes of one.
 */
export function readWhole(inFlight: BytesInFlight, maxBody: number) {
  return (
    request: FastifyRequest,
    payload: Readable,
    done: (e: Error | null, b?: Buffer) => void,
  ) => {
    const account = new Account(request, inFlight, maxBody);
    const chunks: Buffer[] = [];
    const decoder = decoderOf(request, maxBody)?.() ?? null;
    const body = unpack(request, payload, decoder);
    let isOver = false;
    let stopWatching = () => {};
    const end = (error: Error | null) => {
      if (isOver) return;
      isOver = true;
      stopWatching();
      // What still comes is thrown away: it must not be left standing in its connection.
      if (error && decoder) {
        payload.unpipe().resume();
        decoder.destroy();
      }
      if (error) done(error);
      else done(null, chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
    };
    stopWatching = watchUpload(request, end);
    body.on('data', (chunk: Buffer) => {
      if (isOver) return;
      try {
        account.add(chunk.length);
        chunks.push(chunk);
      } catch (error) {
        end(error as ServeError);
      }
    });
    body.on('end', () => end(null)).on('error', end);
    if (decoder) payload.on('error', end);
  };
}

/** The bytes of one request's body, given back when its connection is through with it. */
class Account {
  bytes = 0;
  #isClosed = false;

  constructor(
    request: FastifyRequest,
    private readonly inFlight: BytesInFlight,
    private readonly maxBody: number,
  ) {
    request.atClose.push(() => {
      inFlight.giveBack(this.bytes);
      this.#isClosed = true;
    });
  }

  /** @throws {ServeError} body-too-large, overloaded */
  add(bytes: number): void {
    if (!this.#isClosed) {
      this.bytes += bytes;
      this.inFlight.take(bytes);
    }
    if (this.bytes > this.maxBody) throw tooLarge(this.maxBody);
  }
}

/** Ends an upload that takes longer than the request's budget. @returns stops that. */
function watchUpload({ uploadDue }: FastifyRequest, end: (late: ServeError) => void): () => void {
  if (uploadDue === null) return () => {};
  const timer = setTimeout(() => end(uploadLate()), Math.max(0, uploadDue - performance.now()));
  return () => clearTimeout(timer);
}

const tooLarge = (maxBody: number) =>
  new ServeError('body-too-large', `The body has more than ${maxBody} bytes.`);

type Decoder = Transform & { readonly bytesWritten: number };
type CreateDecoder = () => Decoder;

/**
 * Deflate in zlib's frame, as HTTP wants it (RFC 9110, 8.4.1.2), or bare, as some clients send it:
 * the first byte tells.
 */
class Inflate extends Transform {
  bytesWritten = 0;
  #inner: zlib.Inflate | zlib.InflateRaw | null = null;

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.bytesWritten += chunk.length;
    this.#inner ??= this.#open((chunk[0]! & 0x0f) === ZLIB_DEFLATE);
    this.#inner.write(chunk, done);
  }

  override _flush(done: () => void): void {
    const inner = this.#inner ?? this.#open(true);
    // It has ended already where bytes follow that are not its own.
    if (inner.readableEnded) done();
    else inner.once('end', done).end();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#inner?.destroy();
    done(error);
  }

  #open(hasFrame: boolean): zlib.Inflate | zlib.InflateRaw {
    const inner = hasFrame ? zlib.createInflate() : zlib.createInflateRaw();
    inner
      .on('data', (bytes: Buffer) => this.push(bytes))
      .on('error', (error) => this.destroy(error));
    return inner;
  }
}

/** The method in the first byte of zlib's frame (RFC 1950, 2.2). */
const ZLIB_DEFLATE = 8;

/**
 * What unpacks the body of a request; null: it is not packed.
 *
 * @throws {ServeError} unsupported-media-type; body-too-large, where the head says so
 */
function decoderOf({ headers }: FastifyRequest, maxBody: number): CreateDecoder | null {
  if (Number(headers['content-length']) > maxBody) throw tooLarge(maxBody);
  const header = headers['content-encoding'];
  if (header === undefined) return null;
  // A list; empty elements mean nothing (RFC 9110, 5.6.1), nor does identity.
  const encodings = header.split(',').map((each) => each.trim().toLowerCase());
  const [encoding, ...more] = encodings.filter((each) => each !== '' && each !== 'identity');
  if (encoding === undefined) return null;
  const create = Object.hasOwn(DECODERS, encoding) ? DECODERS[encoding] : undefined;
  if (create && more.length === 0) return create;
  const taken = Object.keys(DECODERS).join(', ');
  const detail = `Content-Encoding is ${header.slice(0, 40)}, not identity or one of ${taken}.`;
  const advice = 'Send the body packed by one of these, or as it is.';
  throw new ServeError('unsupported-media-type', detail, { advice });
}

function unpack(request: FastifyRequest, payload: Readable, decoder: Decoder | null): Readable {
  if (!decoder) return payload;
  payload.on('error', (error) => decoder.destroy(error));
  decoder.on('error', (error) => {
    if (error === payload.errored) return;
    const encoding = request.headers['content-encoding'];
    const message = `The body is not what its Content-Encoding, ${encoding}, says: ${error.message}`;
    Object.assign(error, { statusCode: 400, message });
  });
  return payload.pipe(decoder);
}
