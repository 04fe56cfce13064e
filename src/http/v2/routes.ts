import type { FastifyPluginAsync } from 'fastify';
import type { Service } from '../../service.ts';
import { notFoundHandler } from '../notfound.ts';
import { bodyDiscarded, settleError } from '../problem.ts';
import { inferRoutes } from './infer.ts';
import { metadataRoutes } from './metadata.ts';

/**
 * The Open Inference Protocol (KServe's version 2), for clients that people already have. Errors
 * are the same as elsewhere, in the protocol's form.
 */
export function v2Routes(service: Service, version: string): FastifyPluginAsync {
  return async (app) => {
    app.setErrorHandler(async (error, request, reply) => {
      const { error: known, document } = settleError(error, request, reply);
      // The protocol has one member; what others say besides goes into the sentence.
      const extra = Object.entries(known.extra).map(([name, value]) => ` ${name}: ${value}.`);
      if (known.code === 'body-too-large') await bodyDiscarded(request);
      return reply
        .type('application/json')
        .serializer(JSON.stringify)
        .send({ error: `${known.code}: ${document.detail}${extra.join('')}` });
    });
    app.setNotFoundHandler(notFoundHandler(app));
    await app.register(metadataRoutes(service, version));
    await app.register(inferRoutes(service));
  };
}
