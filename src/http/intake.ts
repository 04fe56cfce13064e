import { Transform } from 'node:stream';
import type { FastifyInstance, RequestPayload } from 'fastify';
import { ServeError } from '../errors.ts';

/**
 * Bounds the bytes of all bodies that the service holds, from their arrival to the answer. Bytes
 * count when they arrive, not when they are announced: a client that only promises takes no one's
 * place.
 *
 * @param maxBytes of all bodies together.
 */
export function limitIntake(app: FastifyInstance, maxBytes: number): void {
  let held = 0;

  app.addHook('preParsing', async (_request, reply, payload) => {
    let mine = 0;
    let over = false;
    reply.raw.once('close', () => {
      held -= mine;
      over = true;
    });
    const counted: Transform & RequestPayload = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        mine += chunk.length;
        if (!over) held += chunk.length;
        if (held <= maxBytes) done(null, chunk);
        else done(new ServeError('overloaded', 'Too many uploads are under way.', {}, 1000));
      },
    });
    // Fastify compares this with Content-Length.
    Object.defineProperty(counted, 'receivedEncodedLength', { get: () => mine });
    payload.on('error', (error) => counted.destroy(error));
    // A body that is given up must not be left standing in its connection.
    counted.on('error', () => payload.unpipe(counted).resume());
    return payload.pipe(counted);
  });
}
