import type { FastifyPluginAsync } from 'fastify';
import type { Service } from '../../service.ts';
import { notFoundHandler } from '../notfound.ts';
import { bodyDiscarded, keepWhileSending, settleError } from '../problem.ts';
import { inferRoutes } from './infer.ts';
import { metadataRoutes } from './metadata.ts';
import { refuseUnofferedRoute } from './offered.ts';
import { inProtocol, sentence } from './told.ts';

/**
 * The Open Inference Protocol (KServe's version 2), for clients that people already have. Errors
 * are the same as elsewhere, in the protocol's form.
 */
export function v2Routes(service: Service, version: string): FastifyPluginAsync {
  return async (app) => {
    app.setErrorHandler(async (error, request, reply) => {
      const { error: known } = settleError(inProtocol(error), request, reply);
      if (known.code === 'body-too-large') await bodyDiscarded(request);
      keepWhileSending(known, reply);
      return reply
        .type('application/json')
        .serializer(JSON.stringify)
        .send({ error: sentence(known) });
    });
    const unknownRoute = notFoundHandler(app);
    app.setNotFoundHandler((request, reply) => {
      refuseUnofferedRoute(request.url.split('?', 1)[0]!);
      unknownRoute(request, reply);
    });
    await app.register(metadataRoutes(service, version));
    await app.register(inferRoutes(service));
  };
}
