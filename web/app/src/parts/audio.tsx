/** Plays every audio slot. Which voice is in which slot is the server's choice, so all of them stay on. */

import { useEffect, useRef } from 'preact/hooks';
import { audioStreams, soundBlocked, speaker } from '../session';

const players = new Set<HTMLAudioElement>();

export function AudioSlots() {
  return (
    <div hidden>
      {audioStreams.value.map(({ mid, stream }) => (
        <Player key={`${mid} ${stream.id}`} stream={stream} />
      ))}
    </div>
  );
}

/** After a click the browser lets sound through. */
export function playSound(): void {
  soundBlocked.value = false;
  for (const player of players) play(player);
}

function Player({ stream }: { stream: MediaStream }) {
  const element = useRef<HTMLAudioElement>(null);
  const sink = speaker.value;
  useEffect(() => {
    const player = element.current;
    if (!player) return;
    player.srcObject = stream;
    players.add(player);
    play(player);
    return () => {
      players.delete(player);
      player.srcObject = null;
    };
  }, [stream]);
  useEffect(() => {
    const player = element.current;
    if (player && 'setSinkId' in player) player.setSinkId(sink).catch(() => {});
  }, [sink]);
  return <audio ref={element} autoplay />;
}

function play(player: HTMLAudioElement): void {
  player.play().catch((error: DOMException) => {
    if (error.name === 'NotAllowedError') soundBlocked.value = true;
  });
}
