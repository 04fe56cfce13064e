import type { Clock, Looked, SchedulerOptions, Served } from './contract.ts';
import { inserted } from './queue.ts';
import type { Entry } from './queue.ts';
import type { Tier, Unsure, Waiting } from './policy.ts';

/** Somebody who has a first answer, which is kept for now. */
export interface AnsweredOnce<Input, Output> extends Entry<Input, Output>, Unsure {
  readonly served: Served<Output>;
  /** When the answer came. */
  readonly since: number;
}

/** A first answer leaves so long before its deadline, ms, even if a second look still runs. */
const LEAVE_MS = 1;

/** First answers that may be looked at again before they leave; earliest deadline first. */
export class FirstAnswers<Input, Output> {
  #answers: readonly AnsweredOnce<Input, Output>[] = [];

  constructor(
    private readonly options: Pick<SchedulerOptions<Input, Output>, 'policy' | 'confidence'>,
  ) {}

  get all(): readonly AnsweredOnce<Input, Output>[] {
    return this.#answers;
  }

  /** An answer leaves, unless it is a first one that the policy may want to look at again. */
  keepOrLeave(entry: Entry<Input, Output>, served: Served<Output>): void {
    const { policy, confidence } = this.options;
    const look = served.looks.at(-1)!;
    const mayAgain = policy.secondLooks && confidence && entry.skip === undefined;
    if (!mayAgain || !look.tier.again || served.looks.length > 1) entry.settle.resolve(served);
    else this.#answers = inserted(this.#answers, { ...entry, look, served, since: look.at });
  }

  /** Removes those of `requests`, and returns them. */
  release(requests: readonly Waiting[]): readonly AnsweredOnce<Input, Output>[] {
    const ids = new Set(requests.map(({ id }) => id));
    const released = this.#answers.filter(({ id }) => ids.has(id));
    if (released.length > 0) this.#answers = this.#answers.filter(({ id }) => !ids.has(id));
    return released;
  }
}

/**
 * A batch that runs. Who looks a second time has a first answer: it leaves just before the
 * deadline if the second is not there by then, and if that fails.
 */
export class Running<Input, Output> {
  readonly #gone = new Set<number>();
  readonly #timers: (() => void)[] = [];

  constructor(
    private readonly batch: readonly (Entry<Input, Output> | AnsweredOnce<Input, Output>)[],
    private readonly tier: Tier,
    private readonly clock: Clock,
  ) {
    for (const entry of batch) {
      if (!('served' in entry)) continue;
      const leave = () => {
        this.#gone.add(entry.id);
        entry.settle.resolve(entry.served);
      };
      this.#timers.push(clock.at(entry.deadline - LEAVE_MS, leave));
    }
  }

  /** Everybody's answer, but of those who have left. */
  answers(
    outputs: readonly Output[],
    confidence: (output: Output) => number,
    { dispatchedAt, predictedMs }: { readonly dispatchedAt: number; readonly predictedMs: number },
  ): readonly (readonly [Entry<Input, Output>, Served<Output>])[] {
    const at = this.clock.now();
    const { tier, batch } = this;
    const ran = { at, batchSize: batch.length, batchMs: at - dispatchedAt };
    return batch.flatMap((entry, index) => {
      if (this.#gone.has(entry.id)) return [];
      const before = 'served' in entry ? entry : undefined;
      const output = outputs[index]!;
      const look: Looked<Output> = { tier, confidence: confidence(output), output, ...ran };
      const served: Served<Output> = {
        output,
        tier,
        looks: before ? [...before.served.looks, look] : [look],
        queueMs: before
          ? before.served.queueMs + dispatchedAt - before.since
          : dispatchedAt - entry.enqueuedAt,
        inferenceMs: (before?.served.inferenceMs ?? 0) + ran.batchMs,
        predictedMs: dispatchedAt - entry.arrivedAt + predictedMs,
      };
      return [[entry, served] as const];
    });
  }

  /** A first answer is not lost because a second look failed. */
  failed(error: unknown): void {
    // The worker may recover after the deadlines: who is told now must not be told again.
    this.over();
    for (const entry of this.batch) {
      if (this.#gone.has(entry.id)) continue;
      if ('served' in entry) entry.settle.resolve(entry.served);
      else entry.settle.reject(error);
    }
  }

  over(): void {
    for (const cancel of this.#timers) cancel();
  }
}
