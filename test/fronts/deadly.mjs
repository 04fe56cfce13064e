// Loaded into every thread of a server: a front ends when a request asks it to.
import { subscribe } from 'node:diagnostics_channel';
import { workerData } from 'node:worker_threads';

if (workerData?.sharesPort !== undefined) {
  subscribe('http.server.request.start', ({ request }) => {
    if (request.url === '/deadly') process.exit(3);
  });
}
