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

  // Not async: the parser must listen before the first bytes can fail.
  app.addHook('preParsing', (_request, reply, payload, done) => {
    let mine = 0;
    let over = false;
    reply.raw.once('close', () => {
      held -= mine;
      over = true;
    });
    const counted: Transform & RequestPayload = new Transform({
      transform(chunk: Buffer, _encoding, passOn) {
        mine += chunk.length;
        if (!over) held += chunk.length;
        if (held <= maxBytes) passOn(null, chunk);
        else passOn(new ServeError('overloaded', 'Too many uploads are under way.', {}, 1000));
      },
    });
    // Fastify compares this with Content-Length.
    Object.defineProperty(counted, 'receivedEncodedLength', { get: () => mine });
    payload.on('error', (error) => counted.destroy(error));
    // A body that is given up must not be left standing in its connection.
    counted.on('error', () => payload.unpipe(counted).resume());
    done(null, payload.pipe(counted));
  });
}
