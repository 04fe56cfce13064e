import { DecodeTimes } from '../../src/pipeline/decode-times.ts';
import type { Decoder } from '../../src/pipeline/decode-stage.ts';
import { Pipeline } from '../../src/pipeline/pipeline.ts';
import type { ImageAnswer } from '../../src/pipeline/pipeline.ts';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import type { Policy, Tier } from '../../src/scheduler/policy.ts';
import { ExpiredError, RefusedError } from '../../src/scheduler/scheduler.ts';
import type { Engine, SchedulerEvents } from '../../src/scheduler/scheduler.ts';
import { SharedCores } from '../../src/shared-cores.ts';
import type { Request } from './arrivals.ts';
import { accuracyAfter, confidenceIn, difficultyOf } from './difficulty.ts';
import { balance } from './balance.ts';
import type { Balancing } from './balance.ts';
import { VirtualClock } from './clock.ts';
import { Machine } from './machine.ts';
import type { MachineSetup } from './machine.ts';
import { Random } from './random.ts';
import type { Profile } from './tables.ts';

/** Engines take `factor` times as long between two times in ms. */
export interface Slowdown {
  readonly from: number;
  readonly to: number;
  readonly factor: number;
}

export interface Setup {
  readonly profile: Profile;
  readonly policy: Policy;
  readonly requests: readonly Request[];
  readonly seed: number;
  /** Engines of each replica. */
  readonly engines: number;
  readonly replicas: number;
  readonly balancing: Balancing;
  readonly slowdowns: readonly Slowdown[];
  /** Sigma of the log-normal factor on batch times, whose median is 1; 0: exactly as in the table. */
  readonly jitter: number;
  /** Images that each replica decodes at the same time; absent: any number. */
  readonly decoders?: number;
  /** What each replica runs on; absent: nothing ever waits for a core, and HTTP takes no time. */
  readonly machine?: MachineSetup;
}

/** What became of one request. Times in ms. */
export interface Outcome {
  readonly request: Request;
  readonly result: 'served' | 'refused' | 'expired';
  /** When it was settled. */
  readonly at: number;
  /** The sub-network that answered; null when none did. */
  readonly tier: Tier | null;
  /** How often it looked; 0 without an answer. */
  readonly looks: number;
  /** Probability that the answer is right, given what the looks were like; 0 without one. */
  readonly accuracy: number;
  /** Answered within its budget. */
  readonly inTime: boolean;
  /** Predicted at dispatch minus actual time from arrival to answer, ms; 0 without an answer. */
  readonly predictionError: number;
}

/**
 * Plays `requests` against the server's own pipeline; outcomes in the order of arrival.
 *
 * @param events told of what all replicas do.
 */
export async function simulate(
  setup: Setup,
  clock = new VirtualClock(),
  events: SchedulerEvents = {},
): Promise<Outcome[]> {
  const { requests, replicas } = setup;
  const machines = Array.from(
    { length: replicas },
    () => setup.machine && new Machine(setup.machine, clock),
  );
  const pipelines = machines.map((machine, index) => replica(setup, clock, index, events, machine));
  const schedulers = pipelines.map(({ scheduler }) => scheduler);
  const choose = balance(setup.balancing, new Random(setup.seed, 3));
  const outcomes: Outcome[] = [];

  const arrive = (index: number) => {
    const request = requests[index]!;
    const { arrivedAt, budget, minAccuracy, decodeMs = 0 } = request;
    const chosen = choose(schedulers);
    const pipeline = pipelines[chosen]!;
    const machine = machines[chosen];
    const settle = (result: Outcome['result'], served?: ImageAnswer<number>) => {
      const at = clock.now();
      const tier = served?.tier ?? null;
      const { predictedMs = 0, looks = [] } = served ?? {};
      const inTime = tier !== null && at <= arrivedAt + budget + ROUNDING_MS;
      const predictionError = tier === null ? 0 : predictedMs - (at - arrivedAt);
      const accuracy = looks.length === 0 ? 0 : accuracyAfter(looks);
      outcomes[index] = {
        request,
        result,
        at,
        tier,
        looks: looks.length,
        accuracy,
        inTime,
        predictionError,
      };
    };
    // What is learnt of decoding is kept by size; here the time is all the size there is.
    const header = { format: 'jpeg', pixels: Math.ceil(PIXELS_PER_MS * decodeMs) };
    const answers = async () => {
      if (machine) await machine.read();
      // As the server, which knows nothing of what came before it read the head.
      const imageRequest = { arrivedAt: clock.now(), budgetMs: budget, minAccuracy };
      if (decodeMs === 0) return pipeline.classifyPixels([index], imageRequest);
      // As /classify does with files; the budget of pixels comes with the body.
      const refusal = pipeline.preview(imageRequest);
      if (refusal) throw new RefusedError(refusal);
      return pipeline.classify([{ file: { index, ms: decodeMs }, header }], imageRequest);
    };
    const answered = async () => {
      const answer = await answers();
      await machine?.answer();
      return answer;
    };
    answered().then(
      ([served]) => settle('served', served),
      (error: unknown) => {
        if (error instanceof RefusedError) settle('refused');
        else if (error instanceof ExpiredError) settle('expired');
        else throw error;
      },
    );
    if (index + 1 < requests.length)
      clock.at(requests[index + 1]!.arrivedAt, () => arrive(index + 1));
  };
  if (requests.length > 0) clock.at(requests[0]!.arrivedAt, () => arrive(0));
  await clock.run();
  return outcomes;
}

/** A batch planned to end at a deadline may end a rounding error after it. */
const ROUNDING_MS = 1e-6;

/** Pixels that a simulated file of 1 ms claims to have. */
export const PIXELS_PER_MS = 1e5;

/** Decoders of a replica whose number is not limited. */
const ANY_NUMBER = 64;

/** An image file as far as the simulator knows it. */
interface SimulatedFile {
  readonly index: number;
  /** Time of decoding. */
  readonly ms: number;
}

/** One server on the virtual clock, as the real one is put together. */
export function replica(
  setup: Pick<
    Setup,
    'profile' | 'policy' | 'engines' | 'seed' | 'slowdowns' | 'jitter' | 'decoders'
  >,
  clock: VirtualClock,
  index: number,
  events: SchedulerEvents = {},
  machine?: Machine,
): Pipeline<SimulatedFile, number, number> {
  const { profile, policy, engines } = setup;
  const truth = new MeasuredLatency(profile.latency);
  const random = new Random(setup.seed, 10 + index);
  /** Calls back when `ms` were computed, with the ms that were waited for a core. */
  const compute = async (ms: number, done: (waitMs: number) => void) => {
    if (machine) done(await machine.compute(ms));
    else clock.at(clock.now() + ms, () => done(0));
  };
  const engine: Engine<number, number> = {
    workers: engines,
    run: (_worker, tier, inputs) =>
      new Promise((resolve) => {
        const now = clock.now();
        const slow = setup.slowdowns.find(({ from, to }) => now >= from && now < to)?.factor ?? 1;
        const noise = setup.jitter === 0 ? 1 : Math.exp(setup.jitter * random.normal());
        const workMs = truth.predict(tier, inputs.length) * slow * noise;
        const outputs = inputs.map((input) => difficultyOf(setup.seed, input));
        void compute(workMs, (waitMs) => resolve({ outputs, workMs, waitMs }));
      }),
  };
  const workers = setup.decoders ?? ANY_NUMBER;
  const decoder: Decoder<SimulatedFile, number> = {
    workers,
    decode: (_worker, files) =>
      new Promise((resolve) => {
        const ms = files.reduce((sum, file) => sum + file.ms, 0);
        const decoded = files.map((file) => ({ pixels: file.index, ms: file.ms }));
        void compute(ms, () => resolve(decoded));
      }),
  };
  const latency = new MeasuredLatency(profile.latency);
  const sharedCores =
    machine &&
    new SharedCores(
      { workers: engines, threadsEach: 1 },
      (overhead) => latency.observeOverhead(overhead),
      machine,
    );
  return new Pipeline({
    policy,
    tiers: () => profile.tiers,
    latency,
    decoder,
    decodeTimes: new DecodeTimes(),
    engine,
    clock,
    maxBatch: profile.maxBatch,
    events: {
      ...events,
      finished(tier, size, predictedMs, actualMs, workMs) {
        events.finished?.(tier, size, predictedMs, actualMs, workMs);
        sharedCores?.ran(size, workMs);
      },
    },
    ...(machine && { unreadMs: () => machine.unreadMs }),
    confidence: confidenceIn,
  });
}
