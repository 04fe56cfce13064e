import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import type { PeerServer } from './server.ts';
import { machineCpu } from './processes.ts';

/** What became of the requests of one run, as bench/peers/load prints it. Latencies in ms. */
export interface Report {
  readonly offered: number;
  readonly requests: number;
  readonly right: number;
  readonly wrong: number;
  readonly late: number;
  readonly refused: number;
  readonly failed: number;
  readonly unsent: number;
  /** Right answers in time per second. */
  readonly goodput: number;
  /** p50, p95, p99 of all answers, late ones included; -1: none. */
  readonly latencyMs: readonly [number, number, number];
  readonly loadCpuSeconds: number;
}

/** One server at one load in one round. */
export interface Cell extends Report {
  readonly server: string;
  /** Multiple of our peak. */
  readonly load: number;
  readonly round: number;
  readonly at: string;
  readonly serverCpuSeconds: number;
  readonly memoryMiB: number;
  /** Cores that other programs, or other guests of the host, took meanwhile. */
  readonly otherCores: number;
}

export interface Generator {
  /** Folder with <label>/*.jpg, and the labels in the model's order. */
  readonly photos: string;
  readonly labels: readonly string[];
  readonly cores: string;
  readonly seconds: number;
  readonly budgetMs: number;
  /** Of server and generator, as `nice` counts. */
  readonly priority: number;
}

/** Requests/s and s of the load before each measurement, so that code and caches are warm. */
const WARM = { rate: 60, seconds: 1 };

/** Where to classify, and by which protocol. */
export interface Target {
  readonly url: string;
  readonly peer: Pick<PeerServer['peer'], 'format'>;
}

/** Sends load to a server that is awake, and tells what became of it. */
export async function send(
  server: Target,
  rate: number,
  seed: number,
  { photos, labels, cores, seconds, budgetMs, priority }: Generator,
): Promise<Report> {
  const line =
    `taskset -c ${cores} runs/peers/load -url ${server.url} -format ${server.peer.format} ` +
    `-photos ${photos} -labels ${labels.join(',')} -rate ${rate} -seconds ${seconds} ` +
    `-budget ${budgetMs}ms -seed ${seed}`;
  const child = spawn('nice', ['-n', String(priority), ...line.split(' ')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(await text(child.stdout)) as Report;
}

export async function measure(
  server: PeerServer,
  load: number,
  rate: number,
  round: number,
  generator: Generator,
): Promise<Cell> {
  server.resume(generator.priority);
  await send(server, WARM.rate, round, { ...generator, seconds: WARM.seconds });
  const [began, all, own] = [performance.now(), machineCpu(), server.cpu];
  const report = await send(server, rate, round, generator);
  const serverCpuSeconds = server.cpu - own;
  const seconds = (performance.now() - began) / 1000;
  const others = machineCpu() - all - serverCpuSeconds - report.loadCpuSeconds;
  const memoryMiB = server.memory;
  server.pause();
  return {
    server: server.name,
    load,
    round,
    at: new Date().toISOString(),
    ...report,
    serverCpuSeconds,
    memoryMiB,
    otherCores: others / seconds,
  };
}
