import { createHash, randomUUID } from 'node:crypto';
import { access, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Log } from '../log.ts';
import type { LatencyTable } from '../scheduler/latency.ts';

interface Kept {
  /** What latencies depend on. */
  readonly on: {
    /** Of the ONNX file. */
    readonly sha256: string;
    readonly provider: string;
    readonly workers: number;
    readonly threadsEach: number;
    /** Batch sizes in the table. */
    readonly sizes: readonly number[];
    readonly processors: readonly string[];
  };
  readonly table: LatencyTable;
}

/**
 * A latency table kept in a file, so that the next start on the same processor need not measure.
 * It is a help, never a need: a folder that cannot be read or written is told to the log.
 */
export class LatencyCache {
  readonly #file: string;
  readonly #on: Kept['on'];

  /** @param folder of the files; made if need be. */
  constructor(
    private readonly folder: string,
    on: Omit<Kept['on'], 'processors'>,
    private readonly log: Log,
  ) {
    this.#on = { ...on, processors: cpus().map(({ model }) => model) };
    const name = createHash('sha256').update(JSON.stringify(this.#on)).digest('hex');
    this.#file = join(folder, `${name.slice(0, 32)}.json`);
  }

  /** @returns ms by sub-network and batch size; null: none is kept. */
  async read(): Promise<LatencyTable | null> {
    try {
      const { on, table } = JSON.parse(await readFile(this.#file, 'utf8')) as Kept;
      return isDeepStrictEqual(on, this.#on) && isTable(table, on.sizes) ? table : null;
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.log.warn({ err, file: this.#file }, 'the kept latency table cannot be read');
      }
      return null;
    }
  }

  /** Replaces what is kept. */
  async write(table: LatencyTable): Promise<void> {
    // In containers that share the folder, every process has the same id.
    const mine = `${this.#file}.${randomUUID()}`;
    try {
      await makeFolder(this.folder);
      // In one step: other replicas may read or write at the same time.
      await writeFile(mine, JSON.stringify({ on: this.#on, table } satisfies Kept));
      await rename(mine, this.#file);
    } catch (err) {
      await rm(mine, { force: true }).catch(() => {});
      this.log.warn({ err, file: this.#file }, 'the latency table cannot be kept');
    }
  }
}

/** With its parents. Node's `recursive` does it, too, but tries for ever in /proc. */
async function makeFolder(folder: string): Promise<void> {
  const isThere = await access(folder).then(
    () => true,
    () => false,
  );
  if (isThere) return;
  const parent = dirname(folder);
  if (parent !== folder) await makeFolder(parent);
  await mkdir(folder).catch((err: NodeJS.ErrnoException) => {
    // Another replica may have made it meanwhile.
    if (err.code !== 'EEXIST') throw err;
  });
}

function isTable(table: unknown, sizes: readonly number[]): table is LatencyTable {
  const rows = Object.values((table ?? {}) as LatencyTable);
  return rows.length > 0 && rows.every((row) => sizes.every((size) => row[size]! > 0));
}
