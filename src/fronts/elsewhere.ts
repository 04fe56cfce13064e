import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Aside } from '../http/threads.ts';
import type { RemoteService } from './remote-service.ts';

/** Of the connection, or of the body as it came and not as it is handed over. */
const OF_THE_CONNECTION = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'date',
  'expect',
  'keep-alive',
  'transfer-encoding',
]);

const LOAD = 'endpoint-load-metrics';

/** What a front has the main thread do: answer whatever does not classify, and tell its load. */
export function elsewhere(service: RemoteService): Aside {
  return {
    async handler(request: FastifyRequest, reply: FastifyReply) {
      const { url, body } = request;
      // The route for HEAD takes the body away by itself.
      const method = request.method === 'HEAD' ? 'GET' : request.method;
      const headers = { ...without(request.headers), 'x-request-id': request.id };
      const text = body === undefined ? undefined : JSON.stringify(body);
      const answer = await service.ask({ method, url, headers, body: text });
      reply.code(answer.status).headers(without(answer.headers));
      return reply.send(Buffer.from(answer.body.buffer as ArrayBuffer));
    },

    async reportLoad({ headers, routeOptions }, reply) {
      const format = headers[`${LOAD}-format`];
      // Other answers come from where it is known.
      if (format === undefined || !routeOptions.config.classifies) return;
      const question = { method: 'GET', url: '/health/live', body: undefined };
      const answer = await service.ask({ ...question, headers: { [`${LOAD}-format`]: format } });
      const report = answer.headers[LOAD];
      if (report !== undefined) reply.header(LOAD, report);
    },
  };
}

function without<Headers extends object>(headers: Headers): Headers {
  const rest = Object.entries(headers).filter(([name]) => !OF_THE_CONNECTION.has(name));
  return Object.fromEntries(rest) as Headers;
}
