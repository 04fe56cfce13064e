import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { imageCommand } from '../image-command.ts';

/** `main` is the main thread where others speak HTTP; else it is `front`, too. */
export type Role = 'front' | 'main' | 'decode' | 'engine' | 'libuv and others';
export type CpuMs = Readonly<Record<Role, number>>;

const PORT = 18_080;
const NS_PER_MS = 1e6;

export interface MeasuredOptions {
  /** Folder of a built checkout. */
  readonly checkout?: string;
  /** Folder. */
  readonly model: string;
  /** That it may use, as `taskset` takes them; absent: all. */
  readonly cores?: string | undefined;
  /** Another server of the checkout; absent: ours, as the checkout's image starts it. */
  readonly script?: string | undefined;
  /** Further flags of Node; they come last. */
  readonly flags?: readonly string[];
  /** Further settings. */
  readonly env?: NodeJS.ProcessEnv;
  /** Modules that are loaded into each of its threads first. */
  readonly preload?: readonly string[];
  readonly port?: number;
}

/** Batches of each sub-network so far, and the images in them. */
export type Batches = Readonly<
  Record<string, { readonly batches: number; readonly images: number }>
>;

/** @param metrics as `GET /metrics` tells them. */
export function batchesIn(metrics: string): Batches {
  const found: Record<string, { batches: number; images: number }> = {};
  const sizes = /^depthserve_batch_size_(sum|count)\{.*?tier="(\w+)".*?\} (\S+)$/gm;
  for (const [, what, tier, value] of metrics.matchAll(sizes)) {
    const row = (found[tier!] ??= { batches: 0, images: 0 });
    row[what === 'sum' ? 'images' : 'batches'] = Number(value);
  }
  return found;
}

/** A built server in a process of its own, whose threads' processor time can be read by role. */
export class MeasuredServer {
  private constructor(
    private readonly child: ReturnType<typeof spawn>,
    private readonly rolesFile: string,
    readonly url: string,
    readonly startMs: number,
  ) {}

  static async start({
    checkout = '.',
    model,
    cores,
    script,
    flags = [],
    env = {},
    preload = [],
    port = PORT,
  }: MeasuredOptions): Promise<MeasuredServer> {
    const rolesFile = join(mkdtempSync(join(tmpdir(), 'cost-')), 'roles');
    const modules = ['bench/cost/roles.mjs', ...preload];
    const imports = modules.flatMap((module) => ['--import', resolve(module)]);
    const image = script === undefined ? imageCommand(checkout) : { args: [script], env: {} };
    const command = [process.execPath, ...imports, ...image.args.toSpliced(-1, 0, ...flags)];
    if (cores !== undefined) command.unshift('taskset', '-c', cores);
    const began = performance.now();
    const child = spawn(command[0]!, command.slice(1), {
      cwd: checkout,
      env: {
        ...process.env,
        ...image.env,
        PORT: String(port),
        MODEL_DIR: resolve(model),
        LOG_LEVEL: 'warn',
        EXECUTION_PROVIDER: 'cpu',
        MODEL_POLL_SECONDS: '0',
        ROLES_FILE: rolesFile,
        ...env,
      },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const url = `http://127.0.0.1:${port}`;
    for (;;) {
      const ready = await fetch(`${url}/health/ready`).catch(() => null);
      if (ready?.ok) return new MeasuredServer(child, rolesFile, url, performance.now() - began);
      if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`);
      await sleep(20);
    }
  }

  /** Lets others have the cores. */
  pause(): void {
    this.child.kill('SIGSTOP');
  }

  resume(): void {
    this.child.kill('SIGCONT');
  }

  /** Processor time so far, ms. */
  cpu(): CpuMs {
    const roles = new Map(
      readFileSync(this.rolesFile, 'utf8')
        .trim()
        .split('\n')
        .map((line) => line.split(' ') as [string, Role]),
    );
    const sum = { front: 0, main: 0, decode: 0, engine: 0, 'libuv and others': 0 };
    const tasks = `/proc/${this.child.pid}/task`;
    for (const task of readdirSync(tasks)) {
      sum[roles.get(task) ?? 'libuv and others'] += ranNs(join(tasks, task)) / NS_PER_MS;
    }
    return sum;
  }

  /** Batches and images that engines have run, by sub-network. */
  async batches(): Promise<Batches> {
    return batchesIn(await (await fetch(`${this.url}/metrics`)).text());
  }

  async stop(): Promise<void> {
    const ended = new Promise((done) => this.child.once('exit', done));
    this.resume();
    this.child.kill('SIGTERM');
    await ended;
  }
}

/** Processor time of a thread, ns; 0: it has ended meanwhile. */
function ranNs(task: string): number {
  try {
    return Number(readFileSync(join(task, 'schedstat'), 'utf8').split(' ')[0]);
  } catch {
    return 0;
  }
}
