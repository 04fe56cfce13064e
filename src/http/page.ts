import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import fastifyStatic from '@fastify/static';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { ServeError } from '../errors.ts';
import { Type } from '../json-schema.ts';
import type { Service } from '../service.ts';
import { steadyNow } from '../telemetry/history.ts';
import { pagePolicy } from './common-headers.ts';
import { Live, problems } from './schemas.ts';

/** Plain files, served as they are: the page needs no build and nothing from elsewhere. */
const FOLDER = fileURLToPath(new URL('../../src/page', import.meta.url));

/** In the model's folder `samples`: the list `[{ name, file, attribution }]`, and its photos. */
const SAMPLE_FILE = /^(index\.json|[\w-][\w.-]*\.(jpe?g|png|webp))$/i;

/** `GET /`: the page, the model's sample photos, and what feeds the live strip. */
export function pageRoutes(service: Service): FastifyPluginAsyncTypebox {
  return async (app) => {
    // The page's own files are no secret; what it asks for may need a token.
    app.addHook('onRoute', (route) => {
      route.config = { open: true, ...route.config };
    });
    await app.register(fastifyStatic, {
      root: FOLDER,
      wildcard: false,
      globIgnore: ['**/tsconfig.json'],
      index: 'index.html',
      cacheControl: false,
      setHeaders(response) {
        response.setHeader('cache-control', 'no-cache');
        response.setHeader('content-security-policy', pagePolicy('blob: data:'));
      },
    });

    // Looked up at each request: another version of the model may have other samples.
    const samples = join(resolve(service.config.MODEL_DIR), 'samples');
    app.get<{ Params: { file: string } }>(
      '/samples/:file',
      { schema: { hide: true } },
      async ({ params: { file } }, reply) => {
        const isThere = SAMPLE_FILE.test(file) && existsSync(join(samples, file));
        if (!isThere && file === 'index.json') return [];
        if (!isThere) throw new ServeError('not-found', `There is no sample ${file.slice(0, 60)}.`);
        return reply.sendFile(file, samples);
      },
    );

    app.get(
      '/live',
      {
        config: { open: false },
        schema: {
          summary: 'The last minutes, second by second',
          querystring: Type.Object({
            since: Type.Optional(
              Type.Integer({
                minimum: 0,
                description: 'Only seconds after this one (seconds since 1970); absent: all',
              }),
            ),
          }),
          response: { 200: Live, ...problems(400, 401, 429) },
        },
      },
      async ({ query }) => ({
        now: Math.floor(steadyNow() / 1000),
        seconds: [...service.history.since(query.since ?? 0)],
      }),
    );
  };
}
