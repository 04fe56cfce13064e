/** The built server in a process of its own, and what can be seen of it from outside. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { imageCommand } from '../image-command.ts';

export interface Served {
  readonly port: number;
  readonly pid: number;
  /** SIGTERM. @returns the exit code */
  stop(): Promise<number | null>;
}

/**
 * @param cpus processors that it may use, as `taskset -c` takes them; absent: all.
 * @param checkout folder of a built one.
 */
export async function serve(
  port: number,
  env: NodeJS.ProcessEnv = {},
  cpus?: string,
  checkout = '.',
): Promise<Served> {
  const image = imageCommand(checkout);
  const node = [process.execPath, ...image.args];
  const [command, ...args] = cpus === undefined ? node : ['taskset', '-c', cpus, ...node];
  const child = spawn(command!, args, {
    cwd: checkout,
    env: {
      ...image.env,
      HOST: '127.0.0.1',
      PORT: String(port),
      EXECUTION_PROVIDER: 'cpu',
      MODEL_DIR: 'models/cifar10',
      LOG_LEVEL: 'warn',
      ...process.env,
      ...env,
    },
    stdio: 'inherit',
  });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const isReady = () =>
    fetch(`http://127.0.0.1:${port}/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  while (!(await isReady())) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`);
    await sleep(50);
  }
  return {
    port,
    pid: child.pid!,
    async stop() {
      const exited = once(child, 'exit') as Promise<[number | null]>;
      child.kill('SIGTERM');
      const [code] = await exited;
      process.off('exit', kill);
      return code;
    },
  };
}

/** MB resident; Linux. */
export function residentMb(pid: number): number {
  const [, kb] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!;
  return Number(kb) / 1024;
}

/** Open files, sockets and pipes; Linux. */
export const openFiles = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

/** Threads; Linux. */
export const threads = (pid: number): number => readdirSync(`/proc/${pid}/task`).length;
