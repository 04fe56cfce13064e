import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';

export interface Prometheus {
  /** The `data` of an answer of its HTTP API. */
  get<Data>(path: string, query?: Record<string, string>): Promise<Data>;
  stop(): Promise<void>;
}

/** A real Prometheus that scrapes `target` (host:port) every second, with our rules. */
export async function startPrometheus(target: string): Promise<Prometheus> {
  const folder = await mkdtemp(join(tmpdir(), 'prometheus-'));
  const config = {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: ['recording', 'alerts'].map((name) => resolve(`k8s/monitoring/rules/${name}.yaml`)),
    scrape_configs: [{ job_name: 'depthserve', static_configs: [{ targets: [target] }] }],
  };
  await writeFile(join(folder, 'prometheus.yaml'), stringify(config));
  const port = await freePort();
  const child = spawn(
    'prometheus',
    [
      `--config.file=${folder}/prometheus.yaml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const url = `http://127.0.0.1:${port}`;
  while (
    !(await fetch(`${url}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    ))
  ) {
    if (child.exitCode !== null) throw new Error(log);
    await sleep(100);
  }

  return {
    async get<Data>(path: string, query: Record<string, string> = {}) {
      const reply = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(query).toString()}`);
      const body = (await reply.json()) as { status: string; data: Data; error?: string };
      if (body.status !== 'success') throw new Error(`${JSON.stringify(query)}: ${body.error}`);
      return body.data;
    },
    async stop() {
      const exited = once(child, 'exit');
      child.kill();
      await exited;
      await rm(folder, { recursive: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
