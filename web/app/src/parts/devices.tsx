/** Which microphone, camera and loudspeaker are used, and how loud the microphone is. */

import { useEffect, useRef, useState } from 'preact/hooks';
import { listDevices } from '@veche/sdk';
import { t } from '../i18n';
import { media, sources, speaker } from '../session';

export function Devices() {
  const devices = useDevices();
  const of = (kind: MediaDeviceKind) => devices.filter((device) => device.kind === kind);
  const speakers = 'setSinkId' in HTMLMediaElement.prototype ? of('audiooutput') : [];
  return (
    <div class="devices">
      <Choice
        label={t('device.microphone')}
        testid="microphone-select"
        devices={of('audioinput')}
        value={media.deviceOf('microphone')}
        onChoose={(id) => void media.useDevice('microphone', id)}
      />
      <Level />
      <Choice
        label={t('device.camera')}
        testid="camera-select"
        devices={of('videoinput')}
        value={media.deviceOf('camera')}
        onChoose={(id) => void media.useDevice('camera', id)}
      />
      <Choice
        label={t('device.speaker')}
        testid="speaker-select"
        devices={speakers}
        value={speaker.value || 'default'}
        onChoose={(id) => (speaker.value = id === 'default' ? '' : id)}
      />
    </div>
  );
}

interface ChoiceProps {
  label: string;
  testid: string;
  devices: MediaDeviceInfo[];
  value: string | undefined;
  onChoose: (deviceId: string) => void;
}

function Choice({ label, testid, devices, value, onChoose }: ChoiceProps) {
  if (devices.length === 0) return null;
  return (
    <label class="field">
      <span>{label}</span>
      <select
        data-testid={testid}
        value={value ?? devices[0]?.deviceId}
        onChange={(event) => onChoose(event.currentTarget.value)}
      >
        {devices.map((device) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || t('device.default')}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Moves with the voice, without drawing the page anew. */
export function Level() {
  const { media: track, on } = sources.value.microphone;
  const bar = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!track || !on || typeof AudioContext === 'undefined') return;
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let shown = 0;
    let frame = 0;
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      // From -60 dB (silence) to -10 dB (loud).
      const level = Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-9) + 60) / 50));
      shown = Math.max(level, shown * 0.9);
      bar.current?.style.setProperty('--level', shown.toFixed(3));
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => {
      cancelAnimationFrame(frame);
      bar.current?.style.setProperty('--level', '0');
      void context.close();
    };
  }, [track, on]);
  if (!track) return null;
  return <div class="level" ref={bar} role="img" aria-label={t('device.level')} data-testid="mic-level" />;
}

function useDevices(): MediaDeviceInfo[] {
  const [devices, setDevices] = useState<MediaDeviceInfo[]>([]);
  const { microphone, camera } = sources.value;
  useEffect(() => {
    let current = true;
    const read = () => void listDevices().then((list) => current && setDevices(list));
    read();
    navigator.mediaDevices?.addEventListener?.('devicechange', read);
    return () => {
      current = false;
      navigator.mediaDevices?.removeEventListener?.('devicechange', read);
    };
    // Labels come with the permission, so the list is read again with each new track.
  }, [microphone.media, camera.media]);
  return devices;
}
