import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { CAT } from './http/client.ts';
import { freePorts, startServer } from './server.ts';
import type { Server } from './server.ts';
import { lacks } from './tools.ts';

/** `npm run bench:rollout` has 100. */
const RESTARTS = Number(process.env['RESTARTS'] ?? 3);
const CLIENTS = 6;

it.skipIf(lacks('nginx'))(
  `${RESTARTS} restarts of two replicas behind nginx, under load: no request fails`,
  { timeout: 120_000 + 30_000 * RESTARTS },
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'depthserve-'));
    const [port, ...ports] = await freePorts(3);
    const start = (at: number) => startServer({ PORT: String(at), MAX_BATCH: '1' });
    const replicas: Server[] = await Promise.all(ports.map(start));
    const stopNginx = await startNginx(folder, port!, ports);

    const load = new Load(`http://127.0.0.1:${port}/classify`);
    try {
      for (let restart = 0; restart < RESTARTS; restart++) {
        const index = restart % replicas.length;
        await load.more(20);
        expect(await replicas[index]!.stop()).toBe(0);
        replicas[index] = await start(ports[index]!);
      }
      await load.more(20);
    } finally {
      await load.stop();
      await stopNginx();
      await Promise.all(replicas.map((replica) => replica.stop()));
      await rm(folder, { recursive: true });
    }
    console.log(`${RESTARTS} restarts, ${load.answered} requests, ${load.failures.length} failed`);
    expect(load.failures).toEqual([]);
  },
);

/** Clients that send the next request as soon as the last one is answered. */
class Load {
  answered = 0;
  readonly failures: string[] = [];
  #stopped = false;
  readonly #clients: Promise<void>[];

  constructor(private readonly url: string) {
    this.#clients = Array.from({ length: CLIENTS }, () => this.#client());
  }

  /** Resolves after so many more answers. */
  async more(count: number): Promise<void> {
    const target = this.answered + this.failures.length + count;
    while (this.answered + this.failures.length < target) await sleep(5);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#clients);
  }

  async #client(): Promise<void> {
    const headers = { 'content-type': 'image/jpeg', 'x-latency-budget-ms': '60000' };
    while (!this.#stopped) {
      try {
        const answer = await fetch(this.url, { method: 'POST', body: CAT, headers });
        const text = await answer.text();
        if (answer.status === 200) this.answered++;
        else this.failures.push(`${answer.status} ${text}`);
      } catch (error) {
        this.failures.push(String((error as Error).cause));
      }
      // Not saturated: restarts are what is tested here.
      await sleep(10);
    }
  }
}

/** As docs/operations.md recommends. */
async function startNginx(folder: string, port: number, upstreams: readonly number[]) {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${folder}/${kind};`,
  );
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off;
pid ${folder}/pid;
error_log ${folder}/error.log;
events {}
http {
  access_log off;
  ${temporary.join('\n  ')}
  client_max_body_size 16m;
  upstream depthserve {
    ${upstreams.map((one) => `server 127.0.0.1:${one} max_fails=0;`).join('\n    ')}
    keepalive 16;
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://depthserve;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream error timeout http_503 non_idempotent;
      proxy_next_upstream_tries 2;
    }
  }
}
`,
  );
  // nginx serves as another user where it is started by root.
  await chmod(folder, 0o755);
  const config = join(folder, 'nginx.conf');
  const nginx = spawn('nginx', ['-p', folder, '-c', config, '-e', `${folder}/error.log`], {
    stdio: 'inherit',
  });
  process.once('exit', () => nginx.kill('SIGKILL'));
  for (;;) {
    const up = await fetch(`http://127.0.0.1:${port}/health/live`).catch(() => null);
    if (up?.ok) break;
    if (nginx.exitCode !== null) throw new Error(`nginx ended with code ${nginx.exitCode}`);
    await sleep(50);
  }
  return async () => {
    const ended = once(nginx, 'exit');
    nginx.kill('SIGQUIT');
    await ended;
  };
}
