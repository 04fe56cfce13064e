/**
 * DepthServe beside other servers with the same ONNX file: right answers in time per second, open
 * loop, at multiples of our peak. One server at a time is awake, on one core; the load generator has
 * the other. Loads and servers are taken in turn, several rounds.
 *
 *   npm run bench:peers -- [--peers mosec,triton] [--loads 0.2,1,10] [--rounds 3] [--seconds 5]
 *     [--model FOLDER --photos FOLDER] [--budget 50] [--peak N] [--results FILE]
 *
 * Results are added to those in the file, so that a long run may be done in parts; `--rounds 0`
 * only writes table and plot. docs/peers.md has what came of it.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { measure, send } from './cell.ts';
import type { Generator } from './cell.ts';
import { DEPTHSERVE, PEERS } from './peers.ts';
import type { Peer } from './peers.ts';
import { prioritise } from './processes.ts';
import { writeReport } from './report.ts';
import { Results } from './results.ts';
import { PeerServer, nameOf } from './server.ts';

const string = (fallback: string) => ({ type: 'string', default: fallback }) as const;
const { values } = parseArgs({
  options: {
    peers: string(PEERS.map(({ name }) => name).join(',')),
    model: string('models/cifar10'),
    /** Labelled, in <label>/*.jpg; absent: CIFAR-10's, from --data. */
    photos: { type: 'string' },
    loads: string('0.2,0.5,0.8,1,1.5,2,4,10'),
    rounds: string('3'),
    seconds: string('5'),
    budget: string('50'),
    /** Requests under way that peers take at most. */
    capacity: string('12'),
    /** Right answers in time per second; absent: as in the results, or measured. */
    peak: { type: 'string' },
    results: string('bench/results/peers.json'),
    data: string('../shared/data/cifar10_jpeg.npz'),
    serverCores: string('0'),
    clientCores: string('1'),
    /** A program that each round runs under, such as one that takes a lock. */
    under: string(''),
    /** Of server and generator, as `nice` counts. */
    priority: string('0'),
    /** Measured again, at most twice, when other programs take more cores than this. */
    quiet: string('0.15'),
  },
});

const PORT = 18_100;
const SETTLE_MS = 300;
/** Rates at which the peak is looked for. */
const PEAK_RATES = [25, 35, 50, 70, 100, 150, 200, 250, 300, 350, 400, 500, 600];
/** Share of the answers to a light load that must be right: there are only 60 of them. */
const RIGHT = 0.7;
const CHECK = { rate: 20, seconds: 3, budgetMs: 1000 };
/** Before the first measurement: V8 compiles for as long what has become hot. */
const FIRST = { rate: 150, seconds: 24 };
const MAX_TRIES = 3;

const budgetMs = Number(values.budget);
const { labels, flags } = JSON.parse(readFileSync(`${values.model}/model.json`, 'utf8')) as {
  labels: readonly string[];
  flags: readonly string[];
};
/** The super-net and the base-net; peers are started once with each. */
const NETWORKS = ['F', 'T'].map((letter) => letter.repeat(flags.length));
const generator: Generator = {
  photos: values.photos ?? 'runs/peers/photos',
  labels,
  cores: values.clientCores,
  seconds: Number(values.seconds),
  budgetMs,
  priority: Number(values.priority),
};
const say = (line: string) => process.stderr.write(`${line}\n`);

async function main(): Promise<void> {
  const setting = {
    model: values.model,
    budgetMs,
    seconds: generator.seconds,
    serverCores: values.serverCores,
    clientCores: values.clientCores,
  };
  const isReport = Number(values.rounds) === 0;
  const results = isReport ? Results.read(values.results) : Results.open(values.results, setting);
  const names = values.peers.split(',').filter(Boolean);
  const unknown = names.filter((name) => !PEERS.some((peer) => peer.name === name));
  if (unknown.length > 0) throw new Error(`no such peer: ${unknown.join(', ')}`);
  if (!isReport) {
    const setup = ['bench/peers/setup.sh', values.data, ...names];
    const { status } = spawnSync('bash', setup, { stdio: 'inherit' });
    if (status !== 0) throw new Error('bench/peers/setup.sh failed');
    // The generator's.
    if (generator.priority !== 0) prioritise([process.pid], generator.priority);
    const servers = await startAll(names, results);
    try {
      await measureAll(servers, results);
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  }
  process.stdout.write(writeReport(results));
}

/** Starts one after the other; those that start and answer rightly go to sleep. */
async function startAll(names: readonly string[], results: Results): Promise<PeerServer[]> {
  const peers = PEERS.filter(({ name }) => names.includes(name));
  const wanted: [Peer, string][] = [[DEPTHSERVE, '']];
  for (const peer of peers) {
    for (const network of NETWORKS) wanted.push([peer, network]);
  }
  const servers: PeerServer[] = [];
  for (const [index, [peer, network]] of wanted.entries()) {
    const name = nameOf(peer, network);
    try {
      const port = PORT + index;
      const server = await PeerServer.start(peer, network, port, {
        model: values.model,
        cores: values.serverCores,
        budgetMs,
        capacity: Number(values.capacity),
        priority: generator.priority,
      });
      servers.push(server);
      const report = await send(server, CHECK.rate, 1, { ...generator, ...CHECK });
      const answered = report.right + report.wrong;
      say(`${name}: ready after ${server.startSeconds.toFixed(1)} s, ${JSON.stringify(report)}`);
      if (answered === 0 || report.right / answered < RIGHT) {
        servers.pop();
        await server.stop();
        throw new Error(`did not answer easy requests rightly: ${JSON.stringify(report)}`);
      }
      await send(server, FIRST.rate, 1, { ...generator, ...FIRST });
      server.pause();
      results.started(name, server.startSeconds);
    } catch (error) {
      say(`${name}: ${String(error)}`);
      results.failed(name, (error as Error).message);
    }
  }
  return servers;
}

async function measureAll(servers: readonly PeerServer[], results: Results): Promise<void> {
  const own = servers.find(({ peer }) => peer === DEPTHSERVE);
  if (values.peak !== undefined) results.setPeak(Number(values.peak));
  else if (results.peak === null && own) results.setPeak(await peakOf(own));
  const { peak } = results;
  if (peak === null) throw new Error('no peak known: --peak N');
  const first = results.rounds;
  for (let round = first + 1; round <= first + Number(values.rounds); round++) {
    const release = await hold(values.under);
    for (const load of values.loads.split(',').map(Number)) {
      // Whoever comes first in one round comes last in the next.
      const turn = round % 2 === 0 ? servers.toReversed() : servers;
      for (const server of turn) {
        const cell = await quietly(server, load, load * peak, round);
        results.add(cell);
        say(
          `round ${round}, ${load} x, ${cell.server}: ${cell.goodput.toFixed(0)}/s right in time, ` +
            `others took ${cell.otherCores.toFixed(2)} cores`,
        );
      }
    }
    await release();
  }
}

/** Runs `program` until the returned function is called; resolves when it has let us begin. */
async function hold(program: string): Promise<() => Promise<void>> {
  if (program === '') return async () => {};
  const child = spawn(program, ['sh', '-c', 'echo begin; cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`${program} ended with ${code}`);
  });
  ended.catch(() => {});
  await Promise.race([once(child.stdout, 'data'), ended]);
  return async () => {
    child.stdin.end();
    await ended.catch(() => {});
  };
}

/** The least disturbed of a few tries. */
async function quietly(server: PeerServer, load: number, rate: number, round: number) {
  let best = await measure(server, load, rate, round, generator);
  for (let tries = 1; tries < MAX_TRIES && best.otherCores > Number(values.quiet); tries++) {
    await sleep(SETTLE_MS);
    const again = await measure(server, load, rate, round, generator);
    if (again.otherCores < best.otherCores) best = again;
  }
  return best;
}

/** Most right answers in time per second that a rising load gets. */
async function peakOf(server: PeerServer): Promise<number> {
  server.resume(generator.priority);
  const release = await hold(values.under);
  let peak = 0;
  for (const rate of PEAK_RATES) {
    const { goodput } = await send(server, rate, 1, generator);
    say(`${rate}/s offered: ${goodput.toFixed(0)}/s right in time`);
    peak = Math.max(peak, goodput);
    if (goodput < 0.8 * peak) break;
    await sleep(SETTLE_MS);
  }
  await release();
  server.pause();
  return Math.round(peak);
}

await main();
