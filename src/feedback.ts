import type { Tier } from './scheduler/policy.ts';

/** What is remembered of an answer until its true label is told. */
interface Remembered {
  readonly tier: Tier;
  /** Of the model version that answered. */
  readonly labels: readonly string[];
  /** Which of them was the most probable. */
  readonly predicted: number;
}

/** The latest answers by id, so that feedback can be told by tier. Forgets the oldest first. */
export class FeedbackMemory {
  /** In order of insertion. */
  readonly #answers = new Map<string, Remembered>();

  constructor(private readonly capacity: number) {}

  remember(id: string, answer: Remembered): void {
    if (this.capacity === 0) return;
    this.#answers.delete(id);
    this.#answers.set(id, answer);
    if (this.#answers.size > this.capacity) {
      this.#answers.delete(this.#answers.keys().next().value!);
    }
  }

  peek(id: string): Remembered | undefined {
    return this.#answers.get(id);
  }

  /** The answer, once: an id that is sent twice must not count twice. */
  take(id: string): Remembered | undefined {
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    return answer;
  }
}
