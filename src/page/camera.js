// A photo from the camera. Browsers give it to pages from localhost or over HTTPS only.
import { byId } from './dom.js';

/** @param {(photo: Blob) => void} taken */
export function offerCamera(taken) {
  if (!navigator.mediaDevices?.getUserMedia) return;
  const dialog = /** @type {HTMLDialogElement} */ (byId('camera-dialog'));
  const video = /** @type {HTMLVideoElement} */ (byId('camera-picture'));
  const button = /** @type {HTMLButtonElement} */ (byId('camera'));
  const takeButton = /** @type {HTMLButtonElement} */ (byId('camera-take'));
  button.hidden = false;
  const begin = async () => {
    byId('photo-note').textContent = '';
    // A second click would open a second stream, and a picture has no size before the first frame.
    button.disabled = true;
    takeButton.disabled = true;
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: 'environment' },
      });
      dialog.showModal();
    } catch {
      byId('photo-note').textContent =
        'The browser gives no camera to this page. Allow it, or choose a file.';
    } finally {
      button.disabled = false;
    }
  };
  video.addEventListener('loadeddata', () => {
    takeButton.disabled = false;
  });
  button.addEventListener('click', () => void begin());
  dialog.addEventListener('close', () => {
    const stream = /** @type {MediaStream | null} */ (video.srcObject);
    for (const track of stream?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  });
  byId('camera-close').addEventListener('click', () => dialog.close());
  const take = async () => {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext('2d')?.drawImage(video, 0, 0);
    taken(await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.92 }));
    dialog.close();
  };
  takeButton.addEventListener('click', () => void take());
}
