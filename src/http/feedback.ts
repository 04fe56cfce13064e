import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from '../json-schema.ts';
import type { Service } from '../service.ts';
import { problems } from './schemas.ts';

/** `POST /feedback`: the true label of an answered image, for the accuracy by tier. */
export function feedbackRoute(service: Service): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/feedback',
      {
        bodyLimit: 4096,
        schema: {
          summary: 'Tell the true label of an answered image',
          description: 'Counted in the metrics by sub-network; nothing else is kept.',
          body: Type.Object(
            {
              id: Type.String({ description: 'The id of the answer', maxLength: 160 }),
              label: Type.String({ description: "One of the model's labels", maxLength: 200 }),
            },
            { additionalProperties: false },
          ),
          response: {
            204: Type.Null({ description: 'Counted' }),
            ...problems(400, 401, 404, 413, 415, 429),
          },
        },
      },
      async (request, reply) => {
        const { id, label } = request.body;
        service.feedback.judge(id, label, service.manifest.labels);
        return reply.code(204).send(null);
      },
    );
  };
}
