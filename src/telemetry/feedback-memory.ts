import { ServeError } from '../errors.ts';
import { argmax } from '../model/logits.ts';
import type { Tier } from '../scheduler/policy.ts';
import type { Outcome, Subscriber } from './recorder.ts';

/** What is remembered of an answer until its true label is told. */
interface Remembered {
  readonly tier: Tier;
  /** Of the model version that answered. */
  readonly labels: readonly string[];
  /** Index of the most probable label. */
  readonly predicted: number;
}

/** The latest answers by id, so that feedback can be told by tier. Forgets the oldest first. */
export class FeedbackMemory implements Subscriber {
  /** In order of insertion. */
  readonly #answers = new Map<string, Remembered>();

  constructor(
    private readonly capacity: number,
    /** Told whether an answer of `tier` was right. */
    private readonly onJudged: (tier: Tier, isCorrect: boolean) => void,
  ) {}

  record(outcome: Outcome): void {
    if (this.capacity === 0 || outcome.kind !== 'answered') return;
    outcome.images.forEach(({ tier, manifest, output }, index) => {
      const id = outcome.ids[index]!;
      this.#answers.delete(id);
      this.#answers.set(id, { tier, labels: manifest.labels, predicted: argmax(output) });
      if (this.#answers.size <= this.capacity) return;
      this.#answers.delete(this.#answers.keys().next().value!);
    });
  }

  /**
   * Compares an answer with its true label, once: an id that is sent twice must not count twice.
   *
   * @param labels of the model that serves, should the answer not be remembered.
   * @throws {ServeError} unknown-label, unknown-request
   */
  judge(id: string, label: string, labels: readonly string[]): void {
    const answer = this.#answers.get(id);
    const truth = (answer?.labels ?? labels).indexOf(label);
    if (truth < 0) throw new ServeError('unknown-label', 'The model does not have this label.');
    if (!answer) {
      throw new ServeError('unknown-request', 'No answer with this id is remembered here.');
    }
    this.#answers.delete(id);
    this.onJudged(answer.tier, answer.predicted === truth);
  }
}
