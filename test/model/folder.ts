import { createHash } from 'node:crypto';
import { copyFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Manifest } from '../../src/model/manifest.ts';

export const CIFAR10 = 'models/cifar10';
/** Five flags instead of four, 48 pixels instead of 32, seven labels instead of ten. */
export const FIVE_FLAGS = 'test/fixtures/five-flags';

/** A model folder whose model is changed while it is served. */
export class ModelFolder {
  #count = 0;

  private constructor(readonly path: string) {}

  /** With the shipped model in it. */
  static async create(): Promise<ModelFolder> {
    const folder = new ModelFolder(await mkdtemp(join(tmpdir(), 'depthserve-model-')));
    for (const file of ['model.json', 'model.onnx']) {
      await copyFile(join(CIFAR10, file), join(folder.path, file));
    }
    return folder;
  }

  /** Puts a model there as docs/operations.md tells to: a file of its own, then the manifest. */
  async put(source: string, changes: object = {}, onnx?: Uint8Array): Promise<void> {
    const bytes = onnx ?? (await readFile(join(source, 'model.onnx')));
    const file = `model-${++this.#count}.onnx`;
    await writeFile(join(this.path, file), bytes);
    const { name } = await manifestIn(CIFAR10);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    await this.putManifest({ ...(await manifestIn(source)), name, file, sha256, ...changes });
  }

  async putManifest(manifest: object | string): Promise<void> {
    const text = typeof manifest === 'string' ? manifest : JSON.stringify(manifest);
    await writeFile(join(this.path, '.model.json'), text);
    await rename(join(this.path, '.model.json'), join(this.path, 'model.json'));
  }

  remove(): Promise<void> {
    return rm(this.path, { recursive: true });
  }
}

export async function manifestIn(folder: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(folder, 'model.json'), 'utf8')) as Manifest;
}
