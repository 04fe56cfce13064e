import type { FastifyPluginAsync } from 'fastify';
import { sentenceOf } from '../../errors.ts';
import type { ServeError } from '../../errors.ts';
import type { Service } from '../../service.ts';
import { notFoundHandler } from '../notfound.ts';
import { errorHandler } from '../problem.ts';
import { inferRoutes } from './infer.ts';
import { metadataRoutes } from './metadata.ts';
import { refuseUnofferedRoute } from './offered.ts';

const bodyOf = ({ error }: { error: ServeError }) => ({ error: sentenceOf(error) });

/** Errors leave in the protocol's form. */
export const answerV2Error = errorHandler('application/json', bodyOf);

/**
 * The Open Inference Protocol (KServe's version 2), for clients that people already have. Errors
 * are the same as elsewhere, in the protocol's form.
 */
export function v2Routes(service: Service, version: string): FastifyPluginAsync {
  return async (app) => {
    app.setErrorHandler(answerV2Error);
    const unknownRoute = notFoundHandler(app);
    app.setNotFoundHandler((request, reply) => {
      refuseUnofferedRoute(request.url.split('?', 1)[0]!);
      unknownRoute(request, reply);
    });
    await app.register(metadataRoutes(service, version));
    await app.register(inferRoutes(service));
  };
}
