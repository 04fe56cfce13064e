import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { createDecoder } from '../../src/preprocess/decode.ts';
import type { Frame } from '../../src/preprocess/resize.ts';
import { without } from '../tools.ts';

/**
 * The tolerance: mean difference in grey levels, of 255, below which the pixels that the server gives
 * to a network count as those that the toolkit trained and evaluated it on.
 */
const TOLERANCE = 2;

const PILLOW = 'test/fixtures/pillow';
const TOOLKIT = process.env['TOOLKIT_PYTHON'] ?? '.venv/bin/python';
const noToolkit = without(TOOLKIT, 'install the training toolkit, or set TOOLKIT_PYTHON');

/** An entry of the index that test/fixtures/pillow.py writes. */
interface Expected {
  readonly file: string;
  readonly frame: Required<Pick<Frame, 'resize' | 'centre' | 'interpolation'>> & { size: number };
  readonly expected: string;
}

const indexOf = async (folder: string): Promise<Expected[]> =>
  JSON.parse(await readFile(join(folder, 'index.json'), 'utf8'));

/** Mean difference between what the server's decoder makes of a file and what is expected. */
async function difference(folder: string, { file, frame, expected }: Expected): Promise<number> {
  const { size: width, size: height, ...rule } = frame;
  const pixels = new Uint8Array(width * height * 3);
  const path = file.startsWith('models/') ? file : join(folder, file);
  await createDecoder({ width, height, ...rule, maxPixels: 1e7 })(await readFile(path), pixels);
  const written = await readFile(join(folder, expected));
  const wanted = expected.endsWith('.rgb') ? written : await sharp(written).raw().toBuffer();
  expect(wanted).toHaveLength(pixels.length);
  let sum = 0;
  for (let i = 0; i < pixels.length; i++) sum += Math.abs(pixels[i]! - wanted[i]!);
  return sum / pixels.length;
}

const ruleOf = ({ size, resize, centre, interpolation }: Expected['frame']) =>
  `${size} px, ${resize}, ${centre} of it, ${interpolation}`;

describe(`the pixels are the toolkit's, within ${TOLERANCE} grey levels on average`, async () => {
  it.each(await indexOf(PILLOW))('$file', async (entry) => {
    expect(await difference(PILLOW, entry), ruleOf(entry.frame)).toBeLessThan(TOLERANCE);
  });

  it.skipIf(noToolkit)(
    `of every kind, size and rule, and of finer pictures${noToolkit ? ` (${noToolkit})` : ''}`,
    { timeout: 600_000 },
    async () => {
      const folder = await mkdtemp(join(tmpdir(), 'pixels-'));
      try {
        const env = { ...process.env, PYTHONPATH: resolve('training') };
        const script = ['test/fixtures/pillow.py', '--all', folder];
        await promisify(execFile)(TOOLKIT, script, { env });
        const index = await indexOf(folder);
        expect(index.length).toBeGreaterThan(1000);
        const apart: string[] = [];
        for (const entry of index) {
          const mean = await difference(folder, entry);
          if (!(mean < TOLERANCE)) apart.push(`${entry.file}, ${ruleOf(entry.frame)}: ${mean}`);
        }
        expect(apart).toEqual([]);
      } finally {
        await rm(folder, { recursive: true });
      }
    },
  );
});
