// Runs in every page before its own code. Keeps the fake camera small enough for the machine, sends media through
// the UDP proxy where there is one, and notes what people see: which tiles get new pictures, and when.
(() => {
  const settings = window.__e2eSettings ?? {};

  const media = navigator.mediaDevices;
  if (media && settings.camera) {
    const { width, height, frameRate } = settings.camera;
    const ask = media.getUserMedia.bind(media);
    media.getUserMedia = (constraints) => {
      const wish = typeof constraints.video === 'object' ? constraints.video : {};
      const video = constraints.video && { ...wish, width, height, frameRate };
      return ask({ ...constraints, ...(video ? { video } : {}) });
    };
  }

  if (settings.mediaPort) {
    // The only candidate left is the proxy.
    const set = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function (description) {
      const candidate = `a=candidate:1 1 udp 2130706431 ${settings.mediaHost} ${settings.mediaPort} typ host`;
      const sdp = description.sdp
        .split('\r\n')
        .flatMap((line, index, lines) => {
          if (!line.startsWith('a=candidate:')) return [line];
          return lines[index - 1]?.startsWith('a=candidate:') ? [] : [candidate];
        })
        .join('\r\n');
      return set.call(this, { type: description.type, sdp });
    };
  }

  // Every word of the signaling, for the console that a failed test leaves behind.
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...args) {
      super(...args);
      const tell = (what) => console.debug(`${Math.round(performance.now())} ${what}`.slice(0, 400));
      this.addEventListener('message', ({ data }) => tell(`< ${data}`));
      this.addEventListener('close', ({ code, reason }) => tell(`closed ${code} ${reason}`));
      this.send = (data) => {
        tell(`> ${data}`);
        super.send(data);
      };
    }
  };

  /** Pictures by tile: how many, when the last came, and the longest wait since the last `restart`. */
  const seen = new Map();
  const watched = new WeakSet();
  const watch = (video) => {
    const note = () => {
      video.requestVideoFrameCallback(note);
      const tile = video.closest('[data-testid=tile]');
      if (!tile) return;
      const key = keyOf(tile);
      const now = performance.now();
      const entry = seen.get(key) ?? { frames: 0, first: now, last: now, longest: 0 };
      entry.longest = Math.max(entry.longest, now - entry.last);
      entry.frames += 1;
      entry.last = now;
      seen.set(key, entry);
    };
    video.requestVideoFrameCallback(note);
  };
  setInterval(() => {
    for (const video of document.querySelectorAll('video')) {
      if (watched.has(video)) continue;
      watched.add(video);
      watch(video);
    }
  }, 50);

  const keyOf = (tile) => `${tile.dataset.name} ${tile.dataset.kind}`;
  const tileOf = (name, kind) =>
    [...document.querySelectorAll('[data-testid=tile]')].find(
      (tile) => tile.dataset.name === name && tile.dataset.kind === kind,
    );

  /** How much the brightness of the picture varies: about zero for black or grey. */
  const contrast = (video) => {
    const canvas = document.createElement('canvas');
    canvas.width = 32;
    canvas.height = 18;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const values = [];
    for (let at = 0; at < data.length; at += 4) values.push(data[at] + data[at + 1] + data[at + 2]);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  };

  const reports = async () => {
    const all = [];
    (await window.veche?.connection?.getStats())?.forEach((report) => all.push(report));
    return all;
  };

  window.__e2e = {
    /** Forgets the pictures so far: waits are counted from now. */
    restart() {
      const now = performance.now();
      for (const entry of seen.values()) Object.assign(entry, { frames: 0, first: now, last: now, longest: 0 });
    },

    /** The tiles as a person sees them. */
    tiles() {
      const now = performance.now();
      return [...document.querySelectorAll('[data-testid=tile]')].map((tile) => {
        const video = tile.querySelector('video');
        const pictures = seen.get(keyOf(tile));
        const { name, kind, local, speaking, muted, quality, connected, pinned, paused, peer } = tile.dataset;
        return {
          name,
          kind,
          peer,
          local: local === 'true',
          speaking: speaking === 'true',
          muted: muted === 'true',
          connected: connected === 'true',
          pinned: pinned === 'true',
          paused: paused === 'true',
          quality,
          width: tile.clientWidth,
          height: tile.clientHeight,
          hasVideo: video !== null,
          shown: video?.dataset.shown === 'true',
          videoWidth: video?.videoWidth ?? 0,
          frames: pictures?.frames ?? 0,
          sinceLast: pictures ? now - pictures.last : -1,
          first: pictures?.first ?? Infinity,
          longest: pictures ? Math.max(pictures.longest, now - pictures.last) : -1,
          text: tile.innerText,
        };
      });
    },

    contrast(name, kind) {
      const video = tileOf(name, kind)?.querySelector('video');
      return video && video.videoWidth > 0 ? contrast(video) : 0;
    },

    /** What the connection receives of somebody: the reports of the slots that carry their tracks. */
    async received(name, source) {
      const person = window.veche?.participants.find((one) => one.name === name);
      const track = person?.tracks.find((one) => one.source === source);
      if (!track?.slot) return undefined;
      const all = await reports();
      const inbound = all.find((one) => one.type === 'inbound-rtp' && one.mid === track.slot.mid);
      if (!inbound) return undefined;
      const codec = all.find((one) => one.id === inbound.codecId)?.mimeType;
      return { ...inbound, codec };
    },

    /** All reports of a type. */
    async reports(type) {
      return (await reports()).filter((one) => one.type === type);
    },
  };
})();
