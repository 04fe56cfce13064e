import type { Ready, RefusedError, Settle } from './contract.ts';
import type { Waiting } from './policy.ts';

/** Somebody who was admitted. */
export interface Place extends Waiting {
  /** Told when the place is lost before the input is ready. */
  readonly evicted: (error: RefusedError) => void;
}

/** Somebody whose input is ready. */
export interface Entry<Input, Output> extends Waiting {
  readonly input: Input;
  readonly enqueuedAt: number;
  readonly settle: Settle<Output>;
}

/**
 * Who was admitted and waits. Earliest deadline first, equal ones in order of arrival. The lists
 * are replaced, never changed: plans made of one hold for as long as it is there.
 */
export class Queue<Input, Output> {
  #admitted: readonly Place[] = [];
  #ready: readonly Entry<Input, Output>[] = [];

  get admitted(): readonly Waiting[] {
    return this.#admitted;
  }

  /** Those of them whose inputs are ready. */
  get ready(): readonly Entry<Input, Output>[] {
    return this.#ready;
  }

  add(place: Place): void {
    this.#admitted = inserted(this.#admitted, place);
  }

  /** Passes over who has lost its place meanwhile. */
  makeReady({ place, input, settle }: Ready<Input, Output>, enqueuedAt: number): void {
    if (!this.#admitted.some(({ id }) => id === place.id)) return;
    this.#ready = inserted(this.#ready, { ...place, input, enqueuedAt, settle });
  }

  /** Removes all of `gone` that wait; returns those whose inputs were ready, and the others. */
  remove(gone: readonly Waiting[]): {
    readonly ready: readonly Entry<Input, Output>[];
    readonly notReady: readonly Place[];
  } {
    const ids = new Set(gone.map(({ id }) => id));
    const left = ({ id }: Waiting) => !ids.has(id);
    const ready = this.#ready.filter(({ id }) => ids.has(id));
    const isReady = new Set(ready.map(({ id }) => id));
    const notReady = this.#admitted.filter(({ id }) => ids.has(id) && !isReady.has(id));
    if (ready.length > 0) this.#ready = this.#ready.filter(left);
    if (ready.length + notReady.length > 0) this.#admitted = this.#admitted.filter(left);
    return { ready, notReady };
  }

  /** Removes requests that wait and are ready. */
  take(requests: readonly Waiting[]): readonly Entry<Input, Output>[] {
    const { ready } = this.remove(requests);
    if (ready.length === requests.length) return ready;
    throw new Error('the policy chose a request that does not wait');
  }
}

/** `sorted`, and `item` in its place. */
export function inserted<Item extends Waiting>(sorted: readonly Item[], item: Item): Item[] {
  const before = sorted.findLastIndex(
    ({ deadline, id }) => deadline < item.deadline || (deadline === item.deadline && id < item.id),
  );
  return sorted.toSpliced(before + 1, 0, item);
}
