import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ServeError } from '../errors.ts';

/**
 * Tells a wrong method from a wrong path; the error handler in charge answers. To be called
 * before the routes are registered.
 */
export function notFoundHandler(app: FastifyInstance) {
  const routes: { method: string; pattern: RegExp }[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    const path = url.replaceAll('.', '\\.').replaceAll(/:\w+/g, '[^/]+').replace('*', '.*');
    const pattern = new RegExp(`^${path}$`);
    for (const each of [method].flat()) routes.push({ method: each, pattern });
  });

  return (request: FastifyRequest, reply: FastifyReply): never => {
    const path = request.url.split('?', 1)[0]!;
    const fitting = routes.filter(({ pattern }) => pattern.test(path));
    if (fitting.length === 0) {
      throw new ServeError('not-found', `There is no route ${path.slice(0, 100)}.`);
    }
    reply.header('allow', [...new Set(fitting.map(({ method }) => method))].join(', '));
    throw new ServeError('method-not-allowed', `${request.method} does not go with ${path}.`);
  };
}

/**
 * Answers requests for what is not there before their bodies are read. To be called after the hooks
 * that decide who may enter.
 */
export function answerNotFoundEarly(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    // The handler of the path's own protocol, which always throws.
    if (request.is404) request.routeOptions.handler.call(app, request, reply);
    done();
  });
}
