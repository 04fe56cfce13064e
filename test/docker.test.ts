import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readConfig } from '../src/config.ts';
import { CAT, classify } from './http/client.ts';
import { freePorts, startServer } from './server.ts';
import { lacks, run } from './tools.ts';

const PATIENT = { 'x-latency-budget-ms': '60000' };

const dockerfile = readFileSync('Dockerfile', 'utf8');
const stages = dockerfile.split(/^(?=FROM )/m).slice(1);
const final = stages.filter((stage) => stage.includes('ENTRYPOINT'));

describe('the Dockerfile', () => {
  it.skipIf(lacks('hadolint'))('has no lint', () => {
    expect(run('hadolint', ['-'], dockerfile)).toEqual({ code: 0, output: '' });
    // The linter does look: a base without a version is found.
    const loose = dockerfile.replace(/^FROM docker.io\/library\/debian:\S+/m, 'FROM debian');
    expect(run('hadolint', ['-'], loose).output).toContain('DL3006');
  });

  it('starts Node as `npm start` and the installed command do', () => {
    const flags = /node (--.* )dist\/main\.js/.exec(readFileSync('package.json', 'utf8'))![1]!;
    const entry = ['node', ...flags.trim().split(' '), 'dist/main.js'];
    for (const stage of final) {
      expect(JSON.parse(/^ENTRYPOINT (.*)$/m.exec(stage)![1]!)).toEqual(entry);
    }
    const [shebang] = readFileSync('src/main.ts', 'utf8').split('\n');
    expect(shebang).toBe(`#!/usr/bin/env -S node ${flags.trim()}`);
  });

  it('has a target for the processor and one for CUDA', () => {
    expect(final.map((stage) => / AS (\w+)/.exec(stage)![1])).toEqual(['cpu', 'cuda']);
  });

  it.each(final)('runs as a numbered user, without a shell, with a health check: %#', (stage) => {
    // A number, because runAsNonRoot cannot judge names.
    expect(stage).toMatch(/^USER 10001:10001$/m);
    expect(stage).toMatch(/^HEALTHCHECK /m);
    expect(stage).not.toMatch(/^RUN /m);
  });

  it('pins every base to a version', () => {
    const bases = [...dockerfile.matchAll(/^FROM (docker\.io\S+)/gm)].map(([, base]) => base);
    for (const base of bases) expect(base).toMatch(/:\d+\.\d+(\.\d+)?-/);
  });

  const copied = (stage: string) => [...stage.matchAll(/^COPY .+/gm)].map(([line]) => line);

  it('copies the same for both targets, but for the CUDA provider', () => {
    const [cpu, cuda] = final.map(copied);
    expect(cuda).toEqual(cpu!.map((line) => line.replace('=dependencies ', '=dependencies-cuda ')));
  });

  it('copies all that the server reads at run time', async () => {
    const app = await mkdtemp(join(tmpdir(), 'depthserve-image-'));
    for (const line of copied(final[0]!)) {
      const [, list, target] = /^COPY (.+) (\S+)$/.exec(line)!;
      await copyInto(app, list!, target!);
    }
    const [grpc] = await freePorts(1);
    const settings = { GRPC_PORT: String(grpc), MODEL_DIR: undefined };
    const server = await startServer(settings, { folder: app });
    try {
      for (const path of ['/', '/main.js', '/samples/index.json', '/docs/', '/openapi.json']) {
        expect([path, (await fetch(server.url + path)).status]).toEqual([path, 200]);
      }
      expect((await classify(server.url, CAT, PATIENT)).status).toBe(200);
      const { port } = new URL(server.url);
      const health = spawnSync(process.execPath, [join(app, 'docker/health.js')], {
        env: { PORT: port },
      });
      expect(health.status).toBe(0);
    } finally {
      await server.stop();
      await rm(app, { recursive: true });
    }
  });

  it('copies what exists', () => {
    const sources = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, list]) =>
      list!.split(' '),
    );
    expect(sources.filter((source) => !existsSync(source))).toEqual([]);
    const sent = readFileSync('.dockerignore', 'utf8').split('\n');
    const within = (source: string) => (line: string) =>
      `${source}/`.startsWith(`${line.slice(1)}/`);
    expect(sources.filter((source) => !sent.some(within(source)))).toEqual([]);
  });
});

/** Does what one COPY of the last stage does. What other stages make comes from this checkout. */
async function copyInto(app: string, list: string, target: string): Promise<void> {
  const [first, ...rest] = list.split(' ');
  const sources = first!.startsWith('--from=')
    ? rest.map((path) => path.replace('/app/', ''))
    : [first!, ...rest];
  for (const source of sources.filter((path) => !path.startsWith('/usr/'))) {
    const place = target.endsWith('/') ? join(app, target, basename(source)) : join(app, target);
    await mkdir(dirname(place), { recursive: true });
    if (source === 'node_modules') await symlink(resolve(source), place);
    else await cp(source, place, { recursive: true });
  }
}

describe('docker/compose.yaml', () => {
  const { services } = parse(readFileSync('docker/compose.yaml', 'utf8')) as {
    services: Record<string, { volumes?: string[]; stop_grace_period?: string }>;
  };

  it('mounts what exists', () => {
    const mounted = Object.values(services)
      .flatMap(({ volumes }) => volumes ?? [])
      .map((volume) => volume.split(':')[0]!)
      .filter((source) => source.startsWith('.'));
    expect(mounted.length).toBeGreaterThan(0);
    expect(mounted.filter((source) => !existsSync(join('docker', source)))).toEqual([]);
  });

  it('lets the server drain before it is killed', () => {
    const seconds = Number.parseInt(services['depthserve']!.stop_grace_period!, 10);
    expect(seconds * 1000).toBeGreaterThan(readConfig({}).DRAIN_TIMEOUT_MS);
  });

  it('lets Prometheus find the service, and Grafana find Prometheus', () => {
    const prometheus = readFileSync('docker/prometheus.yaml', 'utf8');
    const grafana = readFileSync('docker/grafana/datasources/prometheus.yaml', 'utf8');
    expect(Object.keys(services)).toEqual(expect.arrayContaining(['depthserve', 'prometheus']));
    expect(prometheus).toContain('targets: [depthserve:8080]');
    expect(grafana).toContain('url: http://prometheus:9090');
  });
});
