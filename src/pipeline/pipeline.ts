/**
 * The life of a request: preview → admit → decode → run → answer. The server and the simulator run
 * this same code; only clock, decoder and engine differ. Start reading here.
 */
import type { Requirements } from '../scheduler/contract.ts';
import type { Refusal, Waiting } from '../scheduler/policy.ts';
import { SlidingWindow } from '../scheduler/sliding-window.ts';
import { ExpiredError, Scheduler } from '../scheduler/scheduler.ts';
import type { SchedulerEvents, SchedulerOptions, Served } from '../scheduler/scheduler.ts';
import type { Cancellation } from './cancellation.ts';
import { DecodeError, DecodeStage } from './decode-stage.ts';
import type { Decoder, Finished, Job } from './decode-stage.ts';
import type { DecodeTimes, EncodedImage } from './decode-times.ts';
import { NamedBudgets } from './named-budgets.ts';
import type { Named } from './named-budgets.ts';

/** What a request asks for all its images, whatever protocol it came by. */
export interface ImageRequest {
  /** When its head arrived, in ms on the pipeline's clock. */
  readonly arrivedAt: number;
  /** Counted from `arrivedAt`. */
  readonly budgetMs: number;
  /** Ms for which it may have waited before that, unread; absent: as long as `PipelineOptions` says. */
  readonly unreadMs?: number;
  /** 0 to 1. */
  readonly minAccuracy: number;
  /** The only sub-network that may answer; absent: the policy chooses. */
  readonly skip?: string | undefined;
  /** Look again while less sure than this, 0 to 1, as far as the budget allows; absent: 0. */
  readonly minConfidence?: number | undefined;
  /** What the head says that the images are: jpeg, png, webp; absent: nothing is known. */
  readonly format?: string | undefined;
  /** Gives up whatever has not begun. */
  cancellation?: Cancellation | undefined;
}

/** An image file, and what its first bytes tell; null: nothing, decoding says what is wrong. */
export interface ImageFile<File> {
  readonly file: File;
  readonly header: EncodedImage | null;
}

/** One image's answer. Times in ms; `queueMs` is all its waiting, before and after decoding. */
export interface ImageAnswer<Output> extends Served<Output> {
  /** Of the request, on the clock of its looks. */
  readonly arrivedAt: number;
  readonly decodeMs: number;
  /** What the decoder says of a file that is damaged, but could be decoded. */
  readonly warning?: string | undefined;
  readonly stages: Stages;
}

/** When an image was admitted, decoded (pixels are at once) and answered, on the pipeline's clock. */
export interface Stages {
  readonly enteredAt: number;
  readonly decodedAt: number;
  readonly finishedAt: number;
}

export interface PipelineOptions<File, Pixels, Output> extends Omit<
  SchedulerOptions<Pixels, Output>,
  'events' | 'told'
> {
  readonly decoder: Decoder<File, Pixels>;
  readonly decodeTimes: DecodeTimes;
  readonly events?: PipelineEvents<Pixels, Output>;
  /** Ms for which requests that this thread reads may have waited before; absent: none. */
  readonly unreadMs?: () => number;
}

/** Told of everything that happens; feeds the metrics. */
export interface PipelineEvents<Pixels, Output> extends SchedulerEvents {
  decoded?(predictedMs: number, actualMs: number): void;
  /** Images were decoded, and their request is not answered. */
  decodedInVain?(images: number): void;
  answered?(pixels: Pixels, answer: ImageAnswer<Output>, request: ImageRequest): void;
}

/** A request under way. */
interface Flight<Output> {
  readonly request: ImageRequest;
  readonly answers: ImageAnswer<Output>[];
  places: readonly Waiting[];
  /** What a refusal would have named when it came; null: it did not come alone. */
  named: Named | null;
  jobs: readonly DecodeJob<unknown, Output>[];
  /** Images that were decoded and wait, or ran. */
  decoded: number;
  left: number;
  settled: boolean;
  readonly resolve: (answers: readonly ImageAnswer<Output>[]) => void;
  readonly reject: (error: unknown) => void;
}

/** One image of a request, on its way through the decoders. */
interface DecodeJob<File, Output> extends Job<File> {
  readonly flight: Flight<Output>;
  /** Position among the request's images. */
  readonly index: number;
  readonly header: EncodedImage | null;
  readonly enteredAt: number;
}

/** How an image was decoded: in `ms` of its decoder's time. Moments on the pipeline's clock. */
interface Decoding extends Omit<Stages, 'finishedAt'> {
  readonly ms: number;
  readonly warning?: string | undefined;
}

/** Answers that tell how long a request is neither here nor there. */
const REMEMBERED = 64;

export class Pipeline<File, Pixels, Output> {
  readonly scheduler: Scheduler<Pixels, Output>;
  readonly #options: PipelineOptions<File, Pixels, Output>;
  readonly #decoding: DecodeStage<File, Pixels, DecodeJob<File, Output>>;
  /** Ms that the last answers neither waited, nor were decoded, nor ran: bodies are read meanwhile. */
  readonly #elsewhere = new SlidingWindow(REMEMBERED);
  readonly #named = new NamedBudgets();

  constructor(options: PipelineOptions<File, Pixels, Output>) {
    const { clock, decoder, events } = options;
    this.#options = options;
    this.scheduler = new Scheduler({
      ...options,
      told: (refusal) => this.#named.enough(refusal),
      events: {
        ...events,
        dispatched: (...batch) => {
          events?.dispatched?.(...batch);
          this.#decoding.stepSoon();
        },
      },
    });
    this.#decoding = new DecodeStage({
      decoder,
      clock,
      wanted: () => this.scheduler.wantedInputs,
      finished: (group) => this.#decoded(group),
    });
  }

  /** Images that are admitted and do not run yet. */
  get waiting(): number {
    return this.#decoding.length + this.scheduler.queueLength;
  }

  /** Nothing is under way. */
  get idle(): boolean {
    return this.#decoding.length === 0 && this.scheduler.idle;
  }

  /**
   * What a request can be told before its body is read: whether it would be refused even if its
   * image took no time to decode, once its turn comes. Null: read on.
   */
  preview(request: ImageRequest): Refusal | null {
    const needs = this.#requirementsOf(request);
    const { mostlyMs, atMostMs } = this.#unseen(needs, request.format);
    const elsewhereMs = this.#elsewhere.quantile(0.5);
    const preparation = { mostlyMs, atMostMs: atMostMs + elsewhereMs };
    return this.scheduler.preview(needs, preparation);
  }

  /** Ms until an image is decoded of which nothing but the format is known. */
  #unseen(needs: Requirements, format: string | undefined) {
    const waitMs = this.#decoding.waitMs(0, this.scheduler.latestReady(needs));
    const decodeMs = this.#options.decodeTimes.ofAny(0.95, format);
    return { mostlyMs: waitMs, atMostMs: waitMs + decodeMs };
  }

  /**
   * Admits the images of one request before time is spent on decoding them, decodes each when its
   * turn is near, and has it classified. All are answered or none.
   *
   * @throws {RefusedError | ExpiredError | DecodeError}
   * @throws the engine's error, or the reason of the cancellation
   */
  async classify(
    files: readonly ImageFile<File>[],
    request: ImageRequest,
  ): Promise<readonly ImageAnswer<Output>[]> {
    return this.#fly(files.length, request, (flight) => {
      const needs = this.#requirementsOf(request);
      const due = this.scheduler.latestReady(needs);
      if (files.length === 1 && this.idle) {
        flight.named = this.scheduler.enough(needs, this.#unseen(needs, request.format));
      }
      this.#admit(flight, needs, this.#preparation(files, due));
      const enteredAt = this.#options.clock.now();
      const jobs = files.map(({ file, header }, index) => ({
        flight,
        index,
        file,
        header,
        enteredAt,
        due,
        ms: header ? this.#options.decodeTimes.lately(header, enteredAt) : 0,
        workMs: header ? this.#options.decodeTimes.work(header) : 0,
        expired: () => this.#fail(flight, new ExpiredError()),
      }));
      flight.jobs = jobs;
      this.#decoding.enter(jobs);
    });
  }

  /** As `classify`, for images that need no decoding. */
  async classifyPixels(
    images: readonly Pixels[],
    request: ImageRequest,
  ): Promise<readonly ImageAnswer<Output>[]> {
    return this.#fly(images.length, request, (flight) => {
      this.#admit(flight, this.#requirementsOf(request));
      const now = this.#options.clock.now();
      const decoding = { ms: 0, enteredAt: now, decodedAt: now };
      this.scheduler.enqueue(
        images.map((input, index) => this.#ready(flight, index, input, decoding)),
      );
    });
  }

  /** What a request asks of the scheduler for each of its images. */
  #requirementsOf({ arrivedAt: readAt, budgetMs, ...rest }: ImageRequest): Requirements {
    const { unreadMs = this.#options.unreadMs?.() ?? 0, minAccuracy, skip, minConfidence } = rest;
    const arrivedAt = readAt - unreadMs;
    return { arrivedAt, deadline: arrivedAt + budgetMs, minAccuracy, skip, minConfidence };
  }

  async #fly(
    count: number,
    request: ImageRequest,
    begin: (flight: Flight<Output>) => void,
  ): Promise<readonly ImageAnswer<Output>[]> {
    const { cancellation } = request;
    if (cancellation?.reason) throw cancellation.reason;
    return new Promise((resolve, reject) => {
      const flight: Flight<Output> = {
        request,
        answers: [],
        places: [],
        named: null,
        jobs: [],
        decoded: 0,
        left: count,
        settled: false,
        resolve,
        reject,
      };
      // An exception of `begin` (RefusedError) rejects the promise.
      begin(flight);
      cancellation?.onCancel((reason) => this.#fail(flight, reason));
    });
  }

  #admit(
    flight: Flight<Output>,
    needs: Requirements,
    preparation?: Parameters<Scheduler<Pixels, Output>['reserve']>[2],
  ): void {
    const evicted = (error: unknown) => this.#fail(flight, error);
    flight.places = this.scheduler.reserve(flight.left, needs, preparation, evicted);
  }

  /** Ms until images that come now are decoded. */
  #preparation(files: readonly ImageFile<File>[], due: number) {
    const { decodeTimes, decoder, clock } = this.#options;
    const headers = files.flatMap(({ header }) => header ?? []);
    const rounds = Math.ceil(files.length / decoder.workers);
    const longest = (ms: readonly number[]) => rounds * Math.max(0, ...ms);
    const now = clock.now();
    const mostly = longest(headers.map((header) => decodeTimes.lately(header, now)));
    const atMost = longest(headers.map((header) => decodeTimes.predict(header, 0.95)));
    const waitMs = this.#decoding.waitMs(mostly, due);
    return { mostlyMs: waitMs + mostly, atMostMs: waitMs + Math.max(mostly, atMost) };
  }

  /** Images that were decoded together are queued together. */
  #decoded(group: readonly Finished<File, Pixels, DecodeJob<File, Output>>[]): void {
    const { decodeTimes, clock, events } = this.#options;
    const now = clock.now();
    const ready = group.flatMap(({ job, result, tookMs }) => {
      const { flight, index, header, enteredAt } = job;
      if ('error' in result) {
        this.#fail(flight, new DecodeError(index, flight.places.length, result.error));
        return [];
      }
      if (header) {
        events?.decoded?.(decodeTimes.predict(header, 0.5), tookMs);
        decodeTimes.observe(header, tookMs, now, result.ms);
      }
      if (flight.settled) {
        events?.decodedInVain?.(1);
        return [];
      }
      flight.decoded += 1;
      const { pixels, ms, warning } = result;
      return this.#ready(flight, index, pixels, { ms, enteredAt, decodedAt: now, warning });
    });
    if (ready.length > 0) this.scheduler.enqueue(ready);
  }

  #ready(flight: Flight<Output>, index: number, input: Pixels, decoding: Decoding) {
    const { ms: decodeMs, enteredAt, decodedAt, warning } = decoding;
    const waitedMs = decodedAt - enteredAt - decodeMs;
    const place = flight.places[index]!;
    return {
      place,
      input,
      settle: {
        resolve: (served: Served<Output>) => {
          if (flight.settled) return;
          const queueMs = served.queueMs + waitedMs;
          const { arrivedAt } = flight.request;
          const stages = { enteredAt, decodedAt, finishedAt: this.#options.clock.now() };
          // As the caller is told what it took: without what it may have waited unread.
          const predictedMs = served.predictedMs - (arrivedAt - place.arrivedAt);
          const answer = { ...served, arrivedAt, predictedMs, queueMs, decodeMs, warning, stages };
          flight.answers[index] = answer;
          const { finishedAt } = stages;
          this.#elsewhere.add(finishedAt - arrivedAt - queueMs - decodeMs - served.inferenceMs);
          if (flight.named && served.looks.length === 1) {
            const { latency } = this.#options;
            this.#named.observe(flight.named, served.tier, finishedAt - arrivedAt, latency);
          }
          this.#options.events?.answered?.(input, answer, flight.request);
          flight.left -= 1;
          if (flight.left > 0) return;
          flight.settled = true;
          flight.resolve(flight.answers);
        },
        reject: (error: unknown) => this.#fail(flight, error),
      },
    };
  }

  /** One image that cannot be answered gives up all of its request. */
  #fail(flight: Flight<Output>, error: unknown): void {
    if (flight.settled) return;
    flight.settled = true;
    if (flight.decoded > 0) this.#options.events?.decodedInVain?.(flight.decoded);
    this.#decoding.remove(flight.jobs as readonly DecodeJob<File, Output>[]);
    this.scheduler.withdraw(flight.places, error);
    flight.reject(error);
  }
}
