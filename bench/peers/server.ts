import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VENV } from './peers.ts';
import type { Peer } from './peers.ts';
import { cpuOf, memoryOf, prioritise, processesOf, signalAll } from './processes.ts';

const VENVS = resolve('bench/peers/.venvs');
const LOGS = 'runs/peers/logs';
const START_MS = 90_000;
/** What is shown of the log of a server that does not start. */
const LOG_CHARACTERS = 600;

export interface StartOptions {
  /** Folder. */
  readonly model: string;
  /** That it may use, as `taskset` takes them. */
  readonly cores: string;
  readonly budgetMs: number;
  /** Requests under way that it takes at most, where it has such a bound. */
  readonly capacity: number;
  /** As `nice` counts. */
  readonly priority: number;
}

/** One server in processes of its own, which sleep while others are measured. */
export class PeerServer {
  readonly name: string;

  private constructor(
    readonly peer: Peer,
    readonly network: string,
    readonly port: number,
    private readonly mark: string,
    private readonly child: ChildProcess,
    readonly startSeconds: number,
  ) {
    this.name = nameOf(peer, network);
  }

  /**
   * @param network the sub-network that it is pinned to; empty: it chooses.
   * @throws Error with the end of its log, when it is not ready in time.
   */
  static async start(
    peer: Peer,
    network: string,
    port: number,
    { model, cores, budgetMs, capacity, priority }: StartOptions,
  ): Promise<PeerServer> {
    const venv = `${VENVS}/${peer.name}`;
    const why = `${venv}.failed`;
    if (existsSync(why)) throw new Error(`not installed: ${readFileSync(why, 'utf8').trim()}`);
    const name = nameOf(peer, network);
    mkdirSync(LOGS, { recursive: true });
    const file = `${LOGS}/${name.replace(' ', '-')}.log`;
    const log = openSync(file, 'w');
    const here = (text: string) => text.replaceAll(VENV, venv);
    const own = Object.entries(peer.environment?.(port) ?? {});
    const mark = `PEERS_MARK=${name}-${process.pid}`;
    const began = performance.now();
    const child = spawn(
      'taskset',
      ['-c', cores, ...peer.command(port, capacity).split(' ').map(here)],
      {
        detached: true,
        stdio: ['ignore', log, log],
        env: {
          ...process.env,
          PATH: `${venv}/bin:${process.env['PATH']}`,
          MODEL_DIR: resolve(model),
          PEERS_MODEL: resolve(model),
          PEERS_SERVERS: resolve('bench/peers/servers'),
          PEERS_SKIP: network,
          PEERS_BUDGET_MS: String(budgetMs),
          PEERS_CAPACITY: String(capacity),
          PYTHONUNBUFFERED: '1',
          OMP_NUM_THREADS: '1',
          ...Object.fromEntries(own.map(([key, value]) => [key, here(value)])),
          [mark.split('=', 1)[0]!]: mark.slice(mark.indexOf('=') + 1),
        },
      },
    );
    if (priority !== 0 && child.pid) prioritise([child.pid], priority);
    const ended = new AbortController();
    child.once('exit', () => ended.abort()).once('error', () => ended.abort());
    const seconds = () => (performance.now() - began) / 1000;
    while (!ended.signal.aborted && seconds() < START_MS / 1000) {
      if (await answers(`http://127.0.0.1:${port}${peer.ready}`)) {
        return new PeerServer(peer, network, port, mark, child, seconds());
      }
      await sleep(100);
    }
    signalAll(processesOf(mark), 'SIGKILL');
    const end = readFileSync(file, 'utf8').trim().slice(-LOG_CHARACTERS);
    throw new Error(`${ended.signal.aborted ? 'ended' : 'not ready in time'}: ${end}`);
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}${this.peer.classify}`;
  }

  get processes(): number[] {
    return processesOf(this.mark);
  }

  /** s of processor time so far. */
  get cpu(): number {
    return cpuOf(this.processes);
  }

  /** MiB. */
  get memory(): number {
    return memoryOf(this.processes);
  }

  pause(): void {
    signalAll(this.processes, 'SIGSTOP');
  }

  /** @param priority as `nice` counts; 0: as it is. */
  resume(priority = 0): void {
    const { processes } = this;
    if (priority !== 0) prioritise(processes, priority);
    signalAll(processes, 'SIGCONT');
  }

  async stop(): Promise<void> {
    this.resume();
    this.child.kill('SIGTERM');
    for (let waited = 0; waited < 50 && this.processes.length > 0; waited++) await sleep(100);
    signalAll(this.processes, 'SIGKILL');
  }
}

export function nameOf(peer: Peer, network: string): string {
  return network === '' ? peer.name : `${peer.name} ${network}`;
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(1000) })).ok;
  } catch {
    return false;
  }
}
