import turbo from '@julusian/jpeg-turbo';
import { isUpright } from './exif.ts';
import { FIRST_SCAN, isFrame, segmentsOf } from './header.ts';
import { Resizer } from './resize.ts';
import type { Frame } from './resize.ts';

/** Above this, libvips is quicker: it lets libjpeg leave detail out that resizing would drop. */
export const MAX_PIXELS = 1600 * 1200;

/** Of a JPEG that libvips decodes: above this it leaves detail out, and damage is not looked for. */
export const MAX_WHOLE = 640 * 640;

/**
 * Photos have a dozen scans at most. libjpeg goes through the whole picture for each, of which a
 * hostile file may have one in every twelve bytes. libvips has the same limit.
 */
export const LIMITS = { pixels: MAX_PIXELS, scans: 100 };
const SCAN = Buffer.of(0xff, 0xda);

/** Quick path: done; not for it; or the file is damaged, as far as libjpeg says. */
export type Quick = 'done' | 'refused' | 'damaged';

/**
 * The quick path for the images that most clients send: small JPEGs, baseline or progressive, grey
 * or YCbCr. libjpeg-turbo itself takes a tenth of the time of a libvips pipeline for them. What
 * needs more than pixels (to be turned, colour profiles, CMYK) is refused, and so is whatever
 * libjpeg complains about: libvips decides what becomes of it. It does not tell of what libjpeg sees
 * last, which is most damage: `isDamaged` does.
 */
export class JpegDecoder {
  /** @param limits what has more pixels or scans is refused. */
  constructor(
    private readonly frame: Frame,
    private readonly limits: { readonly pixels: number; readonly scans: number } = LIMITS,
    private readonly resizer = new Resizer(),
  ) {}

  /** @param pixels uint8 `[height, width, 3]`, written when done. */
  decode(file: Buffer, pixels: Uint8Array): Quick {
    const found = surveyed(file, this.limits.scans);
    if (found === null || found.size > this.limits.pixels) return 'refused';
    if (!found.isPlain) return 'refused';
    const scratch = this.resizer.room(found.size * 3);
    try {
      const image = turbo.decompressSync(file, scratch, { format: turbo.FORMAT_RGB });
      this.resizer.resize(scratch, image, pixels, this.frame);
      return 'done';
    } catch {
      return 'damaged';
    }
  }

  /** Whether libjpeg complains about a file that was refused. False, too: it was not looked through. */
  isDamaged(file: Buffer): boolean {
    const found = surveyed(file, this.limits.scans);
    if (found === null || found.isPlain || found.size > MAX_WHOLE) return false;
    try {
      // Grey takes half the time.
      const scratch = this.resizer.room(found.size * 3);
      turbo.decompressSync(file, scratch, { format: turbo.FORMAT_GRAY });
      return false;
    } catch {
      return true;
    }
  }
}

/**
 * Width times height of a JPEG that libjpeg-turbo decodes, and whether it is nothing but pixels;
 * null: it is of another kind, or broken.
 */
function surveyed(file: Buffer, mostScans: number): { size: number; isPlain: boolean } | null {
  let size: number | null = null;
  let isPlain = true;
  for (const { marker, at, next } of segmentsOf(file)) {
    if (marker === FIRST_SCAN) {
      return size === null || hasMoreScans(file, at, mostScans) ? null : { size, isPlain };
    }
    const isApp = marker >= 0xffe1 && marker <= 0xffef;
    // APP2 holds colour profiles, APP14 says how colours are coded.
    if (marker === 0xffe1) isPlain &&= isUpright(file.subarray(at + 4, next));
    else if (isApp && marker !== 0xffed) isPlain = false;
    if (isFrame(marker)) {
      if (marker > 0xffc2 || at + 10 > file.length || size !== null) return null;
      const [bits, components] = [file[at + 4]!, file[at + 9]!];
      if (bits !== 8 || (components !== 1 && components !== 3)) return null;
      size = file.readUInt16BE(at + 5) * file.readUInt16BE(at + 7);
      if (size === 0) return null;
    }
  }
  return null;
}

/** @param at of the first one. */
function hasMoreScans(file: Buffer, at: number, most: number): boolean {
  for (let scans = 0; at >= 0; scans++) {
    if (scans === most) return true;
    at = file.indexOf(SCAN, at + SCAN.length);
  }
  return false;
}
