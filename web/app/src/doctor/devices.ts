/** Camera and microphone: asked for, and looked at for what comes from them. */

import { signal } from '@preact/signals';
import { classify, listDevices } from '@veche/sdk';
import type { CameraFacts, DeviceFacts, MicrophoneFacts } from './facts';

/** How long the browser's question may stay open. */
const QUESTION_MS = 60_000;
const PICTURE_MS = 5_000;
const LISTEN_MS = 3_000;

/** The picture of the camera, while it is looked at. */
export const picture = signal<MediaStream | undefined>(undefined);
/** A picture that stays, when the camera is off again. */
export const still = signal<string | undefined>(undefined);
/** How loud it is now, from 0 to 1. */
export const level = signal(0);

/** A device that was opened, or why not. */
export type Opened = { track: MediaStreamTrack } | { problem: NonNullable<DeviceFacts['problem']> };

/** Asks for both in one question; where that fails, for each alone, to see which it is. */
export async function openDevices(): Promise<{ camera: Opened; microphone: Opened }> {
  const both = await ask({ audio: true, video: true });
  if (both instanceof MediaStream) {
    const track = (tracks: MediaStreamTrack[]): Opened => (tracks[0] ? { track: tracks[0] } : { problem: 'missing' });
    return { camera: track(both.getVideoTracks()), microphone: track(both.getAudioTracks()) };
  }
  // Who has not answered one question shall not be asked two more.
  if (both === 'unanswered' || both === 'insecure') return { camera: { problem: both }, microphone: { problem: both } };
  const alone = async (constraints: MediaStreamConstraints): Promise<Opened> => {
    const one = await ask(constraints);
    const track = one instanceof MediaStream ? one.getTracks()[0] : undefined;
    return track ? { track } : { problem: one instanceof MediaStream ? 'missing' : one };
  };
  return { camera: await alone({ video: true }), microphone: await alone({ audio: true }) };
}

async function ask(constraints: MediaStreamConstraints): Promise<MediaStream | NonNullable<DeviceFacts['problem']>> {
  if (!navigator.mediaDevices?.getUserMedia) return globalThis.isSecureContext ? 'other' : 'insecure';
  const question = navigator.mediaDevices.getUserMedia(constraints);
  const late = new Promise<'unanswered'>((resolve) => setTimeout(() => resolve('unanswered'), QUESTION_MS));
  try {
    const answer = await Promise.race([question, late]);
    // A late answer must not leave a camera on that nobody looks at.
    if (answer === 'unanswered') void question.then((stream) => stop(stream.getTracks()), () => {});
    return answer;
  } catch (error) {
    return classify(error);
  }
}

/** Waits for a picture, and lets go of the camera. */
export async function lookAtCamera(opened: Opened): Promise<CameraFacts> {
  const devices = await count('videoinput');
  if ('problem' in opened) return { problem: opened.problem, devices };
  const { track } = opened;
  const stream = new MediaStream([track]);
  picture.value = stream;
  const video = document.createElement('video');
  Object.assign(video, { muted: true, playsInline: true, srcObject: stream });
  const moving = await firstPicture(video);
  const facts: CameraFacts = { label: track.label, devices, moving, width: video.videoWidth, height: video.videoHeight };
  if (moving) {
    facts.brightness = brightness(video);
    still.value = snapshot(video);
  }
  picture.value = undefined;
  video.srcObject = null;
  stop([track]);
  return facts;
}

/** Two seconds of pictures, so that cameras that begin in the dark have time to open their eye. */
async function firstPicture(video: HTMLVideoElement): Promise<boolean> {
  const end = performance.now() + PICTURE_MS;
  video.play().catch(() => {});
  while (video.videoWidth === 0 || video.currentTime === 0) {
    if (performance.now() > end) return false;
    await sleep(50);
  }
  await sleep(2_000);
  return true;
}

function brightness(video: HTMLVideoElement): number {
  const context = draw(video, 16, 12);
  if (!context) return 255;
  const { data } = context.getImageData(0, 0, 16, 12);
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) sum += (data[at] ?? 0) + (data[at + 1] ?? 0) + (data[at + 2] ?? 0);
  return sum / (3 * 16 * 12);
}

function snapshot(video: HTMLVideoElement): string | undefined {
  const width = Math.min(480, video.videoWidth);
  const height = Math.round((video.videoHeight / video.videoWidth) * width);
  return draw(video, width, height)?.canvas.toDataURL('image/jpeg', 0.8);
}

function draw(video: HTMLVideoElement, width: number, height: number): CanvasRenderingContext2D | null {
  const context = Object.assign(document.createElement('canvas'), { width, height }).getContext('2d', { willReadFrequently: true });
  context?.drawImage(video, 0, 0, width, height);
  return context;
}

/** Listens for a while, and lets go of the microphone. */
export async function listen(opened: Opened): Promise<MicrophoneFacts> {
  const devices = await count('audioinput');
  if ('problem' in opened) return { problem: opened.problem, devices };
  const { track } = opened;
  const facts: MicrophoneFacts = { label: track.label, devices };
  if (typeof AudioContext !== 'undefined') {
    const context = new AudioContext();
    await Promise.race([context.resume(), sleep(1_000)]);
    if (context.state === 'running') facts.loudestDb = await loudest(context, track);
    await context.close();
  }
  level.value = 0;
  stop([track]);
  return facts;
}

async function loudest(context: AudioContext, track: MediaStreamTrack): Promise<number> {
  const analyser = context.createAnalyser();
  analyser.fftSize = 2048;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const end = performance.now() + LISTEN_MS;
  let most = 0;
  while (performance.now() < end) {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    most = Math.max(most, power);
    // From -60 dB (silence) to -10 dB (loud).
    level.value = Math.min(1, Math.max(0, (decibels(power) + 60) / 50));
    await sleep(50);
  }
  return decibels(most);
}

/** Below full scale; never less than -100, which is digital silence. */
function decibels(power: number): number {
  return 10 * Math.log10(power + 1e-10);
}

async function count(kind: MediaDeviceKind): Promise<number> {
  return (await listDevices().catch(() => [])).filter((device) => device.kind === kind).length;
}

function stop(tracks: MediaStreamTrack[]): void {
  for (const track of tracks) track.stop();
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
