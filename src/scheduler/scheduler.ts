import { ArrivalEstimator } from './arrivals.ts';
import { ExpiredError, RefusedError } from './contract.ts';
import type { Preparation, Ran, Ready, Requirements, SchedulerOptions } from './contract.ts';
import { FirstAnswers, Running } from './first-answers.ts';
import type { AnsweredOnce } from './first-answers.ts';
import { Queue } from './queue.ts';
import type { Entry } from './queue.ts';
import type { Decision, Refusal, Tier, View, Waiting } from './policy.ts';
import { Workers } from './workers.ts';

export { ExpiredError, RefusedError } from './contract.ts';
export type * from './contract.ts';

const READY: Preparation = { mostlyMs: 0, atMostMs: 0 };

/** Shorter pauses between batches, in ms, are no rest; nor is every arrival worth the effort. */
const LONG_REST_MS = 100;

/**
 * Holds the queue, asks the policy, hands batches to the engine. Every submitted request is
 * settled exactly once: served, refused, or expired.
 */
export class Scheduler<Input, Output> {
  readonly #options: SchedulerOptions<Input, Output>;
  readonly #queue = new Queue<Input, Output>();
  readonly #answered: FirstAnswers<Input, Output>;
  readonly #workers: Workers;
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
    this.#answered = new FirstAnswers(options);
    this.#workers = new Workers(options.engine, options.clock, () => this.#step());
    this.#restingSince = options.clock.now();
  }

  get queueLength(): number {
    return this.#queue.ready.length;
  }

  /** Nothing waits and no engine works. */
  get idle(): boolean {
    return this.queueLength + this.#answered.all.length === 0 && this.#workers.idle;
  }

  /** Requests that engines work on, or failed on and have not recovered from. */
  get running(): number {
    return this.#running;
  }

  /** Age in ms of the request that has waited longest; 0 when none waits. */
  get oldestAgeMs(): number {
    const now = this.#options.clock.now();
    return Math.max(0, ...this.#queue.ready.map(({ enqueuedAt }) => now - enqueuedAt));
  }

  /**
   * How many more ready inputs are of use now: engines should find the batch that they could run,
   * twice over, and what is made ready beyond that may be in vain.
   */
  get wantedInputs(): number {
    const { workers } = this.#options.engine;
    return 2 * Math.max(this.#lastBatch, 2 * workers) - this.queueLength;
  }

  /** When the input must be ready for the cheapest sub-network allowed to answer in time. */
  latestReady(needs: Requirements): number {
    return needs.deadline - this.#options.latency.typical(this.#cheapest(needs), 1);
  }

  #cheapest({ minAccuracy, skip }: Requirements): Tier {
    if (skip !== undefined) return { skip, accuracy: 0, macs: 0 };
    const tiers = this.#options.tiers();
    return tiers.find(({ accuracy }) => accuracy >= minAccuracy) ?? tiers[0]!;
  }

  /** What `reserve` would refuse if it were called now; null: nothing. */
  preview(needs: Requirements, preparation: Preparation = READY): Refusal | null {
    const refusal = this.#refusalOf(needs, preparation);
    // Demand that is turned away is demand, too; what is let in is counted when it is admitted.
    if (refusal) this.#observe(needs.deadline - preparation.mostlyMs);
    return refusal && this.#told(refusal);
  }

  /** The smallest budget that the policy would name now, and what it holds for the engine, in ms. */
  enough(needs: Requirements, preparation: Preparation): { enoughMs: number; cheapestMs: number } {
    const refusal = this.#refusalOf({ ...needs, deadline: -Infinity }, preparation)!;
    const cheapestMs = this.#options.latency.predict(this.#cheapest(needs), 1);
    return { enoughMs: refusal.smallestBudgetMs, cheapestMs };
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
    needs: Requirements,
    preparation: Preparation = READY,
    evicted: (error: RefusedError) => void = () => {},
  ): readonly Waiting[] {
    const places: Waiting[] = [];
    for (let i = 0; i < count; i++) {
      const place: Waiting = { ...needs, id: this.#nextId++ };
      this.#observe(place.deadline - preparation.mostlyMs);
      const refusal = this.#refusalOf(place, preparation, place.id);
      if (refusal) {
        this.withdraw(places, null);
        throw new RefusedError(this.#told(refusal));
      }
      places.push(place);
      this.#queue.add({ ...place, evicted });
    }
    return places;
  }

  /**
   * Queues inputs that have become ready: all before any is started, so that they can be a batch.
   * Places that were evicted or withdrawn meanwhile are passed over: their owners know.
   */
  enqueue(ready: readonly Ready<Input, Output>[]): void {
    const enqueuedAt = this.#options.clock.now();
    for (const each of ready) this.#queue.makeReady(each, enqueuedAt);
    this.#step();
  }

  /** Gives up places, whether their inputs are ready or not; what runs already runs on. */
  withdraw(places: readonly Waiting[], reason: unknown): void {
    const { ready } = this.#queue.remove(places);
    for (const { settle } of [...this.#answered.release(places), ...ready]) settle.reject(reason);
    // Those that would have shared a batch with them may now have a better choice.
    if (ready.length > 0) this.#step();
  }

  #observe(deadline: number): void {
    const now = this.#options.clock.now();
    this.#arrivals.observe(now, deadline - now);
  }

  #refusalOf(needs: Requirements, { mostlyMs, atMostMs }: Preparation, id = -1): Refusal | null {
    const view = this.#view();
    const [readyAt, readyAtMost] = [view.now + mostlyMs, view.now + atMostMs];
    return this.#options.policy.admit(view, { ...needs, id, readyAt, readyAtMost });
  }

  #told(refusal: Refusal): Refusal {
    return this.#options.told?.(refusal) ?? refusal;
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
    const working = this.#workers.freeAt;
    return {
      now,
      admitted: this.#queue.admitted,
      queue: this.#queue.ready,
      unsure: this.#answered.all,
      tiers: tiers(),
      latency,
      arrivals: this.#arrivals.forecast(now),
      // While none works, plan as if one came back now: what it comes too late for expires.
      enginesFreeAt: working.length > 0 ? working : [now],
      maxBatch,
    };
  }

  #rest(now: number): void {
    const ms = now - this.#restingSince;
    if (ms < LONG_REST_MS || !this.#workers.idle) return;
    this.#options.latency.rest(ms);
    this.#restingSince = now;
  }

  /** Starts what the policy wants started, until every engine is busy or it wants nothing. */
  #step(): void {
    this.#cancelWake();
    let wakeAt = this.#letGo();
    while (this.queueLength > 0) {
      const worker = this.#workers.next;
      const { policy } = this.#options;
      const decision: Decision | undefined =
        worker < 0
          ? policy.hopeless && { run: null, ...policy.hopeless(this.#view()) }
          : policy.decide(this.#view());
      if (!decision) break;
      this.#tell(decision);
      if (!decision.run) {
        if (this.queueLength > 0) wakeAt = Math.min(wakeAt, decision.wakeAt ?? Infinity);
        break;
      }
      const { batch, tier } = decision.run;
      void this.#dispatch(worker, tier, this.#queue.take(batch));
    }
    this.#lookAgain();
    this.#cancelWake =
      wakeAt < Infinity ? this.#options.clock.at(wakeAt, () => this.#step()) : () => {};
    this.#reportIdle();
  }

  /** Tells who lost hope or place; when the decision is carried out: owners may withdraw others. */
  #tell({ expire, giveUp = [] }: Decision): void {
    for (const { settle } of expire.length > 0 ? this.#queue.take(expire) : []) {
      queueMicrotask(() => settle.reject(new ExpiredError()));
    }
    for (const { request, refusal } of giveUp) {
      const error = new RefusedError(this.#told(refusal));
      const { ready, notReady } = this.#queue.remove([request]);
      for (const { settle } of ready) queueMicrotask(() => settle.reject(error));
      for (const { evicted } of notReady) queueMicrotask(() => evicted(error));
    }
  }

  /** Sends off the answers that are not to be looked at again; when to ask next. */
  #letGo(): number {
    if (this.#answered.all.length === 0) return Infinity;
    const { leave, wakeAt } = this.#options.policy.secondLooks!.leaving(this.#view());
    for (const { settle, served } of this.#answered.release(leave)) settle.resolve(served);
    return this.#answered.all.length > 0 ? (wakeAt ?? Infinity) : Infinity;
  }

  /** Engines that no promised answer waits for look again. */
  #lookAgain(): void {
    while (this.#answered.all.length > 0 && this.queueLength === 0) {
      const worker = this.#workers.next;
      const choice = worker < 0 ? null : this.#options.policy.secondLooks!.choose(this.#view());
      if (!choice) return;
      void this.#dispatch(worker, choice.tier, this.#answered.release(choice.batch));
    }
  }

  /**
   * Runs a batch that nobody waits for, to see how long it takes.
   *
   * @returns null: there is other work, or soon will be.
   */
  async trial(tier: Tier, inputs: readonly Input[]): Promise<Ran<Output> | null> {
    if (!this.idle || this.#queue.admitted.length > 0) return null;
    const { clock, engine, latency } = this.#options;
    const worker = this.#workers.next;
    this.#workers.occupy(worker, clock.now() + latency.typical(tier, inputs.length));
    try {
      return await engine.run(worker, tier, inputs);
    } catch (error) {
      await this.#workers.recovered(worker);
      throw error;
    } finally {
      this.#workers.free(worker);
    }
  }

  /** Told of a worker that is lost, whether it runs a batch or not. */
  async lost(worker: number): Promise<void> {
    await this.#workers.lost(worker);
  }

  async #dispatch(
    worker: number,
    tier: Tier,
    batch: readonly (Entry<Input, Output> | AnsweredOnce<Input, Output>)[],
  ): Promise<void> {
    const { clock, engine, latency, events, confidence } = this.#options;
    const dispatchedAt = clock.now();
    const running = new Running(batch, tier, clock);
    const predictedMs = latency.predict(tier, batch.length);
    this.#running += batch.length;
    this.#lastBatch = batch.length;
    // The margin for scatter belongs to who is promised something, once, not to everybody ahead.
    this.#workers.occupy(worker, dispatchedAt + latency.typical(tier, batch.length));
    events?.dispatched?.(tier, batch.length);
    try {
      const inputs = batch.map(({ input }) => input);
      const { outputs, workMs, waitMs = 0 } = await engine.run(worker, tier, inputs);
      const inferenceMs = clock.now() - dispatchedAt;
      latency.observe(tier, batch.length, workMs, inferenceMs - workMs - waitMs, waitMs);
      this.#restingSince = clock.now();
      events?.finished?.(tier, batch.length, predictedMs, inferenceMs, workMs);
      const sureness = (output: Output) => confidence?.(output, tier) ?? tier.accuracy;
      const answers = running.answers(outputs, sureness, { dispatchedAt, predictedMs });
      for (const [entry, served] of answers) this.#answered.keepOrLeave(entry, served);
    } catch (error) {
      running.failed(error);
      await this.#workers.recovered(worker);
    } finally {
      running.over();
      this.#running -= batch.length;
      this.#workers.free(worker);
    }
  }

  #reportIdle(): void {
    for (const resolve of this.idle ? this.#idle.splice(0) : []) resolve();
  }
}
