import { performance } from 'node:perf_hooks';
import { Transform } from 'node:stream';
import type { Readable } from 'node:stream';
import * as zlib from 'node:zlib';
import type { FastifyInstance, FastifyRequest, RequestPayload } from 'fastify';
import { ServeError } from '../errors.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** When the body must be here, as `performance.now()`: its budget is used up then. */
    uploadDue: number | null;
  }
}

/** By the names of Content-Encoding, in lower case; zstd where this Node has it. */
const DECODERS: Readonly<Record<string, (() => Transform & { bytesWritten: number }) | undefined>> =
  {
    gzip: zlib.createGunzip,
    'x-gzip': zlib.createGunzip,
    deflate: zlib.createInflate,
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
export class Intake {
  #held = 0;

  constructor(private readonly maxBytes: number) {}

  /** @throws {ServeError} overloaded; the bytes count nevertheless until they are given back. */
  take(bytes: number): void {
    this.#held += bytes;
    if (this.#held > this.maxBytes) {
      throw new ServeError('overloaded', 'Too many uploads are under way.', {}, 1000);
    }
  }

  giveBack(bytes: number): void {
    this.#held -= bytes;
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

/**
 * Unpacks bodies, and has them count.
 *
 * @param maxBody bytes of one.
 */
export function limitIntake(app: FastifyInstance, intake: Intake, maxBody: number): void {
  // Not async: the parser must listen before the first bytes can fail.
  app.addHook('preParsing', (request, reply, payload, done) => {
    let mine = 0;
    let over = false;
    reply.raw.once('close', () => {
      intake.giveBack(mine);
      over = true;
    });
    const counted: Transform & RequestPayload = new Transform({
      transform(chunk: Buffer, _encoding, passOn) {
        try {
          if (!over) {
            mine += chunk.length;
            intake.take(chunk.length);
          }
          if (mine > maxBody) throw tooLarge(maxBody);
        } catch (error) {
          passOn(error as ServeError);
          return;
        }
        passOn(null, chunk);
      },
    });
    let unpacked: Unpacked;
    try {
      // Before it is sent, where it is announced.
      if (Number(request.headers['content-length']) > maxBody) throw tooLarge(maxBody);
      unpacked = unpack(request, payload);
    } catch (error) {
      done(error as ServeError);
      return;
    }
    // Fastify compares this with Content-Length, which counts the bytes on the wire.
    Object.defineProperty(counted, 'receivedEncodedLength', {
      get: () => unpacked.bytesOnWire?.() ?? mine,
    });
    watchUpload(request, counted);
    payload.on('error', (error) => counted.destroy(error));
    if (unpacked.body !== payload) unpacked.body.on('error', (error) => counted.destroy(error));
    // A body that is given up must not be left standing in its connection.
    counted.on('error', () => {
      unpacked.body.unpipe(counted).resume();
      if (unpacked.body !== payload) payload.unpipe().resume();
    });
    done(null, unpacked.body.pipe(counted));
  });
}

/** Ends an upload that takes longer than the request's budget. */
function watchUpload({ uploadDue }: FastifyRequest, body: Transform): void {
  if (uploadDue === null) return;
  const late = new ServeError('deadline-passed', 'The upload took longer than the budget.');
  const timer = setTimeout(() => body.destroy(late), uploadDue - performance.now());
  body.once('end', () => clearTimeout(timer)).once('close', () => clearTimeout(timer));
}

const tooLarge = (maxBody: number) =>
  new ServeError('body-too-large', `The body has more than ${maxBody} bytes.`);

interface Unpacked {
  readonly body: Readable;
  readonly bytesOnWire?: () => number;
}

/** @throws {ServeError} unsupported-media-type */
function unpack(request: FastifyRequest, payload: Readable): Unpacked {
  const encoding = request.headers['content-encoding']?.trim().toLowerCase();
  if (encoding === undefined || encoding === '' || encoding === 'identity') {
    return { body: payload };
  }
  const create = Object.hasOwn(DECODERS, encoding) ? DECODERS[encoding] : undefined;
  if (!create) {
    const taken = ['identity', ...Object.keys(DECODERS)].join(', ');
    const detail = `Content-Encoding is ${encoding.slice(0, 40)}, not one of ${taken}.`;
    throw new ServeError('unsupported-media-type', detail);
  }
  const decoder = create();
  payload.on('error', (error) => decoder.destroy(error));
  const body = payload.pipe(decoder);
  decoder.on('error', (cause) => Object.assign(cause, { statusCode: 400 }));
  return { body, bytesOnWire: () => decoder.bytesWritten };
}
