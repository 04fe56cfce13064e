/** The server as a process of its own, and an HTTP client for it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const LONGEST_START_MS = 300_000;

/** Starts `dist/main.js` with these settings; resolves once it is ready. */
export async function startServer(settings) {
  const child = spawn(
    process.execPath,
    [
      '--use-largepages=silent',
      '--no-memory-reducer',
      '--max-inlined-bytecode-size=100',
      'dist/main.js',
    ],
    {
      env: { ...process.env, HOST: '127.0.0.1', LOG_LEVEL: 'fatal', ...settings },
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  const url = `http://127.0.0.1:${settings.PORT}`;
  const giveUpAt = Date.now() + LONGEST_START_MS;
  while (child.exitCode === null && Date.now() < giveUpAt) {
    const ready = await fetch(`${url}/health/ready`).catch(() => null);
    if (ready?.ok) return { url, ready: await ready.json(), stop: () => stop(child) };
    await sleep(200);
  }
  await stop(child);
  throw new Error('the server did not become ready');
}

async function stop(child) {
  if (child.exitCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}

/** A keep-alive client of `connections`; returns the status and the parsed answer. */
export function client(connections) {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  return (url, body, headers) =>
    new Promise((resolve, reject) => {
      const sent = request(url, { agent, method: 'POST', headers }, (reply) => {
        const chunks = [];
        reply.on('data', (chunk) => chunks.push(chunk));
        reply.on('end', () => resolve({ status: reply.statusCode, body: Buffer.concat(chunks) }));
      });
      sent.on('error', reject);
      sent.end(body);
    });
}
