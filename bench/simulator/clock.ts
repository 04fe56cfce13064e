import type { Clock } from '../../src/scheduler/scheduler.ts';

/** Turns of the microtask queue: more than the longest chain from an engine to a caller needs. */
const TURNS = 24;

interface Timer {
  readonly time: number;
  readonly order: number;
  readonly callback: () => void;
  cancelled: boolean;
}

/** Jumps from event to event; equal times fire in the order in which they were set. */
export class VirtualClock implements Clock {
  #now = 0;
  #order = 0;
  /** Binary heap, earliest first. */
  readonly #timers: Timer[] = [];

  now(): number {
    return this.#now;
  }

  at(time: number, callback: () => void): () => void {
    const timer = {
      time: Math.max(time, this.#now),
      order: this.#order++,
      callback,
      cancelled: false,
    };
    this.#push(timer);
    return () => {
      timer.cancelled = true;
    };
  }

  soon(callback: () => void): void {
    this.at(this.#now, callback);
  }

  /**
   * Runs until nothing is due any more. After each event all promises settle before the clock
   * moves, as they do in the server between two events.
   */
  async run(): Promise<void> {
    const settled = Promise.resolve();
    for (;;) {
      const timer = this.#pop();
      if (!timer) return;
      if (timer.cancelled) continue;
      this.#now = timer.time;
      timer.callback();
      for (let turn = 0; turn < TURNS; turn++) await settled;
    }
  }

  #push(timer: Timer): void {
    const heap = this.#timers;
    let i = heap.push(timer) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(timer, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = timer;
  }

  #pop(): Timer | undefined {
    const heap = this.#timers;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last || heap.length === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.time < b.time || (a.time === b.time && a.order < b.order);
}
