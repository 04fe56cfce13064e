import { ExpiredError, RefusedError } from '../../src/scheduler/scheduler.ts';
import type { Scheduler } from '../../src/scheduler/scheduler.ts';
import type { Tier } from '../../src/scheduler/policy.ts';
import { SHARE_OF_BUDGET } from '../../src/telemetry/metrics.ts';
import { Autoscaler, replicasWanted, SYNC_SECONDS } from './autoscale.ts';
import type { Limits, PodState, Target } from './autoscale.ts';
import { balance } from './balance.ts';
import { VirtualClock } from './clock.ts';
import { Random } from './random.ts';
import { replica } from './run.ts';
import type { Setup } from './run.ts';
import { capacity } from './tables.ts';
import { SERIES } from './series.ts';
import type { Sample } from './series.ts';
import { submit } from './submit.ts';

/** One metric of an autoscaler's rule, and where it comes from. */
export interface Metric extends Target {
  /** A key of SERIES. */
  readonly series: string;
  /** Averaged over this time. */
  readonly overSeconds: number;
  /** How the values of several pods become one; for `value` and `average` only. */
  readonly across: 'avg' | 'sum' | 'max' | null;
}

export interface Rule extends Limits {
  readonly metrics: readonly Metric[];
}

/** Replicas that come and go. */
export interface FleetSetup extends Pick<
  Setup,
  'profile' | 'policy' | 'engines' | 'seed' | 'balancing'
> {
  /** Arrivals, ms on the clock of the requests. */
  readonly times: readonly number[];
  readonly durationMs: number;
  /** Ms, drawn evenly. */
  readonly budgets: readonly number[];
  /**
   * Seconds of the autoscaler's clock for each second of the requests': of every minute only this
   * fraction is played, at its full rate.
   */
  readonly speed: number;
  /** From the decision to the first request, s. */
  readonly startSeconds: number;
  /** A replica that leaves is paid for so long, s. */
  readonly leaveSeconds: number;
  readonly cores: number;
  readonly cpuSecondsPerRequest: number;
  readonly initial: number;
  /** Null: the number stays. */
  readonly rule: Rule | null;
}

/** Between two decisions; times in s on the autoscaler's clock. */
export interface Interval {
  readonly at: number;
  readonly replicas: number;
  arrivals: number;
  inTime: number;
  /** Expected accuracies of the answers in time, added up. */
  correct: number;
}

export interface FleetResult {
  readonly intervals: readonly Interval[];
  readonly replicaHours: number;
  readonly requests: number;
  readonly attainment: number;
  /** Mean over the answers in time. */
  readonly accuracy: number;
  readonly refused: number;
  readonly expired: number;
}

/** Rounding may end a batch so long after a deadline that it was planned to meet, ms. */
const ROUNDING_MS = 1e-6;
/** Scrapes remembered: the longest period that a rule looks at, and one more. */
const SCRAPES = 300 / SYNC_SECONDS + 1;

/** Plays a day: production schedulers, a balancer, and the autoscaler above them. */
export async function simulateFleet(setup: FleetSetup): Promise<FleetResult> {
  const { times, durationMs, speed, rule, budgets } = setup;
  const clock = new VirtualClock();
  const seconds = () => (clock.now() / 1000) * speed;
  const random = new Random(setup.seed, 1);
  const choose = balance(setup.balancing, new Random(setup.seed, 3));
  const autoscaler = rule && new Autoscaler(rule);

  const pods: Pod[] = [];
  let serving: readonly Pod[] = [];
  let schedulers: readonly Scheduler<number, number>[] = [];
  let created = 0;
  let replicaSeconds = 0;
  const intervals: Interval[] = [];
  let interval!: Interval;
  let refused = 0;
  let expired = 0;

  const add = (readyAt: number) => {
    pods.push(new Pod(setup, clock, created++, seconds(), readyAt));
  };
  const remove = () => {
    // The controller of the Deployment takes the youngest; it answers what it has accepted.
    const pod = pods.pop()!;
    replicaSeconds += seconds() - pod.createdAt + setup.leaveSeconds;
  };
  const route = () => {
    serving = pods.filter(({ readyAt }) => readyAt <= seconds());
    schedulers = serving.map(({ scheduler }) => scheduler);
  };

  const tick = () => {
    const now = seconds();
    if (rule && autoscaler) {
      const proposals = rule.metrics.map((metric) => proposal(metric, pods, now, setup));
      const wanted = autoscaler.decide(now, pods.length, proposals);
      while (pods.length < wanted) {
        add(now + setup.startSeconds);
        clock.at(clock.now() + (setup.startSeconds * 1000) / speed, route);
      }
      while (pods.length > wanted) remove();
      route();
    }
    // Scraped after the decision: what is decided on is one period old.
    for (const pod of pods) pod.scrape(now);
    interval = { at: now, replicas: pods.length, arrivals: 0, inTime: 0, correct: 0 };
    intervals.push(interval);
    const next = ((now + SYNC_SECONDS) / speed) * 1000;
    if (next < durationMs) clock.at(next, tick);
  };

  const arrive = (index: number) => {
    const pod = serving[choose(schedulers)]!;
    const arrivedAt = clock.now();
    const budget = random.pick(budgets);
    const mine = interval;
    mine.arrivals++;
    pod.asked++;
    const answered = (tier: Tier) => {
      const used = clock.now() - arrivedAt;
      const met = used <= budget + ROUNDING_MS;
      pod.answered(tier, met, used / budget);
      if (!met) return;
      mine.inTime++;
      mine.correct += tier.accuracy;
    };
    const failed = (error: unknown) => {
      if (error instanceof RefusedError) {
        refused++;
        if (error.refusal.reason === 'overload') pod.wanted++;
      } else if (error instanceof ExpiredError) {
        expired++;
        pod.wanted++;
      } else throw error;
    };
    const needs = { arrivedAt, deadline: arrivedAt + budget, minAccuracy: 0 };
    submit(pod.scheduler, index, needs).then(({ tier }) => answered(tier), failed);
    if (index + 1 < times.length) clock.at(times[index + 1]!, () => arrive(index + 1));
  };

  for (let i = 0; i < setup.initial; i++) add(0);
  route();
  clock.at(0, tick);
  if (times.length > 0) clock.at(times[0]!, () => arrive(0));
  await clock.run();

  const end = (durationMs / 1000) * speed;
  for (const pod of pods) replicaSeconds += end - pod.createdAt;
  const sum = (of: (each: Interval) => number) => intervals.reduce((all, one) => all + of(one), 0);
  const inTime = sum((each) => each.inTime);
  return {
    intervals,
    replicaHours: replicaSeconds / 3600,
    requests: times.length,
    attainment: inTime / times.length,
    accuracy: sum((each) => each.correct) / inTime,
    refused: refused / times.length,
    expired: expired / times.length,
  };
}

function proposal(
  { kind, target, series, overSeconds, across }: Metric,
  pods: readonly Pod[],
  now: number,
  setup: FleetSetup,
): number | null {
  const read = SERIES[series]!;
  const machine = { ...setup, capacity: capacity(setup.profile, setup.engines) };
  const states = pods.map(({ readyAt, history }): PodState => {
    const value = read(history, machine, overSeconds);
    return { pending: false, ready: readyAt <= now, value };
  });
  const values = states.flatMap(({ value }) => value ?? []);
  const all = values.reduce((sum, value) => sum + value, 0);
  const one = { avg: all / values.length, sum: all, max: Math.max(...values) };
  const value = across === null || values.length === 0 ? null : one[across];
  return replicasWanted({ kind, target }, pods.length, states, value);
}

/** A replica, and the metrics it exports. */
class Pod {
  readonly scheduler: Scheduler<number, number>;
  readonly history: Sample[] = [];
  asked = 0;
  wanted = 0;
  #met = 0;
  #lost = 0;
  #busyMs = 0;
  /** Engines at work, and since when. */
  #working = 0;
  #since = 0;
  readonly #budgetUsed = Array.from({ length: SHARE_OF_BUDGET.length + 1 }, () => 0);
  readonly #best: Tier;

  constructor(
    private readonly setup: FleetSetup,
    private readonly clock: VirtualClock,
    index: number,
    readonly createdAt: number,
    readonly readyAt: number,
  ) {
    this.#best = setup.profile.tiers.at(-1)!;
    const events = {
      dispatched: () => this.#work(1),
      finished: () => this.#work(-1),
    };
    ({ scheduler: this.scheduler } = replica(
      { ...setup, slowdowns: [], jitter: 0 },
      clock,
      index,
      events,
    ));
  }

  #work(change: number): void {
    const now = this.clock.now();
    this.#busyMs += this.#working * (now - this.#since);
    this.#working += change;
    this.#since = now;
  }

  answered(tier: Tier, met: boolean, budgetUsed: number): void {
    this.wanted++;
    if (met) {
      this.#met++;
      this.#lost += this.#best.accuracy - tier.accuracy;
    }
    const bucket = SHARE_OF_BUDGET.findIndex((bound) => budgetUsed <= bound);
    this.#budgetUsed[bucket < 0 ? SHARE_OF_BUDGET.length : bucket]!++;
  }

  scrape(now: number): void {
    // Not before its container runs.
    if (now <= this.createdAt && now > 0) return;
    const { speed } = this.setup;
    this.#work(0);
    if (this.history.length === SCRAPES) this.history.shift();
    // Rates are those of the whole time, of which one part in `speed` was played.
    this.history.push({
      at: now,
      queueLength: this.scheduler.queueLength,
      busySeconds: (this.#busyMs / 1000) * speed,
      asked: this.asked * speed,
      wanted: this.wanted * speed,
      met: this.#met,
      accuracyLost: this.#lost,
      budgetUsed: [...this.#budgetUsed],
    });
  }
}
