import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { parseJson } from './json.ts';
import type { Log } from './log.ts';
import { ModelError, openModel } from './model/manifest.ts';
import type { Manifest } from './model/manifest.ts';
import type { Service } from './service.ts';

/** A folder, as far as it shows without reading the whole model. */
interface Look {
  readonly manifest: string;
  readonly file: string;
}

/**
 * Looks into the model folder for another version, and has it served. By polling: a mounted volume
 * changes by a link, and a network file system without telling, which no watch reports.
 */
export class Updater {
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | null = null;
  #isAskedAgain = false;
  /** What was there when it was last tried: until it changes, the result would be the same. */
  #tried: Look | null = null;
  /** The manifest that was rejected last: a model that is still being copied is rejected often. */
  #rejected: string | null = null;

  constructor(
    private readonly service: Service,
    private readonly folder: string,
    private readonly log: Log,
  ) {}

  /**
   * Looks now, and from then on every few seconds. To be called when the service is ready.
   *
   * @param seconds 0: no more than once.
   */
  watch(seconds: number): void {
    if (this.service.isClosing) return;
    this.#look();
    if (seconds > 0) this.#timer = setInterval(() => this.#look(), seconds * 1000).unref();
  }

  /** Looks at once, and tries again what was rejected. */
  reload(): void {
    // Not ready yet: it will be looked at then.
    if (!this.service.isWarm || this.service.isClosing) return;
    this.#isAskedAgain = true;
    this.#look();
  }

  /** Ends the looking. @returns when no update is under way. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  /** One at a time: an update that is under way is finished first. */
  #look(): void {
    this.#looking ??= this.#lookUntilDone().finally(() => {
      this.#looking = null;
    });
  }

  async #lookUntilDone(): Promise<void> {
    do {
      const isAsked = this.#isAskedAgain;
      if (isAsked) this.#tried = this.#rejected = null;
      this.#isAskedAgain = false;
      const look = await lookInto(this.folder);
      if (isDeepStrictEqual(look, this.#tried)) continue;
      this.#tried = look;
      await this.#try(look, isAsked);
    } while (this.#isAskedAgain && !this.service.isClosing);
  }

  /** @param isAsked somebody waits for the result, even if it is that nothing changed. */
  async #try({ manifest: text }: Look, isAsked: boolean): Promise<void> {
    let { version } = claimsOf(text);
    try {
      const model = await openModel(this.folder);
      const { manifest } = model;
      // The folder may have changed meanwhile.
      ({ version } = manifest);
      const served = this.service.manifest;
      if (isDeepStrictEqual(manifest, served)) {
        await model.close();
        this.#rejected = null;
        if (isAsked) this.log.info({ version }, 'the model folder is unchanged');
        this.service.updateEnded(null);
        return;
      }
      const objection = objectionTo(manifest, served);
      if (objection !== null) {
        await model.close();
        throw new ModelError(`${this.folder}: ${objection}`);
      }
      this.log.info({ serving: served.version, version }, 'another model version: warming it up');
      await this.service.update(model);
      this.#rejected = null;
    } catch (err) {
      if (this.service.isClosing || this.#rejected === text) return;
      this.#rejected = text;
      const serving = this.service.manifest.version;
      this.log.error({ err, version, serving }, 'model update rejected');
      this.service.updateEnded({ version, result: 'rejected' });
    }
  }
}

/**
 * What can change without a change of the manifest is the file that it names: size, time, inode.
 * Whatever cannot be read is empty; openModel() says why.
 */
async function lookInto(folder: string): Promise<Look> {
  const manifest = await readFile(join(folder, 'model.json'), 'utf8').catch(() => '');
  const file = join(folder, claimsOf(manifest).file);
  const { size, mtimeMs, ino } = await stat(file).catch(() => NOTHING);
  return { manifest, file: `${size} ${mtimeMs} ${ino}` };
}

const NOTHING = { size: 0, mtimeMs: 0, ino: 0 };

/** What a manifest says that may not be one. */
function claimsOf(manifest: string): { file: string; version: string | null } {
  try {
    const { file, version } = parseJson(manifest) as Partial<Manifest>;
    return { file: String(file), version: typeof version === 'string' ? version : null };
  } catch {
    return { file: '', version: null };
  }
}

/** Why `next` may not take the place of `served`; null: it may. */
function objectionTo(next: Manifest, served: Manifest): string | null {
  // Clients address it, and metrics are kept by it.
  if (next.name !== served.name) {
    return `only a restart can put ${next.name} in the place of ${served.name}`;
  }
  // Else nobody could tell which of the two had answered.
  if (next.version === served.version) {
    return `version ${next.version} is served already, with another manifest: count it up`;
  }
  return null;
}
