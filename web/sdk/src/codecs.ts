/** Which codecs are offered, in which order, and how cameras and screens are encoded. */

import type { TrackSource } from './protocol';

export type VideoCodec = 'vp8' | 'h264' | 'vp9' | 'av1';

type Capability = RTCRtpCapabilities['codecs'][number];

const VIDEO_ORDER = ['video/vp8', 'video/h264', 'video/vp9', 'video/av1', 'video/rtx'];
/** Not RED where frames are encrypted end to end: the server puts several into one payload. */
const AUDIO_ORDER = ['audio/opus', 'audio/red'];

/**
 * The codecs worth offering, the preferred first: an offer with every codec a browser knows is three times as large
 * (219 KB for 50 sections). Empty means: leave it to the browser.
 */
export function chooseCodecs(
  kind: 'audio' | 'video',
  capabilities: readonly Capability[],
  preferred?: VideoCodec,
): Capability[] {
  const order = kind === 'audio' ? AUDIO_ORDER : VIDEO_ORDER;
  const rank = (codec: Capability) => {
    const type = codec.mimeType.toLowerCase();
    return type === `video/${preferred}` ? -1 : order.indexOf(type);
  };
  const chosen = capabilities.filter((codec) => order.includes(codec.mimeType.toLowerCase()) && isUsual(codec));
  if (!chosen.some((codec) => !/\/(rtx|red)$/i.test(codec.mimeType))) return [];
  return chosen.sort((a, b) => rank(a) - rank(b));
}

/** One profile per codec, the one that everybody decodes. */
function isUsual(codec: Capability): boolean {
  const parameters = codec.sdpFmtpLine ?? '';
  switch (codec.mimeType.toLowerCase()) {
    case 'video/h264':
      return /packetization-mode=1/.test(parameters) && /profile-level-id=42(e0|00|c0)/i.test(parameters);
    case 'video/vp9':
      return !/profile-id=[1-9]/.test(parameters);
    case 'video/av1':
      return !/profile=[1-9]/.test(parameters);
    default:
      return true;
  }
}

/** Sets what `chooseCodecs` chose; a browser that refuses keeps its own order. */
export function preferCodecs(
  transceiver: RTCRtpTransceiver,
  kind: 'audio' | 'video',
  direction: 'send' | 'receive',
  preferred?: VideoCodec,
): void {
  const side = direction === 'send' ? globalThis.RTCRtpSender : globalThis.RTCRtpReceiver;
  const capabilities = side?.getCapabilities?.(kind)?.codecs ?? [];
  const codecs = chooseCodecs(kind, capabilities, preferred);
  if (codecs.length === 0) return;
  try {
    transceiver.setCodecPreferences(codecs);
  } catch (error) {
    console.warn('codec preferences were refused', error);
  }
}

/** How video is published. */
export interface PublishOptions {
  /** Prefers a codec. */
  codec?: VideoCodec;
  /** Three sizes of the camera picture, so that each receiver gets the one that suits it. `undefined`: where it suits. */
  simulcast?: boolean;
  /**
   * Layers within the camera's streams, where the browser can (Chromium; others send streams without them). More than one
   * size in a stream, for VP9 and AV1 only, takes the place of simulcast.
   */
  svc?: ScalabilityMode;
}

/** `L3T3_KEY`: three sizes and three frame rates in one stream, where the sizes depend on each other at key frames only. */
export type ScalabilityMode = `L1T${1 | 2 | 3}` | `L${2 | 3}T${1 | 2 | 3}${'' | '_KEY'}`;

/** Whether this is the name of a mode. */
export function isScalabilityMode(name: string): name is ScalabilityMode {
  return /^(L1T[123]|L[23]T[123](_KEY)?)$/.test(name);
}

type Encoding = RTCRtpEncodingParameters & { scalabilityMode?: ScalabilityMode };

/** How a source is sent. */
export function encodingsFor(source: TrackSource, options: PublishOptions = {}): RTCRtpEncodingParameters[] {
  switch (source) {
    case 'camera':
      return cameraEncodings(options);
    case 'screen':
      return [{ maxBitrate: 2_500_000, maxFramerate: 15 }];
    case 'screen-audio':
      return [{ maxBitrate: 96_000 }];
    case 'microphone':
      return [{ maxBitrate: 40_000 }];
  }
}

function cameraEncodings({ codec, simulcast, svc }: PublishOptions): Encoding[] {
  const sizesInside = svc !== undefined && !svc.startsWith('L1');
  // Chromium takes any mode for any codec, and sends two frame rates and one size where the codec has no sizes.
  const possible = svc !== undefined && (!sizesInside || codec === 'vp9' || codec === 'av1');
  const layered: Pick<Encoding, 'scalabilityMode'> = possible ? { scalabilityMode: svc } : {};
  if ((possible && sizesInside) || !(simulcast ?? simulcastSuits(codec))) return [{ maxBitrate: 1_700_000, ...layered }];
  return [
    { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000, ...layered },
    { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000, ...layered },
    { rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 1_700_000, ...layered },
  ];
}

/** Whether sending three sizes at once is sensible: three encoders of VP9 or AV1 are too much for a small machine. */
function simulcastSuits(codec: VideoCodec | undefined): boolean {
  return codec === undefined || codec === 'vp8' || codec === 'h264';
}
