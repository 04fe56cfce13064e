// Where photos come from: samples, files, drag and drop, the clipboard, the camera.
import { getSamples } from './api.js';
import { offerCamera } from './camera.js';
import { byId, html } from './dom.js';

/** What the service decodes; other pictures that the browser can read are converted here. */
const TAKEN = new Set(['image/jpeg', 'image/png', 'image/webp']);
const JPEG_QUALITY = 0.92;

const preview = /** @type {HTMLImageElement} */ (byId('preview'));

/** @typedef {{ blob: Blob, name: string, file: string }} Photo */

/** Photos chosen so far: one that takes longer to read than the next is not shown after it. */
let choices = 0;

/** @param {(photo: Photo) => void} chosen */
export function offerPhotos(chosen) {
  const read = async (/** @type {Blob} */ blob, /** @type {string} */ name) => {
    const photo = await readPhoto(blob, name);
    if (photo) chosen(photo);
  };
  listen(read);
  offerCamera((blob) => void read(blob, 'camera.jpg'));
}

/**
 * Offers the samples of the model that serves.
 *
 * @param {(photo: Photo) => void} chosen
 * @returns {Promise<() => Promise<Photo | null>>} takes the first sample, if nothing was chosen yet
 */
export async function offerSamples(chosen) {
  const samples = await getSamples().catch(() => []);
  const buttons = samples.map((sample) => {
    const { name, file, attribution } = sample;
    const button = html(
      'button',
      {
        type: 'button',
        'aria-label': name,
        'aria-pressed': 'false',
        title: attribution ? `${name}. ${attribution}` : name,
      },
      html('img', { src: `/samples/${file}`, alt: '', loading: 'lazy' }),
    );
    const use = async () => {
      const photo = await readSample(sample, button);
      if (photo) chosen(photo);
    };
    button.addEventListener('click', () => void use());
    return button;
  });
  byId('samples').replaceChildren(...buttons);
  const [first] = samples;
  return async () => (choices === 0 && first && buttons[0] ? readSample(first, buttons[0]) : null);
}

/**
 * @param {{ name: string, file: string }} sample
 * @param {HTMLButtonElement} button
 * @returns {Promise<Photo | null>} null, and a word about it, when it cannot be loaded
 */
async function readSample({ name, file }, button) {
  const choice = ++choices;
  try {
    const answer = await fetch(`/samples/${file}`);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const photo = { blob: await answer.blob(), name, file };
    if (choice !== choices) return null;
    press(button);
    return show(photo);
  } catch {
    byId('photo-note').textContent = `“${name}” cannot be loaded now.`;
    return null;
  }
}

/** @param {HTMLButtonElement | null} pressed */
function press(pressed) {
  for (const button of byId('samples').querySelectorAll('button')) {
    button.setAttribute('aria-pressed', String(button === pressed));
  }
}

/**
 * @param {Blob} blob
 * @param {string} name
 * @returns {Promise<Photo | null>} null, and a word about it, when it is no picture
 */
async function readPhoto(blob, name) {
  const note = byId('photo-note');
  note.textContent = '';
  const choice = ++choices;
  try {
    const photo = { blob: await acceptable(blob), name, file: name };
    if (choice !== choices) return null;
    press(null);
    return show(photo);
  } catch {
    note.textContent = `“${name}” is not a picture that can be read here. Choose a JPEG, PNG or WebP.`;
    return null;
  }
}

/** @param {Blob} blob @throws when it is no picture */
async function acceptable(blob) {
  const bitmap = await createImageBitmap(blob);
  if (TAKEN.has(await typeOf(blob))) return blob;
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext('2d')?.drawImage(bitmap, 0, 0);
  return canvas.convertToBlob({ type: 'image/jpeg', quality: JPEG_QUALITY });
}

/** By its first bytes: names and declared types may be wrong. @param {Blob} blob */
async function typeOf(blob) {
  const head = new Uint8Array(await blob.slice(0, 12).arrayBuffer());
  const text = String.fromCharCode(...head);
  if (head[0] === 0xff && head[1] === 0xd8) return 'image/jpeg';
  if (text.startsWith('\u0089PNG')) return 'image/png';
  return text.startsWith('RIFF') && text.endsWith('WEBP') ? 'image/webp' : blob.type;
}

/** @param {Photo} photo */
function show(photo) {
  const last = preview.src;
  preview.src = URL.createObjectURL(photo.blob);
  preview.alt = photo.name;
  if (last.startsWith('blob:')) URL.revokeObjectURL(last);
  return photo;
}

/** @param {(blob: Blob, name: string) => Promise<void>} read */
function listen(read) {
  const input = /** @type {HTMLInputElement} */ (byId('file'));
  const take = (/** @type {FileList | undefined} */ files) => {
    const file = files?.[0];
    if (file) void read(file, file.name);
    return file !== undefined;
  };
  input.addEventListener('change', () => {
    take(input.files ?? undefined);
    // The same file may be chosen again after it was mended.
    input.value = '';
  });
  const drop = byId('drop');
  for (const type of ['dragenter', 'dragover']) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.add('over');
    });
  }
  document.addEventListener('dragleave', () => drop.classList.remove('over'));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    take(event.dataTransfer?.files);
  });
  document.addEventListener('paste', (event) => {
    if (take(event.clipboardData?.files)) event.preventDefault();
  });
}

/**
 * The middle of a photo in the network's size, as RGB.
 *
 * @param {Blob} photo
 * @param {{ width: number, height: number }} size
 */
export async function pixelsOf(photo, { width, height }) {
  const bitmap = await createImageBitmap(photo);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d');
  if (!context) throw new Error('This browser has no 2D canvas.');
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let pixel = 0; pixel < width * height; pixel++) {
    rgb.set(rgba.subarray(pixel * 4, pixel * 4 + 3), pixel * 3);
  }
  return rgb;
}
