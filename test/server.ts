import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A real server in a process of its own, with the shipped model, on a free port. */
export interface Server {
  readonly url: string;
  readonly process: ChildProcess;
  /** Everything it logged so far, one JSON object a line. */
  log(): string;
  /** Sends SIGTERM and waits. @returns the exit code, or the signal that ended it. */
  stop(): Promise<number | NodeJS.Signals>;
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * Starts `node dist/main.js` (built by `npm test`) and waits until it is ready.
 *
 * @param env settings beside the tests' own: CPU, small batches for a short warm-up.
 * @param untilReady false: return as soon as it listens.
 * @param nodeOptions Node's own, e.g. a module to load first.
 * @param folder to start in, with `dist` in it.
 * @param args of the command line.
 * @param node the program that runs it.
 */
export async function startServer(
  env: NodeJS.ProcessEnv = {},
  {
    untilReady = true,
    nodeOptions = [] as readonly string[],
    args = [] as readonly string[],
    folder = '.',
    node = process.execPath,
  } = {},
): Promise<Server> {
  const child = spawn(node, [...nodeOptions, 'dist/main.js', ...args], {
    cwd: folder,
    env: {
      ...process.env,
      HOST: '127.0.0.1',
      PORT: '0',
      EXECUTION_PROVIDER: 'cpu',
      MAX_BATCH: '4',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // A test that times out must not leave a server behind that slows the next ones down.
  running.add(child);
  child.once('exit', () => running.delete(child));
  let output = '';
  const collect = (chunk: Buffer) => {
    output += chunk.toString();
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);

  const url = await until(() => /Server listening at (http:\/\/[\d.:[\]]+)/.exec(output)?.[1]);
  // One that ended meanwhile refuses the connection: `until` tells why it did.
  const isReady = () =>
    fetch(`${url}/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  if (untilReady) await until(async () => (await isReady()) || undefined);
  return { url, process: child, log: () => output, stop };

  async function until<T>(probe: () => T | undefined | Promise<T | undefined>): Promise<T> {
    for (;;) {
      const found = await probe();
      if (found !== undefined) return found;
      const ended = child.exitCode ?? child.signalCode;
      if (ended !== null) throw new Error(`the server ended (${ended}):\n${output}`);
      await sleep(20);
    }
  }

  async function stop() {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    }
    return child.exitCode ?? child.signalCode!;
  }
}

/** Ports that nobody listens on now. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const listeners = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(listeners.map((listener) => once(listener, 'listening')));
  const ports = listeners.map((listener) => (listener.address() as AddressInfo).port);
  for (const listener of listeners) listener.close();
  await Promise.all(listeners.map((listener) => once(listener, 'close')));
  return ports;
}

/** Runs a server that is expected to refuse to start. */
export async function failedStart(
  env: NodeJS.ProcessEnv,
  node = process.execPath,
): Promise<{ code: number; output: string }> {
  const child = spawn(node, ['dist/main.js'], {
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  return { code, output };
}
