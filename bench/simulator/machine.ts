import { SlidingWindow } from '../../src/scheduler/sliding-window.ts';
import type { VirtualClock } from './clock.ts';

/** Left of a task's work by rounding, ms. */
const ROUNDING_MS = 1e-9;

interface Task {
  /** ms of a core. */
  left: number;
  readonly done: () => void;
}

/**
 * Cores that threads share: each that is ready gets an equal part, and none more than one core
 * (processor sharing, which is what Linux comes to among threads of one priority).
 */
export class Cores {
  readonly #ready = new Set<Task>();
  #usedMs = 0;
  #at = 0;
  #cancel = () => {};

  constructor(
    private readonly clock: VirtualClock,
    readonly count: number,
  ) {}

  /** Resolves when so many ms of a core were had. */
  compute(ms: number): Promise<void> {
    if (ms <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#advance();
      this.#ready.add({ left: ms, done: resolve });
      this.#next();
    });
  }

  /** ms of all cores so far. */
  get usedMs(): number {
    this.#advance();
    return this.#usedMs;
  }

  /** Of a core, for each that is ready. */
  get #share(): number {
    return Math.min(1, this.count / this.#ready.size);
  }

  #advance(): void {
    const now = this.clock.now();
    const each = (now - this.#at) * this.#share;
    for (const task of this.#ready) task.left -= each;
    if (this.#ready.size > 0) this.#usedMs += each * this.#ready.size;
    this.#at = now;
  }

  #next(): void {
    this.#cancel();
    if (this.#ready.size === 0) return;
    const least = Math.min(...[...this.#ready].map(({ left }) => left));
    this.#cancel = this.clock.at(this.clock.now() + Math.max(0, least) / this.#share, () => {
      this.#advance();
      for (const task of this.#ready) {
        if (task.left > ROUNDING_MS) continue;
        this.#ready.delete(task);
        task.done();
      }
      this.#next();
    });
  }
}

/** What computes one thing after another. */
export class Thread {
  #idle: Promise<void> = Promise.resolve();

  constructor(private readonly cores: Cores) {}

  compute(ms: number): Promise<void> {
    this.#idle = this.#idle.then(() => this.cores.compute(ms));
    return this.#idle;
  }
}

/** As in `src/event-loop-lag.ts`: ms between two looks at how late the front comes to what is new. */
const EVERY_MS = 10;
/** Looks that count. */
const REMEMBERED = 50;
/** After a request there are looks for so many ms. */
const WATCHED_MS = 1000;

/** What a replica runs on. Times in ms of a core. */
export interface MachineSetup {
  readonly cores: number;
  /** Of the thread that speaks HTTP, to read and to place a request. */
  readonly readMs: number;
  /** Of that thread, to answer one. */
  readonly answerMs: number;
  /** Of whoever asks from the same machine, for each request and again for each reply; else 0. */
  readonly clientMs: number;
}

/** A replica's machine: what computes there beside engines and decoders, and holds them up. */
export class Machine {
  readonly #cores: Cores;
  readonly #front: Thread;
  readonly #client: Thread;
  #clientUsedMs = 0;
  readonly #unread = new SlidingWindow(REMEMBERED);
  #isWatching = false;
  #watchedUntil = 0;

  constructor(
    private readonly setup: MachineSetup,
    private readonly clock: VirtualClock,
  ) {
    this.#cores = new Cores(clock, setup.cores);
    this.#front = new Thread(this.#cores);
    this.#client = new Thread(this.#cores);
  }

  get cores(): number {
    return this.setup.cores;
  }

  now(): number {
    return this.clock.now();
  }

  /** Of all cores so far, without those who ask, as the server counts it. */
  cpuMs(): number {
    return this.#cores.usedMs - this.#clientUsedMs;
  }

  /** The 95th percentile of what requests may have waited before they were read. */
  get unreadMs(): number {
    return Math.max(0, this.#unread.quantile(0.95));
  }

  /** A request has come. */
  async read(): Promise<void> {
    void this.#ask();
    this.#watchedUntil = this.now() + WATCHED_MS;
    if (!this.#isWatching) this.#watch();
    await this.#front.compute(this.setup.readMs);
  }

  /** An answer leaves, and is read. */
  async answer(): Promise<void> {
    await this.#front.compute(this.setup.answerMs);
    await this.#ask();
  }

  /**
   * On a thread of an engine or decoder; its result is taken when the front has time.
   *
   * @returns ms that it waited for a core.
   */
  async compute(ms: number): Promise<number> {
    const began = this.now();
    await this.#cores.compute(ms);
    const waitedMs = this.now() - began - ms;
    await this.#front.compute(0);
    return Math.max(0, waitedMs);
  }

  #watch(): void {
    this.#isWatching = this.now() < this.#watchedUntil;
    if (!this.#isWatching) return;
    const began = this.now();
    void this.#front.compute(0).then(() => this.#unread.add(this.now() - began));
    this.clock.at(began + EVERY_MS, () => this.#watch());
  }

  async #ask(): Promise<void> {
    const { clientMs } = this.setup;
    await this.#client.compute(clientMs);
    this.#clientUsedMs += clientMs;
  }
}
