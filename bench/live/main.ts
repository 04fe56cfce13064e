/**
 * Open-loop load on a live server, from labelled photos, and what the simulator makes of the same
 * arrivals. Photos: bench/live/photos.py.
 *
 *   npm run bench:live -- --photos runs/live-photos --json FILE [--url URL] [--only NAME,...]
 *     --capacity N   answers/s that the loads are multiples of, measured before; --seconds of a run
 *   npm run bench:live -- --photos runs/live-photos --rate 200 --cv2 4 --seconds 20 [--url URL]
 *   npm run bench:live -- --photos runs/live-photos --trace FILE --scale 50 [--url URL]
 *
 * Without a rate or a trace: all scenarios below, at multiples of the capacity that is measured
 * first. Without a URL: against a server that it starts, with the settings in the environment.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { depthserve } from '../../src/scheduler/depthserve/policy.ts';
import { constant, parseTrace, renewal } from '../../src/simulate/arrivals.ts';
import type { Request } from '../../src/simulate/arrivals.ts';
import { summarise } from '../../src/simulate/metrics.ts';
import { Random } from '../../src/simulate/random.ts';
import { simulate } from '../../src/simulate/run.ts';
import { parseProfile } from '../../src/simulate/tables.ts';
import type { Profile } from '../../src/simulate/tables.ts';
import { closedLoop, openLoop, readPhotos } from './load.ts';
import type { Photo, Reply } from './load.ts';
import { figures } from './report.ts';
import { startServer } from './server.ts';

interface Scenario {
  readonly name: string;
  /** Multiple of the measured capacity. */
  readonly load: number;
  readonly cv2: number;
}

const SCENARIOS: readonly Scenario[] = [
  { name: 'poisson-0.5', load: 0.5, cv2: 1 },
  { name: 'poisson-0.8', load: 0.8, cv2: 1 },
  { name: 'bursts-0.5', load: 0.5, cv2: 8 },
  { name: 'bursts-0.8', load: 0.8, cv2: 8 },
  { name: 'poisson-1', load: 1, cv2: 1 },
  { name: 'overload-1.5', load: 1.5, cv2: 1 },
  { name: 'overload-2', load: 2, cv2: 1 },
];
/** Requests always under way while the capacity is measured. */
const CONNECTIONS = 64;
const CAPACITY_SECONDS = 5;

async function main(): Promise<void> {
  const string = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      url: string,
      photos: string,
      budgets: { type: 'string', default: '15,25,40,100' },
      seconds: { type: 'string', default: '15' },
      seed: { type: 'string', default: '1' },
      jitter: { type: 'string', default: '0.1' },
      only: string,
      rate: string,
      cv2: { type: 'string', default: '1' },
      trace: string,
      scale: { type: 'string', default: '1' },
      capacity: string,
      json: string,
    },
  });
  if (values.photos === undefined) throw new Error('--photos FOLDER is needed: see photos.py');
  const photos = readPhotos(values.photos);
  const budgets = values.budgets.split(',').map(Number);
  const seconds = Number(values.seconds);
  const seed = Number(values.seed);

  const own = values.url === undefined ? await startServer() : null;
  const url = own?.url ?? values.url!;
  await closedLoop(url, photos, 4, 1);
  const runs: object[] = [];
  const live = async (name: string, times: readonly number[]) => {
    const run = await play(url, times, photos, budgets, seed, Number(values.jitter));
    runs.push({ name, ...run });
    const { attainment, accuracy, goodput, predictionError } = run.live;
    console.log(
      [
        name.padEnd(14),
        `${run.rate.toFixed(0)}/s`,
        `in time: server ${percent(attainment.server)}, client ${percent(attainment.client)}`,
        `simulated ${percent(run.simulated.attainment)}`,
        `accuracy ${percent(accuracy.labelled)} labelled, ${percent(accuracy.expected)} expected`,
        `simulated ${percent(run.simulated.accuracy)}`,
        `goodput ${goodput.toFixed(0)}/s`,
        `prediction off by ${percent(predictionError)} (p95)`,
      ].join('; '),
    );
    await sleep(1000);
  };

  let capacity: number | null = null;
  try {
    if (values.trace !== undefined) {
      const times = parseTrace(readFileSync(values.trace, 'utf8'), Number(values.scale));
      await live(
        'trace',
        times.filter((time) => time <= seconds * 1000),
      );
    } else if (values.rate !== undefined) {
      const rate = constant(Number(values.rate));
      await live('rate', renewal(rate, Number(values.cv2), seconds * 1000, new Random(seed)));
    } else {
      capacity =
        values.capacity === undefined
          ? await closedLoop(url, photos, CONNECTIONS, CAPACITY_SECONDS)
          : Number(values.capacity);
      console.log(`capacity: ${capacity.toFixed(1)} answers/s with time enough for the deepest`);
      const wanted = values.only?.split(',') ?? SCENARIOS.map(({ name }) => name);
      for (const { name, load, cv2 } of SCENARIOS.filter((one) => wanted.includes(one.name))) {
        const rate = constant(load * capacity);
        await live(name, renewal(rate, cv2, seconds * 1000, new Random(seed)));
      }
    }
  } finally {
    await own?.stop();
  }
  if (values.json !== undefined) {
    const machine = `${cpus()[0]!.model}, ${availableParallelism()} cores, Node ${process.version}`;
    const conditions = {
      machine,
      generator: 'on the same cores as the server, in a process of its own',
      photos: photos.length,
      budgetsMs: budgets,
      seconds,
      seed,
      capacity,
    };
    writeFileSync(values.json, `${JSON.stringify({ conditions, runs }, null, 1)}\n`);
  }
}

/** One run, live and simulated. */
async function play(
  url: string,
  times: readonly number[],
  photos: readonly Photo[],
  budgets: readonly number[],
  seed: number,
  jitter: number,
) {
  const before = await modelOf(url);
  const slowdowns: number[] = [];
  const sampling = setInterval(() => {
    void modelOf(url).then(({ slowdown }) => slowdowns.push(slowdown));
  }, 1000);
  const replies = await openLoop(url, times, photos, budgets, new Random(seed, 1));
  clearInterval(sampling);
  const seconds = times.at(-1)! / 1000;

  slowdowns.sort((a, b) => a - b);
  const slowdown = slowdowns[slowdowns.length >> 1] ?? before.slowdown;
  const requests = asSimulated(replies, new Random(seed, 2));
  const outcomes = await simulate({
    profile: before.profile,
    policy: depthserve,
    requests,
    seed,
    engines: before.profile.engineWorkers,
    replicas: 1,
    balancing: 'round-robin',
    slowdowns: [{ from: 0, to: Infinity, factor: slowdown }],
    jitter,
  });
  const { attainment, accuracy, p50, p99, tierMix } = summarise(outcomes);
  return {
    rate: times.length / seconds,
    live: figures(replies, seconds),
    simulated: { attainment, accuracy, p50, p99, tierMix, slowdown, jitter },
  };
}

/**
 * The same requests as the server saw them. What it spent on reading, decoding and answering is
 * taken from those that were answered.
 */
function asSimulated(replies: readonly Reply[], random: Random): Request[] {
  const spent = ({ answer }: Reply) => {
    const { totalMs, queueMs, inferenceMs } = answer!.timing;
    return Math.max(0, totalMs - queueMs - inferenceMs);
  };
  const known = replies.filter(({ answer }) => answer !== null).map(spent);
  return replies
    .map((reply) => ({
      arrivedAt: reply.intendedAt + reply.lateness,
      budget: Math.max(0.1, reply.budget - reply.lateness),
      minAccuracy: 0,
      decodeMs: reply.answer ? spent(reply) : known.length > 0 ? random.pick(known) : 0,
    }))
    .sort((a, b) => a.arrivedAt - b.arrivedAt);
}

async function modelOf(url: string): Promise<{ profile: Profile; slowdown: number }> {
  const text = await (await fetch(`${url}/model`)).text();
  const { slowdown } = JSON.parse(text) as { slowdown: number };
  return { profile: parseProfile(text, 'live'), slowdown };
}

const percent = (share: number) => `${(100 * share).toFixed(2)} %`;

await main();
