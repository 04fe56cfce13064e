import type { Clock } from '../scheduler/scheduler.ts';

/** What a decoder made of a file, in `ms` of its thread's time; or why it could make nothing. */
export type Decoded<Pixels> =
  | { readonly pixels: Pixels; readonly ms: number; readonly warning?: string | undefined }
  | { readonly error: unknown };

/** What the stage needs of the decoders: they decode what they are given, and decide nothing. */
export interface Decoder<File, Pixels> {
  /** Groups that can be decoded at the same time. */
  readonly workers: number;
  /** Decodes `files` one after another on `worker`; one result each, in order. Never rejects. */
  decode(worker: number, files: readonly File[]): Promise<readonly Decoded<Pixels>[]>;
}

/** An image that waits for its turn. Times in ms on the stage's clock. */
export interface Job<File> {
  readonly file: File;
  /** Expected time until it is decoded, messages there and back included. */
  readonly ms: number;
  /** Expected time of the decoding alone. */
  readonly workMs: number;
  /** When decoding must be over: later it would be in vain. */
  readonly due: number;
  /** Called when that time has come before it is decoded: it is not, or in vain. */
  readonly expired: () => void;
}

/** An image that is decoded, or not. */
export interface Finished<File, Pixels, J extends Job<File> = Job<File>> {
  readonly job: J;
  readonly result: Decoded<Pixels>;
  /** ms that a decoder was occupied with it, messages there and back included. */
  readonly tookMs: number;
}

/** A file of a request that cannot be decoded. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';

  constructor(
    /** Position among the request's `count` images, from 0. */
    readonly index: number,
    readonly count: number,
    cause: unknown,
  ) {
    super('an image cannot be decoded', { cause });
  }
}

/** A message costs two thread switches; a group is worth them from about this much work, ms. */
const GROUP_MS = 4;

/** After so many ms the stage looks again in any case, so that none of its timers is left for long. */
const LOOK_MS = 1000;

export interface DecodeStageOptions<File, Pixels, J extends Job<File>> {
  readonly decoder: Decoder<File, Pixels>;
  readonly clock: Clock;
  /** How many more decoded images are of use now. */
  readonly wanted: () => number;
  /** Told of each group that is done: its images may become a batch. */
  readonly finished: (group: readonly Finished<File, Pixels, J>[]) => void;
}

/**
 * Decodes late, and earliest deadline first, except that no job is delayed past its own deadline by
 * one that comes later. An image waits here until its turn is near, and is not decoded at all if
 * its time is over by then; if that is over while it is decoded, its owner is told so. Images that
 * wait together go to a decoder in one message.
 */
export class DecodeStage<File, Pixels, J extends Job<File> = Job<File>> {
  readonly #options: DecodeStageOptions<File, Pixels, J>;
  /** In the order in which they will begin. */
  readonly #waiting: J[] = [];
  /** By worker: the group that it decodes; null: it is free. */
  readonly #running: (readonly J[] | null)[];
  #soon = false;
  /** When the owners of late ones were last told so. */
  #lookedAt = -Infinity;
  /** Of the one timer; Infinity: none is set. */
  #wakeAt = Infinity;
  #cancelWake: () => void = () => {};

  constructor(options: DecodeStageOptions<File, Pixels, J>) {
    this.#options = options;
    this.#running = Array.from({ length: options.decoder.workers }, () => null);
  }

  /** Images that wait here or are being decoded. */
  get length(): number {
    return this.#waiting.length + this.#underWay;
  }

  /** ms until an image that takes `ms` and is due then would begin, as far as is known. */
  waitMs(ms: number, due: number): number {
    if (this.#waiting.length === 0 && this.#running.includes(null)) return 0;
    return this.#begins()[this.#place(ms, due)]!;
  }

  /** Lets jobs wait for their turn; those that come at the same time are considered together. */
  enter(jobs: readonly J[]): void {
    for (const job of jobs) this.#waiting.splice(this.#place(job.ms, job.due), 0, job);
    this.stepSoon();
  }

  /** Takes out those that have not begun. */
  remove(jobs: readonly J[]): void {
    for (const job of jobs) {
      const index = this.#waiting.indexOf(job);
      if (index >= 0) this.#waiting.splice(index, 1);
    }
  }

  /** To be called when more may be wanted. */
  stepSoon(): void {
    if (this.#soon || this.#waiting.length === 0) return;
    this.#soon = true;
    this.#options.clock.soon(() => {
      this.#soon = false;
      this.#step();
    });
  }

  get #allRunning(): readonly J[] {
    return this.#running.flatMap((group) => group ?? []);
  }

  get #underWay(): number {
    return this.#running.reduce((sum, group) => sum + (group?.length ?? 0), 0);
  }

  #step(): void {
    this.#expire();
    let wanted = this.#options.wanted() - this.#underWay;
    for (let worker = 0; worker < this.#running.length; worker++) {
      if (this.#running[worker] !== null) continue;
      if (wanted <= 0 || this.#waiting.length === 0) break;
      const free = this.#running.filter((group) => group === null).length;
      const group = this.#group(Math.ceil(Math.min(wanted, this.#waiting.length) / free));
      wanted -= group.length;
      void this.#decode(worker, group);
    }
    this.#watch();
  }

  #expire(): void {
    const now = this.#options.clock.now();
    const late = this.#waiting.filter(({ due }) => due <= now);
    this.remove(late);
    // What runs can't be stopped, but its owner need not wait for it. Each is told once.
    const inVain = this.#allRunning.filter(({ due }) => due > this.#lookedAt && due <= now);
    this.#lookedAt = now;
    for (const job of [...late, ...inVain]) job.expired();
  }

  /**
   * Steps when the next image is late. A timer that is early enough is kept, even when the image that
   * it was set for is done in time: so most requests set none.
   */
  #watch(): void {
    const { clock } = this.#options;
    const next = [...this.#waiting, ...this.#allRunning].reduce(
      (min, { due }) => (due > this.#lookedAt && due < min ? due : min),
      Infinity,
    );
    const wakeAt = Math.min(next, this.#lookedAt + LOOK_MS);
    if (next === Infinity || wakeAt >= this.#wakeAt) return;
    this.#cancelWake();
    this.#wakeAt = wakeAt;
    this.#cancelWake = clock.at(wakeAt, () => {
      this.#wakeAt = Infinity;
      this.#step();
    });
  }

  /** The next `most` jobs, or fewer when they are work enough for one message. */
  #group(most: number): readonly J[] {
    let count = 1;
    // Messages take longer the busier the machine is: they must not make groups smaller.
    let ms = this.#waiting[0]!.workMs;
    for (; count < most && ms + this.#waiting[count]!.workMs <= GROUP_MS; count++) {
      ms += this.#waiting[count]!.workMs;
    }
    return this.#waiting.splice(0, count);
  }

  async #decode(worker: number, group: readonly J[]): Promise<void> {
    const { clock, decoder, finished } = this.#options;
    this.#running[worker] = group;
    const began = clock.now();
    const results = await decoder.decode(
      worker,
      group.map(({ file }) => file),
    );
    this.#running[worker] = null;
    const each = (clock.now() - began) / group.length;
    finished(
      group.map((job, index) => {
        const result = results[index]!;
        return { job, result, tookMs: 'error' in result ? each : Math.max(each, result.ms) };
      }),
    );
    this.stepSoon();
  }

  /** By position: ms until the job there begins. */
  #begins(): number[] {
    const workers = this.#running.length;
    // What runs is on average half done.
    const begins = [this.#allRunning.reduce((sum, { ms }) => sum + ms / 2, 0) / workers];
    for (const { ms } of this.#waiting) begins.push(begins.at(-1)! + ms / workers);
    return begins;
  }

  #place(ms: number, due: number): number {
    let at = this.#waiting.length;
    if (at === 0 || this.#waiting[at - 1]!.due <= due) return at;
    const begins = this.#begins();
    const now = this.#options.clock.now();
    for (; at > 0; at--) {
      const other = this.#waiting[at - 1]!;
      const overtaken = now + begins[at - 1]! + ms / this.#running.length + other.ms;
      if (other.due <= due || overtaken > other.due) break;
    }
    return at;
  }
}
