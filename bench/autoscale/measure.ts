/**
 * What the simulated replicas take from a real one: how long it takes to be ready, and the
 * processor time of a request beside its inference. Run it alone on the machine.
 *
 *   npm run bench:autoscale -- measure > bench/autoscale/measured.json
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { imageCommand } from '../image-command.ts';
import { settings } from './manifests.ts';

export interface Measured {
  readonly machine: string;
  /** Process start to the first 200 of /health/ready, s; the median of the starts. */
  readonly startSeconds: number;
  readonly starts: readonly number[];
  /** Processor time beside inference: with a photo to decode, and with pixels in a tensor. */
  readonly cpuMsPerPhoto: number;
  readonly cpuMsPerTensor: number;
}

const STARTS = 5;
const REQUESTS = 2000;

export async function measure(): Promise<Measured> {
  const starts: number[] = [];
  for (let i = 0; i < STARTS; i++) {
    const server = await start();
    starts.push(server.seconds);
    await server.stop();
  }
  const server = await start();
  const photo = await beside(server.url, '/classify', {
    headers: { 'content-type': 'image/jpeg', 'x-latency-budget-ms': '1000' },
    body: new Uint8Array(readFileSync('models/cifar10/samples/cat.jpg')),
  });
  const tensor = await beside(server.url, '/v2/models/cifar10-small-resnet/infer', tensorOf(32));
  await server.stop();
  return {
    machine: `${cpus()[0]!.model}, ${cpus().length} virtual cores`,
    startSeconds: [...starts].sort((a, b) => a - b)[Math.floor(STARTS / 2)]!,
    starts,
    cpuMsPerPhoto: photo,
    cpuMsPerTensor: tensor,
  };
}

/** One picture as a binary tensor of the Open Inference Protocol. */
function tensorOf(side: number): RequestInit {
  const size = side * side * 3;
  const head = Buffer.from(
    JSON.stringify({
      parameters: { latency_budget_ms: 1000 },
      inputs: [
        {
          name: 'image',
          shape: [1, side, side, 3],
          datatype: 'UINT8',
          parameters: { binary_data_size: size },
        },
      ],
      outputs: [{ name: 'probabilities', parameters: { classification: 3 } }],
    }),
  );
  return {
    headers: { 'inference-header-content-length': String(head.length) },
    body: new Uint8Array(Buffer.concat([head, Buffer.alloc(size, 128)])),
  };
}

/** Processor time beside inference, ms a request. */
async function beside(url: string, path: string, request: RequestInit): Promise<number> {
  const send = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const reply = await fetch(`${url}${path}`, { method: 'POST', ...request });
      const text = await reply.text();
      if (!reply.ok) throw new Error(`${reply.status}: ${text}`);
    }
  };
  // The first ones pay for cold caches.
  await send(REQUESTS / 10);
  const before = await counters(url);
  await send(REQUESTS);
  const after = await counters(url);
  const spent = after.cpu - before.cpu - (after.busy - before.busy);
  return Math.round((1e6 * spent) / REQUESTS) / 1000;
}

/** The server with the settings of k8s/overlays/cpu. */
async function start() {
  const began = performance.now();
  const image = imageCommand();
  const child = spawn(process.execPath, image.args, {
    env: {
      ...image.env,
      MODEL_DIR: 'models/cifar10',
      ...process.env,
      ...settings('cpu'),
      HOST: '127.0.0.1',
      PORT: '0',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let log = '';
  child.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()));
  let url: string | undefined;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the server ended:\n${log}`);
    url ??= /Server listening at (http:\/\/[\d.:]+)/.exec(log)?.[1];
    if (url !== undefined && (await fetch(`${url}/health/ready`)).ok) break;
    await sleep(10);
  }
  return {
    url,
    seconds: Math.round(performance.now() - began) / 1000,
    async stop() {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
}

async function counters(url: string) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const read = (name: string) => {
    const value = new RegExp(`^${name}(?:{[^}]*})? (\\S+)`, 'm').exec(text)?.[1];
    if (value === undefined) throw new Error(`no metric ${name}`);
    return Number(value);
  };
  return {
    cpu: read('process_cpu_seconds_total'),
    busy: read('depthserve_engine_busy_seconds_total'),
  };
}
