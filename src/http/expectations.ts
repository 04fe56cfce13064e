import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { ServeError } from '../errors.ts';

/** Requests whose clients wait for `100 Continue` before they send the body. */
const waiting = new WeakSet<IncomingMessage>();

const isContinue = (expectation: string) => expectation.trim().toLowerCase() === '100-continue';

/** `headers` has the first one only. */
function countHosts({ rawHeaders }: IncomingMessage): number {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    if (name.length === 4 && name.toLowerCase() === 'host') count++;
  }
  return count;
}

/**
 * A client that sends `Expect: 100-continue` is told to go on only when its body is about to be
 * read: what the head alone decides is answered before megabytes are sent. Other expectations, and
 * requests that do not say, once, which host they are for, are refused. HTTP/1.0 knows neither.
 */
export function meetExpectations(app: FastifyInstance): void {
  app.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    if (request.httpVersion === '1.1') waiting.add(request);
    app.server.emit('request', request, response);
  });
  app.server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    app.server.emit('request', request, response);
  });
  app.addHook('onRequest', ({ raw }, reply, done) => {
    // Whether the body will be sent after an answer without 100 is the client's choice.
    if (waiting.has(raw)) reply.header('connection', 'close');
    if (raw.httpVersion !== '1.1') return done();
    const { expect, host } = raw.headers;
    if (expect && !expect.split(',').every(isContinue)) {
      const detail = `Expect is ${JSON.stringify(expect.slice(0, 40))}.`;
      done(new ServeError('expectation-failed', detail));
    } else if (host === undefined) {
      done(new ServeError('bad-request', 'The request has no Host.'));
    } else if (countHosts(raw) > 1) {
      done(new ServeError('bad-request', 'The request has more than one Host.'));
    } else {
      done();
    }
  });
  app.addHook('preParsing', ({ raw }, reply, payload, done) => {
    if (waiting.delete(raw)) {
      reply.removeHeader('connection');
      reply.raw.writeContinue();
    }
    done(null, payload);
  });
}
