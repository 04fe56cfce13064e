const EXIF = Buffer.from('Exif\0\0');
const ORIENTATION = 0x0112;
const SHORT = 3;
/** Bytes of an entry of a directory. */
const ENTRY = 12;

/**
 * Whether EXIF data say that the picture is upright as it is: no orientation is told, or the usual
 * one. What is odd in any way is not upright: libvips decides what it means.
 *
 * @param segment of a JPEG (APP1), without its marker and length. CIPA DC-008, 4.6.
 */
export function isUpright(segment: Buffer): boolean {
  if (segment.length < 14 || segment.compare(EXIF, 0, EXIF.length, 0, EXIF.length) !== 0)
    return false;
  const tiff = segment.subarray(EXIF.length);
  const order = tiff.toString('latin1', 0, 4);
  const isLittle = order === 'II*\0';
  if (!isLittle && order !== 'MM\0*') return false;
  const short = (at: number) => (isLittle ? tiff.readUInt16LE(at) : tiff.readUInt16BE(at));
  const long = (at: number) => (isLittle ? tiff.readUInt32LE(at) : tiff.readUInt32BE(at));
  const directory = long(4);
  if (directory + 2 > tiff.length) return false;
  const entries = short(directory);
  if (directory + 2 + entries * ENTRY > tiff.length) return false;
  for (let at = directory + 2, end = at + entries * ENTRY; at < end; at += ENTRY) {
    if (short(at) !== ORIENTATION) continue;
    if (short(at + 2) !== SHORT || long(at + 4) !== 1 || short(at + 8) !== 1) return false;
  }
  return true;
}
