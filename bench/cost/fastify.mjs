// The least that Fastify does to refuse a request before its body is read: one route, no hooks of
// its own, one prepared answer of the same size.
import fastify from 'fastify';

const body = Buffer.alloc(420, 'x');
const headers = { 'content-type': 'application/problem+json', 'content-length': body.length };
const app = fastify();
app.get('/health/ready', async () => '');
app.addContentTypeParser('*', (_request, _payload, done) => done(null));
app.post(
  '/classify',
  {
    onRequest(_request, reply) {
      reply.hijack();
      reply.raw.writeHead(503, headers).end(body);
    },
  },
  async () => '',
);
await app.listen({ port: Number(process.env.PORT) });
