/** A video that is shown only from the first picture that is really its own. */

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { whenFrame } from '@veche/sdk';

interface Props {
  stream: MediaStream;
  /** Pictures before this one belong to somebody else. */
  rtpTimestamp?: number;
  mirrored?: boolean;
  contain?: boolean;
  label: string;
  onShown?: (shown: boolean) => void;
}

export function Video({ stream, rtpTimestamp, mirrored = false, contain = false, label, onShown }: Props) {
  const element = useRef<HTMLVideoElement>(null);
  const [shown, setShown] = useState(false);

  useLayoutEffect(() => {
    const video = element.current;
    if (!video) return;
    video.srcObject = stream;
    // `autoplay` is not heeded by every browser for a source that is set later.
    video.play().catch(() => {});
    setShown(false);
    const stop = whenFrame(video, rtpTimestamp, () => setShown(true));
    return () => {
      stop();
      video.srcObject = null;
    };
  }, [stream]);

  useEffect(() => onShown?.(shown), [shown]);

  return (
    <video
      ref={element}
      class={`video${mirrored ? ' mirrored' : ''}${contain ? ' contain' : ''}`}
      data-shown={shown}
      aria-label={label}
      autoplay
      playsinline
      muted
      disablePictureInPicture
    />
  );
}
