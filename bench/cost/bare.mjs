// The least that Node does to refuse a request: no routes, no checks, one prepared answer of the
// same size.
import { createServer } from 'node:http';

const body = Buffer.alloc(420, 'x');
const headers = { 'content-type': 'application/problem+json', 'content-length': body.length };
createServer((request, response) => {
  if (request.url === '/health/ready') return void response.end();
  response.writeHead(503, headers).end(body);
  request.resume();
}).listen(Number(process.env.PORT));
