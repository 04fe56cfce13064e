import { ArrivalEstimator } from './arrivals.ts';
import type { MeasuredLatency } from './latency.ts';
import { tiersFrom } from './policy.ts';
import type {
  Closed,
  Decision,
  Look,
  Policy,
  Refusal,
  Tier,
  Unsure,
  View,
  Waiting,
} from './policy.ts';

/** Monotonic time and timers; replaced by a virtual clock in tests and simulations. */
export interface Clock {
  /** ms. */
  now(): number;
  /** Calls back once at `time`; the returned function cancels. */
  at(time: number, callback: () => void): () => void;
  /** Calls back once everything that has happened up to now has been taken in. */
  soon(callback: () => void): void;
}

/** What an engine made of a batch. */
export interface Ran<Output> {
  /** One for each input, in order. */
  readonly outputs: readonly Output[];
  /** ms that the engine worked; what the batch took beyond that is delay on the way. */
  readonly workMs: number;
}

/** What the scheduler needs of the engine: it runs what it is given, and decides nothing. */
export interface Engine<Input, Output> {
  /** Number of batches that can run at the same time. */
  readonly workers: number;
  /** Runs `inputs` as one batch on `worker`. */
  run(worker: number, tier: Tier, inputs: readonly Input[]): Promise<Ran<Output>>;
  /** Asked after a run that failed: resolves when `worker` can take another batch. */
  recovered?(worker: number): Promise<void>;
}

/** A look and what it saw. */
export interface Looked<Output> extends Look {
  readonly output: Output;
  /** When it was through, ms on the scheduler's clock. */
  readonly at: number;
}

/** An answer and how it came about: that of the last look. Times in ms, of all looks together. */
export interface Served<Output> {
  readonly output: Output;
  readonly tier: Tier;
  /** First one first. */
  readonly looks: readonly Looked<Output>[];
  readonly batchSize: number;
  readonly queueMs: number;
  readonly inferenceMs: number;
  /** Predicted at dispatch, from the request's arrival to its result. */
  readonly predictedMs: number;
}

/** Told of everything that happens; feeds the metrics. */
export interface SchedulerEvents {
  dispatched?(tier: Tier, batchSize: number): void;
  finished?(tier: Tier, batchSize: number, predictedMs: number, actualMs: number): void;
}

/** Refused, on arrival or as soon as others had to be preferred: it would miss its deadline. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  constructor(readonly refusal: Refusal) {
    super(refusal.reason);
  }
}

/** Accepted, but became hopeless in the queue. */
export class ExpiredError extends Error {
  override readonly name = 'ExpiredError';
}

interface Entry<Input, Output> extends Waiting {
  readonly input: Input;
  readonly enqueuedAt: number;
  readonly settle: Settle<Output>;
}

/** An entry with an answer in hand. */
interface Held<Input, Output> extends Entry<Input, Output>, Unsure {
  readonly served: Served<Output>;
  /** When the answer came. */
  readonly since: number;
}

/** Called once, with the answer or with RefusedError, ExpiredError or the engine's error. */
export interface Settle<Output> {
  resolve(served: Served<Output>): void;
  reject(error: unknown): void;
}

/** A reserved place whose input is ready. */
export interface Ready<Input, Output> {
  readonly place: Waiting;
  readonly input: Input;
  readonly settle: Settle<Output>;
}

/** What an image asks of the scheduler. */
export type Wish = Omit<Waiting, 'id'>;

/** Time in ms until an input is ready: mostly, and at most (95th percentile). */
export interface Preparation {
  readonly mostlyMs: number;
  readonly atMostMs: number;
}

const READY: Preparation = { mostlyMs: 0, atMostMs: 0 };

interface Reserved extends Waiting {
  readonly evicted: (error: RefusedError) => void;
}

export interface SchedulerOptions<Input, Output> {
  readonly policy: Policy;
  readonly tiers: readonly Tier[];
  readonly latency: MeasuredLatency;
  readonly engine: Engine<Input, Output>;
  readonly clock: Clock;
  readonly maxBatch: number;
  readonly events?: SchedulerEvents;
  /** How sure an answer is, 0 to 1; absent: nothing is looked at again. */
  readonly confidence?: (output: Output, tier: Tier) => number;
}

/** An answer in hand leaves so long before its deadline, ms, even if a second look still runs. */
const LEAVE_MS = 1;

/** Longest that one refusal, in ms, answers for the like of it. */
const CLOSED_MS = 10;

/** Shorter pauses between batches, in ms, are no rest; nor is every arrival worth the effort. */
const LONG_REST_MS = 100;

/**
 * Holds the queue, asks the policy, hands batches to the engine. Every submitted request is
 * settled exactly once: served, refused, or expired.
 */
export class Scheduler<Input, Output> {
  readonly #options: SchedulerOptions<Input, Output>;
  /** Earliest deadline first; equal deadlines in order of arrival. */
  readonly #queue: Entry<Input, Output>[] = [];
  /** Admitted, but their inputs are not ready yet; earliest deadline first. */
  readonly #reserved: Reserved[] = [];
  /** Answered, but perhaps to be looked at again; earliest deadline first. */
  readonly #unsure: Held<Input, Output>[] = [];
  /** Who is refused without asking the policy again, and since when; null: ask. */
  #closed: (Closed & { floor: number; smallestDeadline: number; since: number }) | null = null;
  readonly #enginesFreeAt: number[];
  readonly #busy: boolean[];
  readonly #arrivals = new ArrivalEstimator();
  #running = 0;
  /** Images in the batch that was started last. */
  #lastBatch = 1;
  /** Since when the engines have had nothing to do, as far as the latency model was told. */
  #restingSince: number;
  #nextId = 0;
  #cancelWake: () => void = () => {};
  #idle: (() => void)[] = [];

  constructor(options: SchedulerOptions<Input, Output>) {
    this.#options = options;
    this.#enginesFreeAt = Array.from({ length: options.engine.workers }, () => -Infinity);
    this.#busy = this.#enginesFreeAt.map(() => false);
    this.#restingSince = options.clock.now();
  }

  get queueLength(): number {
    return this.#queue.length;
  }

  /** Nothing waits and no engine works. */
  get idle(): boolean {
    return this.#queue.length === 0 && this.#unsure.length === 0 && !this.#busy.includes(true);
  }

  /** Requests that engines work on, or failed on and have not recovered from. */
  get running(): number {
    return this.#running;
  }

  /** Age in ms of the request that has waited longest; 0 when none waits. */
  get oldestAgeMs(): number {
    const now = this.#options.clock.now();
    return this.#queue.reduce((oldest, entry) => Math.max(oldest, now - entry.enqueuedAt), 0);
  }

  /**
   * How many more ready inputs are of use now: engines should find the batch that they could run,
   * twice over, and what is made ready beyond that may be in vain.
   */
  get appetite(): number {
    const { workers } = this.#options.engine;
    return 2 * Math.max(this.#lastBatch, 2 * workers) - this.#queue.length;
  }

  /** When the input must be ready for the cheapest sub-network allowed to answer in time. */
  latestReady({ deadline, minAccuracy, skip }: Wish): number {
    const { tiers, latency } = this.#options;
    const allowed =
      skip === undefined
        ? (tiersFrom(tiers, minAccuracy)[0] ?? tiers[0]!)
        : { skip, accuracy: 0, macs: 0 };
    return deadline - latency.predict(allowed, 1);
  }

  /**
   * Submits inputs of one request that are ready: all are answered together, or none is queued.
   *
   * @param signal takes them out of the queue; what runs already can't be stopped.
   */
  async submitAll(
    inputs: readonly Input[],
    wish: Wish,
    signal?: AbortSignal,
  ): Promise<readonly Served<Output>[]> {
    signal?.throwIfAborted();
    const places = this.reserve(inputs.length, wish);
    signal?.addEventListener('abort', () => this.withdraw(places, signal.reason), { once: true });
    const answers: Promise<Served<Output>>[] = [];
    const ready = places.map((place, index): Ready<Input, Output> => {
      let settle: Settle<Output>;
      answers.push(new Promise((resolve, reject) => (settle = { resolve, reject })));
      return { place, input: inputs[index]!, settle: settle! };
    });
    this.enqueue(ready);
    return Promise.all(answers);
  }

  /** One input, as `submitAll`. */
  async submit(input: Input, wish: Wish, signal?: AbortSignal): Promise<Served<Output>> {
    const [served] = await this.submitAll([input], wish, signal);
    return served!;
  }

  /**
   * What `reserve` would refuse if it were called now; null: nothing. A refusal is cached, so that
   * under overload, when most requests are refused, the next one costs next to nothing.
   */
  preview(wish: Wish, preparation: Preparation = READY): Refusal | null {
    const refusal = this.#refusalOf({ ...wish, id: -1 }, preparation);
    // Demand that is turned away is demand, too; what is let in is counted when it is admitted.
    if (refusal) this.#observe(wish.deadline - preparation.mostlyMs);
    return refusal;
  }

  /**
   * Admits `count` inputs of one request, all or none, before work is spent on making them ready:
   * from now on they count against those that come later.
   *
   * @param evicted called for each place that is lost to others before its input is queued.
   * @throws {RefusedError}
   */
  reserve(
    count: number,
    wish: Wish,
    preparation: Preparation = READY,
    evicted: (error: RefusedError) => void = () => {},
  ): readonly Waiting[] {
    const places: Waiting[] = [];
    for (let i = 0; i < count; i++) {
      const place: Waiting = { ...wish, id: this.#nextId++ };
      this.#observe(place.deadline - preparation.mostlyMs);
      const refusal = this.#refusalOf(place, preparation);
      if (refusal) {
        this.withdraw(places, null);
        throw new RefusedError(refusal);
      }
      places.push(place);
      insert(this.#reserved, { ...place, evicted });
    }
    return places;
  }

  /**
   * Queues inputs that have become ready: all before any is started, so that they can be a batch.
   * Places that were evicted or withdrawn meanwhile are passed over: their owners know.
   */
  enqueue(ready: readonly Ready<Input, Output>[]): void {
    const enqueuedAt = this.#options.clock.now();
    for (const { place, input, settle } of ready) {
      const index = this.#reserved.findIndex(({ id }) => id === place.id);
      if (index < 0) continue;
      this.#reserved.splice(index, 1);
      insert(this.#queue, { ...place, input, enqueuedAt, settle });
    }
    this.#step();
  }

  /** Gives up places, whether their inputs are ready or not; what runs already runs on. */
  withdraw(places: readonly Waiting[], reason: unknown): void {
    const ids = new Set(places.map(({ id }) => id));
    for (let i = this.#reserved.length - 1; i >= 0; i--) {
      if (ids.has(this.#reserved[i]!.id)) this.#reserved.splice(i, 1);
    }
    this.#closed = null;
    for (const entry of this.#unsure.filter(({ id }) => ids.has(id))) {
      this.#release(entry).settle.reject(reason);
    }
    const waiting = this.#queue.filter(({ id }) => ids.has(id));
    for (const entry of waiting) this.#take(entry).settle.reject(reason);
    // Those that would have shared a batch with them may now have a better choice.
    if (waiting.length > 0) this.#step();
  }

  #observe(deadline: number): void {
    const now = this.#options.clock.now();
    this.#arrivals.observe(now, deadline - now);
  }

  /** What making ready takes is time that a plan can't count on, and that a budget must hold. */
  #refusalOf(wish: Waiting, { mostlyMs, atMostMs }: Preparation): Refusal | null {
    const refusal = this.#refusalOfReady({ ...wish, deadline: wish.deadline - mostlyMs });
    if (!refusal || atMostMs === 0) return refusal;
    return { ...refusal, smallestBudgetMs: refusal.smallestBudgetMs + atMostMs };
  }

  #refusalOfReady(request: Waiting): Refusal | null {
    const now = this.#options.clock.now();
    const known = this.#closed;
    if (
      known &&
      request.skip === undefined &&
      request.minAccuracy === known.floor &&
      request.deadline <= known.until &&
      now - known.since <= CLOSED_MS
    ) {
      return {
        reason: now + known.quickestMs > request.deadline ? 'budget-too-small' : 'overload',
        smallestBudgetMs: known.smallestDeadline - request.arrivedAt,
      };
    }
    const refusal = this.#options.policy.admit(this.#view(), request);
    if (refusal?.closed && request.skip === undefined) {
      const smallestDeadline = request.arrivedAt + refusal.smallestBudgetMs;
      this.#closed = {
        ...refusal.closed,
        floor: request.minAccuracy,
        smallestDeadline,
        since: now,
      };
    }
    return refusal;
  }

  /** Resolves when nothing is queued or running. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#reportIdle();
    });
  }

  #view(): View {
    const { clock, tiers, latency, maxBatch } = this.#options;
    const now = clock.now();
    this.#rest(now);
    const working = this.#enginesFreeAt.filter((at) => at < Infinity);
    return {
      now,
      queue: this.#queue,
      reserved: this.#reserved,
      unsure: this.#unsure,
      tiers,
      latency,
      arrivals: this.#arrivals.forecast(now),
      // While none works, plan as if one came back now: what it comes too late for expires.
      enginesFreeAt: working.length > 0 ? working : [now],
      maxBatch,
    };
  }

  #rest(now: number): void {
    const ms = now - this.#restingSince;
    if (ms < LONG_REST_MS || this.#busy.includes(true)) return;
    this.#options.latency.rest(ms);
    this.#restingSince = now;
  }

  /** Starts what the policy wants started, until every engine is busy or it wants nothing. */
  #step(): void {
    this.#cancelWake();
    let wakeAt = this.#letGo();
    while (this.#queue.length > 0) {
      const worker = this.#busy.indexOf(false);
      const { policy } = this.#options;
      const decision: Decision | undefined =
        worker < 0
          ? policy.hopeless && { run: null, ...policy.hopeless(this.#view()) }
          : policy.decide(this.#view());
      if (!decision) break;
      // Told only when the decision is carried out: an owner may withdraw others of it.
      for (const request of decision.expire) {
        const { settle } = this.#take(request);
        queueMicrotask(() => settle.reject(new ExpiredError()));
      }
      for (const { request, refusal } of decision.giveUp ?? []) {
        this.#evict(request, new RefusedError(refusal));
      }
      if (!decision.run) {
        if (this.#queue.length > 0) wakeAt = Math.min(wakeAt, decision.wakeAt ?? Infinity);
        break;
      }
      const { batch, tier } = decision.run;
      void this.#dispatch(
        worker,
        tier,
        batch.map((request) => this.#take(request)),
      );
    }
    this.#lookAgain();
    this.#cancelWake =
      wakeAt < Infinity ? this.#options.clock.at(wakeAt, () => this.#step()) : () => {};
    this.#reportIdle();
  }

  /** Sends off the answers that are not to be looked at again; when to ask next. */
  #letGo(): number {
    if (this.#unsure.length === 0) return Infinity;
    const { leave, wakeAt } = this.#options.policy.secondLooks!.leaving(this.#view());
    for (const request of leave) {
      const { settle, served } = this.#release(request);
      settle.resolve(served);
    }
    return this.#unsure.length > 0 ? (wakeAt ?? Infinity) : Infinity;
  }

  /** Engines that no promised answer waits for look again. */
  #lookAgain(): void {
    while (this.#unsure.length > 0 && this.#queue.length === 0) {
      const worker = this.#busy.indexOf(false);
      const choice = worker < 0 ? null : this.#options.policy.secondLooks!.choose(this.#view());
      if (!choice) return;
      void this.#dispatch(
        worker,
        choice.tier,
        choice.batch.map((request) => this.#release(request)),
      );
    }
  }

  #release(request: Waiting): Held<Input, Output> {
    const index = this.#unsure.findIndex(({ id }) => id === request.id);
    if (index < 0) throw new Error(`the policy chose request ${request.id}, which has no answer`);
    return this.#unsure.splice(index, 1)[0]!;
  }

  #evict(request: Waiting, error: RefusedError): void {
    const reserved = this.#reserved.findIndex(({ id }) => id === request.id);
    this.#closed = null;
    if (reserved < 0) {
      const { settle } = this.#take(request);
      queueMicrotask(() => settle.reject(error));
      return;
    }
    const [{ evicted }] = this.#reserved.splice(reserved, 1) as [Reserved];
    queueMicrotask(() => evicted(error));
  }

  #take(request: Waiting): Entry<Input, Output> {
    const index = this.#queue.findIndex((entry) => entry.id === request.id);
    this.#closed = null;
    if (index < 0) throw new Error(`the policy chose request ${request.id}, which does not wait`);
    return this.#queue.splice(index, 1)[0]!;
  }

  async #dispatch(
    worker: number,
    tier: Tier,
    batch: readonly (Entry<Input, Output> | Held<Input, Output>)[],
  ): Promise<void> {
    const { clock, engine, latency, events } = this.#options;
    const dispatchedAt = clock.now();
    const gone = new Set<number>();
    const timers = batch.flatMap((entry) =>
      'served' in entry ? this.#leaveInTime(entry, gone) : [],
    );
    const predicted = latency.predict(tier, batch.length);
    this.#busy[worker] = true;
    this.#running += batch.length;
    this.#lastBatch = batch.length;
    // The margin for scatter belongs to who is promised something, once, not to everybody ahead.
    this.#enginesFreeAt[worker] = dispatchedAt + latency.typical(tier, batch.length);
    events?.dispatched?.(tier, batch.length);
    try {
      const { outputs, workMs } = await engine.run(
        worker,
        tier,
        batch.map((entry) => entry.input),
      );
      const inferenceMs = clock.now() - dispatchedAt;
      latency.observe(tier, batch.length, workMs, inferenceMs - workMs);
      this.#restingSince = clock.now();
      events?.finished?.(tier, batch.length, predicted, inferenceMs);
      batch.forEach((entry, index) => {
        if (gone.has(entry.id)) return;
        const before = 'served' in entry ? entry : undefined;
        const output = outputs[index]!;
        const confidence = this.#options.confidence?.(output, tier) ?? tier.accuracy;
        const look: Looked<Output> = { tier, confidence, output, at: clock.now() };
        this.#looked(entry, look, {
          output,
          tier,
          looks: before ? [...before.served.looks, look] : [look],
          batchSize: batch.length,
          queueMs: before
            ? before.served.queueMs + dispatchedAt - before.since
            : dispatchedAt - entry.enqueuedAt,
          inferenceMs: (before?.served.inferenceMs ?? 0) + inferenceMs,
          predictedMs: dispatchedAt - entry.arrivedAt + predicted,
        });
      });
    } catch (error) {
      for (const entry of batch) {
        // An answer in hand is not lost because a second look failed.
        if (gone.has(entry.id)) continue;
        if ('served' in entry) entry.settle.resolve(entry.served);
        else entry.settle.reject(error);
      }
      this.#enginesFreeAt[worker] = Infinity;
      await engine.recovered?.(worker);
    } finally {
      for (const cancel of timers) cancel();
      this.#busy[worker] = false;
      this.#running -= batch.length;
      this.#enginesFreeAt[worker] = clock.now();
      this.#closed = null;
      this.#step();
    }
  }

  /** An answer leaves, unless it is a first one that the policy may want to look at again. */
  #looked(entry: Entry<Input, Output>, look: Looked<Output>, served: Served<Output>): void {
    const { policy, confidence } = this.#options;
    const mayAgain = policy.secondLooks && confidence && entry.skip === undefined;
    if (!mayAgain || !look.tier.again || served.looks.length > 1) entry.settle.resolve(served);
    else insert(this.#unsure, { ...entry, look, served, since: look.at });
  }

  /** A second look that takes too long is not waited for: the request is `gone` then. */
  #leaveInTime({ id, deadline, settle, served }: Held<Input, Output>, gone: Set<number>) {
    return this.#options.clock.at(deadline - LEAVE_MS, () => {
      gone.add(id);
      settle.resolve(served);
    });
  }

  #reportIdle(): void {
    if (!this.idle) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}

/** Earliest deadline first; equal deadlines in order of arrival. */
function insert<Item extends Waiting>(sorted: Item[], item: Item): void {
  const before = sorted.findLastIndex((other) => other.deadline <= item.deadline);
  sorted.splice(before + 1, 0, item);
}
