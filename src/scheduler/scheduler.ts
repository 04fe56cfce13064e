import { ArrivalEstimator } from './arrivals.ts';
import type { MeasuredLatency } from './latency.ts';
import type { Closed, Decision, Policy, Refusal, Tier, View, Waiting } from './policy.ts';

/** Monotonic time and timers; replaced by a virtual clock in tests and simulations. */
export interface Clock {
  /** ms. */
  now(): number;
  /** Calls back once at `time`; the returned function cancels. */
  at(time: number, callback: () => void): () => void;
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

/** An answer and how it came about. Times in ms. */
export interface Served<Output> {
  readonly output: Output;
  readonly tier: Tier;
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
  readonly resolve: (served: Served<Output>) => void;
  readonly reject: (error: unknown) => void;
}

/** What a request wants of the scheduler. */
export type Wish = Omit<Waiting, 'id'>;

/** Places in the queue for inputs that are still being made ready. */
export interface Reservation {
  readonly requests: readonly Waiting[];
  /** Set when one of the places was lost to others. */
  readonly refused: RefusedError | null;
}

/** What a reservation becomes when it is refused after all. */
interface Reserved extends Waiting {
  readonly giveUp: (error: RefusedError) => void;
}

export interface SchedulerOptions<Input, Output> {
  readonly policy: Policy;
  readonly tiers: readonly Tier[];
  readonly latency: MeasuredLatency;
  readonly engine: Engine<Input, Output>;
  readonly clock: Clock;
  readonly maxBatch: number;
  readonly events?: SchedulerEvents;
}

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
  /** Who is refused without asking the policy again, and since when; null: ask. */
  #closed: (Closed & { floor: number; smallestDeadline: number; since: number }) | null = null;
  readonly #enginesFreeAt: number[];
  readonly #busy: boolean[];
  readonly #arrivals = new ArrivalEstimator();
  #running = 0;
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
    return this.#queue.length === 0 && !this.#busy.includes(true);
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
   * @param wish `deadline`: when the answer must be out, on the scheduler's clock.
   * @param signal takes the request out of the queue; what runs already can't be stopped.
   * @returns settles with the answer, or with RefusedError, ExpiredError, the signal's reason or
   *   the engine's error.
   */
  async submit(input: Input, wish: Wish, signal?: AbortSignal): Promise<Served<Output>> {
    const [served] = await this.submitAll([input], wish, signal);
    return served!;
  }

  /** Submits several inputs of one request: all are answered together, or none is queued. */
  async submitAll(
    inputs: readonly Input[],
    wish: Wish,
    signal?: AbortSignal,
  ): Promise<readonly Served<Output>[]> {
    signal?.throwIfAborted();
    return this.redeem(this.reserve(inputs.length, wish), inputs, signal);
  }

  /**
   * What `reserve` would refuse if it were called now; null: nothing. Refused again and again by
   * the like of it, this costs next to nothing: under overload most requests are.
   */
  preview(wish: Wish): Refusal | null {
    const refusal = this.#refusalOf({ ...wish, id: -1 });
    // Demand that is turned away is demand, too; what is let in is counted when it is admitted.
    if (refusal) this.#observe(wish.deadline);
    return refusal;
  }

  /**
   * Admits `count` inputs of one request, all or none, before work is spent on making them ready:
   * from now on they count against those that come later.
   *
   * @param readyInMs when the inputs will be there, as far as is known.
   * @param givenUp called for each place that is lost to others before the inputs are ready.
   * @throws {RefusedError}
   */
  reserve(
    count: number,
    wish: Wish,
    readyInMs = 0,
    givenUp?: (error: RefusedError) => void,
  ): Reservation {
    const requests: Waiting[] = [];
    const reservation = { requests, refused: null as RefusedError | null };
    const giveUp = (error: RefusedError) => {
      reservation.refused = error;
      // Not before the decision is carried out: who is told may take others of it back.
      if (givenUp) queueMicrotask(() => givenUp(error));
    };
    for (let i = 0; i < count; i++) {
      const request: Waiting = { ...wish, id: this.#nextId++ };
      // What making ready uses up of a budget is nothing that a plan could count on.
      const deadline = request.deadline - readyInMs;
      this.#observe(deadline);
      const refusal = this.#refusalOf({ ...request, deadline });
      if (refusal) {
        this.withdraw(reservation);
        throw new RefusedError(refusal);
      }
      requests.push(request);
      insert(this.#reserved, { ...request, giveUp });
    }
    return reservation;
  }

  /**
   * Queues what was reserved: all inputs before any is started, so that they can be a batch.
   *
   * @returns as `submit`.
   */
  async redeem(
    reservation: Reservation,
    inputs: readonly Input[],
    signal?: AbortSignal,
  ): Promise<readonly Served<Output>[]> {
    const { requests, refused } = reservation;
    this.#release(requests);
    if (refused) throw refused;
    signal?.throwIfAborted();
    const answers = requests.map((request, index) => this.#enqueue(request, inputs[index]!));
    signal?.addEventListener('abort', () => this.#cancel(requests, signal.reason), { once: true });
    this.#step();
    return Promise.all(answers);
  }

  /** Gives up what was reserved: the inputs will not come. */
  withdraw({ requests }: Reservation): void {
    this.#release(requests);
    this.#closed = null;
  }

  #release(requests: readonly Waiting[]): void {
    for (const { id } of requests) {
      const index = this.#reserved.findIndex((request) => request.id === id);
      // Who has been given up is gone already.
      if (index >= 0) this.#reserved.splice(index, 1);
    }
  }

  #observe(deadline: number): void {
    const now = this.#options.clock.now();
    this.#arrivals.observe(now, deadline - now);
  }

  #refusalOf(request: Waiting): Refusal | null {
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

  #enqueue(request: Waiting, input: Input): Promise<Served<Output>> {
    return new Promise((resolve, reject) => {
      const enqueuedAt = this.#options.clock.now();
      insert(this.#queue, { ...request, input, enqueuedAt, resolve, reject });
    });
  }

  #cancel(requests: readonly Waiting[], reason: unknown): void {
    const ids = new Set(requests.map(({ id }) => id));
    const waiting = this.#queue.filter(({ id }) => ids.has(id));
    for (const entry of waiting) this.#take(entry).reject(reason);
    // Whoever would have shared a batch with them may now have a better choice.
    if (waiting.length > 0) this.#step();
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
    this.#cancelWake = () => {};
    while (this.#queue.length > 0) {
      const worker = this.#busy.indexOf(false);
      const { policy } = this.#options;
      const decision: Decision | undefined =
        worker < 0
          ? policy.hopeless && { run: null, ...policy.hopeless(this.#view()) }
          : policy.decide(this.#view());
      if (!decision) break;
      for (const request of decision.expire) this.#take(request).reject(new ExpiredError());
      for (const { request, refusal } of decision.giveUp ?? []) {
        this.#giveUp(request, new RefusedError(refusal));
      }
      if (!decision.run) {
        if (decision.wakeAt !== null && this.#queue.length > 0) {
          this.#cancelWake = this.#options.clock.at(decision.wakeAt, () => this.#step());
        }
        break;
      }
      const { batch, tier } = decision.run;
      void this.#dispatch(
        worker,
        tier,
        batch.map((request) => this.#take(request)),
      );
    }
    this.#reportIdle();
  }

  #giveUp(request: Waiting, error: RefusedError): void {
    const reserved = this.#reserved.findIndex(({ id }) => id === request.id);
    this.#closed = null;
    if (reserved < 0) this.#take(request).reject(error);
    else this.#reserved.splice(reserved, 1)[0]!.giveUp(error);
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
    batch: readonly Entry<Input, Output>[],
  ): Promise<void> {
    const { clock, engine, latency, events } = this.#options;
    const dispatchedAt = clock.now();
    const predicted = latency.predict(tier, batch.length);
    this.#busy[worker] = true;
    this.#running += batch.length;
    this.#enginesFreeAt[worker] = dispatchedAt + predicted;
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
        entry.resolve({
          output: outputs[index]!,
          tier,
          batchSize: batch.length,
          queueMs: dispatchedAt - entry.enqueuedAt,
          inferenceMs,
          predictedMs: dispatchedAt - entry.arrivedAt + predicted,
        });
      });
    } catch (error) {
      for (const entry of batch) entry.reject(error);
      this.#enginesFreeAt[worker] = Infinity;
      await engine.recovered?.(worker);
    } finally {
      this.#busy[worker] = false;
      this.#running -= batch.length;
      this.#enginesFreeAt[worker] = clock.now();
      this.#closed = null;
      this.#step();
    }
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
