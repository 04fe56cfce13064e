import type { Clock, Engine } from './contract.ts';

/** Which of the engine's workers are free, and when the others will be. */
export class Workers {
  readonly #busy: boolean[];
  readonly #freeAt: number[];

  /** @param freed called when a worker can take a batch again. */
  constructor(
    private readonly engine: Pick<Engine<never, unknown>, 'workers' | 'recovered'>,
    private readonly clock: Clock,
    private readonly freed: () => void,
  ) {
    this.#busy = Array.from({ length: engine.workers }, () => false);
    this.#freeAt = this.#busy.map(() => -Infinity);
  }

  /** All are free. */
  get idle(): boolean {
    return !this.#busy.includes(true);
  }

  /** One that is free; -1: none is. */
  get next(): number {
    return this.#busy.indexOf(false);
  }

  /** When each is expected to be free, but of those that are lost. */
  get freeAt(): readonly number[] {
    return this.#freeAt.filter((at) => at < Infinity);
  }

  occupy(worker: number, until: number): void {
    this.#busy[worker] = true;
    this.#freeAt[worker] = until;
  }

  free(worker: number): void {
    this.#busy[worker] = false;
    this.#freeAt[worker] = this.clock.now();
    this.freed();
  }

  /** Waits until one whose run failed can take another batch; it stays busy. */
  async recovered(worker: number): Promise<void> {
    this.#freeAt[worker] = Infinity;
    await this.engine.recovered?.(worker);
  }

  /** Keeps a worker that was lost from batches until it is back. One that runs says so by its run. */
  async lost(worker: number): Promise<void> {
    if (this.#busy[worker]) return;
    this.occupy(worker, Infinity);
    await this.recovered(worker);
    this.free(worker);
  }
}
